"""Create the folder for Ollama: the GGUF, its Modelfile, and a README with the commands.

In: the quantized GGUF, the Modelfile. Out: a folder with model.gguf (a hard link if the file system supports it).
"""

import os
import shutil
from pathlib import Path

from scripts.common.io import atomic_path
from scripts.common.job import find_job
from scripts.common.logs import logging_to

README = """# {run}

{description}

    ollama create {run} -f Modelfile
    ollama run {run} "…"

Run both commands in this folder. The first one copies `model.gguf` into Ollama's own store under the name `{run}`; the
second one asks the model a question.

`Modelfile` sets the template, system prompt, stop token, greedy sampling and a context of the trained length. Ollama
has its own template language; `{fidelity}` has the check that its template writes the same prompts as in training, byte
for byte.
"""


def link(source: str | Path, target: Path) -> None:
    """Hard-link a file, or copy it if the file system does not support links."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def make_folder(gguf: str | Path, modelfile: str | Path, readme: str, output: str | Path) -> None:
    """Write the folder for `ollama create`."""
    with atomic_path(output) as part:
        part.mkdir()
        link(gguf, part / "model.gguf")
        shutil.copyfile(modelfile, part / "Modelfile")
        (part / "README.md").write_text(readme, encoding="utf-8")


if job := find_job(globals()):
    with logging_to(job.log[0]):
        make_folder(job.input.gguf, job.input.modelfile, README.format(**job.params.about), job.output.folder)
