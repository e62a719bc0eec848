"""Write the Modelfile that Ollama creates a model from: template, system prompt, stop token, sampling, context, length
of answers, license.

In: the chat contract, the GGUF (does it request a BOS token?). Out: the Modelfile, which refers to its GGUF as
./model.gguf.

Without TEMPLATE, Ollama takes the template that is nearest by edit distance among those it knows, or `{{ .Prompt }}`
(ollama/ollama#8982), so TEMPLATE and stop are always given. There is no RENDERER and no MESSAGE: both would change the
trained prompt.
"""

from scripts.common.chat import ChatContract, read_contract
from scripts.common.errors import GradusError
from scripts.common.gguf_info import require_contract
from scripts.common.io import atomic_open
from scripts.common.isolate import run_isolated
from scripts.common.job import find_job
from scripts.common.logs import logging_to
from scripts.common.modelfile_parser import read_modelfile
from scripts.export.go_template import find_wrappers, go_template

LEAST_CONTEXT = 2048  # tokens; Ollama cuts a longer prompt without a word, the system prompt first
# Ollama ignores TEMPLATE if the GGUF's own template can do more; it searches the text for words (`Capabilities` in its
# server package). "think" stands for `<think>`, `enable_thinking` and the like.
CAN_DO_MORE = ("tools", "tool_call", "think")


def needs_parser(chat_template: str) -> bool:
    """Return whether Ollama takes the GGUF's template instead of TEMPLATE, unless the Modelfile names a parser."""
    return any(word in chat_template for word in CAN_DO_MORE)


def modelfile(contract: ChatContract, bos: str, context: int, max_tokens: int, license_text: str) -> str:
    """Return the text of the Modelfile.

    `bos`: what Ollama itself adds before a prompt. `context`: the length of trained rows, in tokens. `max_tokens`: the
    length of an answer in the evaluation.

    Raises GradusError if Ollama's parser would not read the system prompt and template as written, or if the template
    cannot be expressed in Ollama's template language.
    """
    template = go_template(find_wrappers(contract, bos))
    values = [
        ("FROM", "./model.gguf"),
        ("TEMPLATE", template),
        *([("PARSER", "passthrough")] if needs_parser(contract.chat_template) else []),
        *([("SYSTEM", contract.system_prompt)] if contract.system_prompt else []),
        ("PARAMETER stop", contract.end_of_turn),
        ("PARAMETER temperature", "0"),
        ("PARAMETER repeat_penalty", "1"),  # before v0.32.10 the default was 1.1, which changes greedy answers
        ("PARAMETER num_ctx", str(max(context, LEAST_CONTEXT))),
        ("PARAMETER num_predict", str(max_tokens)),  # without it, an answer may take 10 times the context
        ("LICENSE", license_text),
    ]
    quoted = {"TEMPLATE", "SYSTEM", "PARAMETER stop", "LICENSE"}
    lines = [f'{name} """{value}"""' if name in quoted else f"{name} {value}" for name, value in values]
    text = "\n".join(lines) + "\n"
    try:
        read = read_modelfile(text)
    except ValueError as error:
        read = [("", str(error))]
    if read != [(name.lower() if name.isupper() else f"parameter {name.split()[1]}", value) for name, value in values]:
        raise GradusError(
            "chat.system_prompt: a Modelfile cannot hold it as it is. Ollama ends a text at three double quotes at the "
            "end of a line and drops characters that are not printable (no-break spaces, joined emoji); reword it."
        )
    return text


def vocabulary_adds_bos(gguf: str) -> bool:
    """Return whether llama.cpp adds a BOS token to the start of texts."""
    from scripts.common.llama_vocabulary import adds_bos

    return adds_bos(gguf)


if job := find_job(globals()):
    with logging_to(job.log[0]):
        pinned = read_contract(job.input.contract)
        require_contract(job.input.gguf, pinned)
        begins = pinned.bos_token if run_isolated("asking for BOS", vocabulary_adds_bos, job.input.gguf) else ""
        with atomic_open(job.output.modelfile) as handle:
            handle.write(modelfile(pinned, begins, job.params.context, job.params.max_tokens, job.params.license))
