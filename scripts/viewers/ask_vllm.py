"""`python -m scripts.viewers.ask_vllm JOB.json` in vLLM's environment (.venv/vllm): ask a checkpoint by messages.

In: {model: the folder, conversations, rendered: the same as text, max_tokens, context: tokens}. Out: `{output}` with
vLLM's version and one entry per conversation, in their order: the prompt that vLLM made of it, whether that is the
rendered text to the token, the answer, and whether it ended by itself.

Greedy: the folder alone does not make vLLM so, because vLLM reads no `do_sample`. Eager: no compiler is needed.
"""

import sys

import vllm

from scripts.common.io import read_json, write_json


def main() -> None:
    """Load the folder, render with its own chat template, answer."""
    job = read_json(sys.argv[1])
    model = vllm.LLM(
        model=job["model"],
        trust_remote_code=False,
        load_format="safetensors",
        max_model_len=job["context"],
        enforce_eager=True,
    )
    tokenizer = model.get_tokenizer()
    greedy = vllm.SamplingParams(temperature=0, max_tokens=job["max_tokens"])
    answers = []
    made = model.chat(job["conversations"], greedy, use_tqdm=False)
    for request, rendered in zip(made, job["rendered"], strict=True):
        answer = request.outputs[0]
        answers.append(
            {
                "prompt": tokenizer.decode(request.prompt_token_ids),
                "as_trained": request.prompt_token_ids == tokenizer.encode(rendered, add_special_tokens=False),
                "text": answer.text,
                "stopped": answer.finish_reason == "stop",
            }
        )
    write_json(job["output"], {"version": vllm.__version__, "answers": answers})


if __name__ == "__main__":
    main()
