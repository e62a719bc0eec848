"""Write the Modelfile that Ollama creates a model from: template, system prompt, stop token, sampling, context,
license.

In: the chat contract, the GGUF (does it request a BOS token?). Out: the Modelfile, which refers to its GGUF as
./model.gguf.

Ollama silently replaces a template that it does not know with `{{ .Prompt }}` (ollama/ollama#8982), so TEMPLATE and
stop are always given.
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


def modelfile(contract: ChatContract, bos: str, context: int, license_text: str) -> str:
    """Return the text of the Modelfile. `bos`: what Ollama itself adds before a prompt; `context`: length in tokens.

    Raises GradusError if Ollama's parser would not read the system prompt and template as written, or if the template
    cannot be expressed in Ollama's template language.
    """
    template = go_template(find_wrappers(contract, bos))
    values = [
        ("FROM", "./model.gguf"),
        ("TEMPLATE", template),
        *([("SYSTEM", contract.system_prompt)] if contract.system_prompt else []),
        ("PARAMETER stop", contract.end_of_turn),
        ("PARAMETER temperature", "0"),
        ("PARAMETER repeat_penalty", "1"),  # Ollama's default, 1.1, changes greedy answers: check_serving measures it
        ("PARAMETER num_ctx", str(context)),
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
            handle.write(modelfile(pinned, begins, job.params.context, job.params.license))
