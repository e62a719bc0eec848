"""Pin how prompts are built: the config's system prompt and the base's own chat template.

In: the base's tokenizer, the system prompt. Out: the chat contract.
"""

from pathlib import Path

from scripts.common.chat import ChatContract, write_contract
from scripts.common.errors import GradusError
from scripts.common.io import read_json
from scripts.common.job import find_job
from scripts.common.logs import logging_to


def make_contract(tokenizer: str | Path, system_prompt: str) -> ChatContract:
    """Return the contract for a folder that prepare_tokenizer wrote.

    Raises GradusError if the system prompt contains one of the model's control tokens, or if the template cannot render
    the conversations that will be used.
    """
    folder = Path(tokenizer)
    config = read_json(folder / "tokenizer_config.json")
    vocabulary = {token["content"]: token["id"] for token in read_json(folder / "tokenizer.json")["added_tokens"]}
    for token in vocabulary:
        if token.strip() and token in system_prompt:
            raise GradusError(f"chat.system_prompt contains {token!r}, a control token of the base model; remove it")
    template = (folder / "chat_template.jinja").read_text(encoding="utf-8")
    end, pad = config["eos_token"], config["pad_token"]
    bos = config.get("bos_token") or ""
    contract = ChatContract(system_prompt.strip(), template, end, vocabulary[end], pad, vocabulary[pad], bos)
    try_out(contract)
    return contract


def try_out(contract: ChatContract) -> None:
    """Raise GradusError unless the template's output contains the system prompt and the request unchanged."""
    asked = contract.messages("a request")
    try:
        text = contract.template.render(asked)
    except GradusError as error:
        hint = "; if the base supports no system prompt, set chat.system_prompt: ''" if contract.system_prompt else ""
        raise GradusError(f"base_model: {error}{hint}") from None
    for message in asked:
        if message["content"] not in text:
            raise GradusError(
                f"base_model: the chat template omits the {message['role']} message ({message['content']!r}); "
                "the model would be trained without it. Use an instruct model whose template includes all messages."
            )


if job := find_job(globals()):
    with logging_to(job.log[0]):
        write_contract(job.output.contract, make_contract(job.input.tokenizer, job.params.system_prompt))
