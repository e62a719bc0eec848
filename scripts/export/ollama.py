"""Make the folder that Ollama takes: the GGUF and its Modelfile.

In: the quantized GGUF, the chat contract, the base's tokenizer. Out: a folder with model.gguf (a hard link where
the file system allows it) and Modelfile: template, system prompt, stop token and sampling, all from the contract.

Ollama turns a template that it does not know into `{{ .Prompt }}` in silence, so TEMPLATE and stop are always given.
"""

import os
import shutil
from pathlib import Path

from jinja2.sandbox import ImmutableSandboxedEnvironment

from scripts.common.chat import ChatContract, read_contract
from scripts.common.errors import GradusError
from scripts.common.io import atomic_path
from scripts.common.logs import logging_to

ROLES = ("system", "user", "assistant")


def render(template: str, messages: list[dict[str, str]], generate: bool) -> str:
    """Return the conversation as the chat template writes it, in a sandbox, with the options that transformers uses."""
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(template).render(messages=messages, add_generation_prompt=generate)


def find_wrappers(template: str) -> dict[str, tuple[str, str]]:
    """Return what the template writes before and after each role's text, and before an answer under "answer".

    Raises GradusError for a template that is more than such a wrapping of each message in turn:
    it has no faithful form in Ollama's template language.
    """
    marks = {role: f"\x01{role}\x01" for role in ROLES}
    talk = [{"role": role, "content": marks[role]} for role in ROLES]
    wrappers = {}
    start = ""
    for number, role in enumerate(ROLES, 1):
        so_far = render(template, talk[:number], generate=False)
        if not so_far.startswith(start) or marks[role] not in so_far:
            raise GradusError(
                f"the chat template does more than wrap messages (at the {role}'s); Ollama cannot follow it"
            )
        before, _, after = so_far[len(start) :].partition(marks[role])
        wrappers[role] = (before, after)
        start = so_far
    asked = render(template, talk[:2], generate=True)
    wrappers["answer"] = (asked[len(render(template, talk[:2], generate=False)) :], "")
    trial = [*talk, {"role": "user", "content": ' a "b" {{c}} '}, {"role": "assistant", "content": "d"}, talk[1]]
    expected = "".join(wrappers[m["role"]][0] + m["content"] + wrappers[m["role"]][1] for m in trial)
    if render(template, trial, generate=True) != expected + wrappers["answer"][0]:
        raise GradusError("the chat template treats later turns otherwise than first ones; Ollama cannot follow it")
    return wrappers


def go_template(wrappers: dict[str, tuple[str, str]]) -> str:
    """Return Ollama's (Go) template for the wrappers: every message in turn, then the start of an answer."""

    def literal(text: str) -> str:
        return text.replace("{{", '{{ "{{" }}')

    parts = ["{{ range .Messages }}"]
    for number, role in enumerate(ROLES):
        before, after = wrappers[role]
        parts.append(f'{{{{ {"if" if not number else "else if"} eq .Role "{role}" }}}}')
        parts.append(f"{literal(before)}{{{{ .Content }}}}{literal(after)}")
    parts.append("{{ end }}{{ end }}" + literal(wrappers["answer"][0]))
    return "".join(parts)


def quoted(text: str) -> str:
    """Return a text as a Modelfile value; raise GradusError if no quoting can hold it."""
    if '"""' in text or text.endswith('"'):
        raise GradusError(
            'a Modelfile cannot hold a system prompt with """ in it or " at its end; reword chat.system_prompt'
        )
    return f'"""{text}"""'


def modelfile(contract: ChatContract, gguf: str, context: int) -> str:
    """Return the Modelfile's text for a GGUF beside it; `context` is the length in tokens to serve with."""
    lines = [
        f"FROM ./{gguf}",
        f"TEMPLATE {quoted(go_template(find_wrappers(contract.chat_template)))}",
        *([f"SYSTEM {quoted(contract.system_prompt)}"] if contract.system_prompt else []),
        f'PARAMETER stop "{contract.end_of_turn}"',
        "PARAMETER temperature 0",
        f"PARAMETER num_ctx {context}",
    ]
    return "\n".join(lines) + "\n"


def make_folder(gguf: str | Path, contract: ChatContract, context: int, output: str | Path) -> None:
    """Write the folder for `ollama create`."""
    with atomic_path(output) as part:
        part.mkdir()
        try:
            os.link(gguf, part / "model.gguf")
        except OSError:  # another file system
            shutil.copyfile(gguf, part / "model.gguf")
        (part / "Modelfile").write_text(modelfile(contract, "model.gguf", context), encoding="utf-8")


if "snakemake" in globals():
    job = globals()["snakemake"]
    with logging_to(job.log[0]):
        make_folder(job.input.gguf, read_contract(job.input.contract), job.params.context, job.output.folder)
