"""Create the folder for Ollama: the GGUF, its Modelfile, and a README with the commands.

In: the quantized GGUF, the Modelfile, the metrics and the comparison of the models, the JSON schema of the answers, if
any. Out: a folder with model.gguf (a hard
link if the file system supports it).
"""

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scripts.common.io import atomic_path, read_json
from scripts.common.job import find_job
from scripts.common.logs import logging_to
from scripts.common.strict_json import read_schema
from scripts.common.verdict import verdict

README = """# {run}

{description}

    ollama create {run} -f Modelfile
    ollama run {run} "…"

Run both commands in this folder. The first one copies `model.gguf` into Ollama's own store under the name `{run}`; the
second one asks the model a question.

{verdict}

`Modelfile` sets the template, system prompt, stop token, greedy sampling and a context of the trained length. Ollama
has its own template language; `{fidelity}` has the check that its template writes the same prompts as in training, byte
for byte.
"""

SCHEMA = """
## Only JSON that satisfies the schema

A Modelfile cannot hold a schema; each request does, in `format`. `request.json` is such a request, with the schema of
the run:

    curl http://localhost:11434/api/chat -d @request.json

Ollama makes a grammar of the schema, as llama.cpp does, and decodes only what the grammar allows. Keys come in the
order of the schema, since the Modelfile has a TEMPLATE. White space between them is free, so parse the answer; do not
compare texts. With the OpenAI API (`/v1`), the schema goes into `response_format`. If `models` in the config has an
entry with `constrained: schema`, the report shows what this changes.
"""


def link(source: str | Path, target: Path) -> None:
    """Hard-link a file, or copy it if the file system does not support links."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def request(run: str, schema: Any) -> dict[str, Any]:
    """Return a request to Ollama's API for an answer that satisfies the schema."""
    message = {"role": "user", "content": "…"}
    return {"model": run, "messages": [message], "stream": False, "format": schema}


def make_folder(
    gguf: str | Path, modelfile: str | Path, readme: str, output: str | Path, example: Mapping[str, Any] | None = None
) -> None:
    """Write the folder for `ollama create`; `example`: a request to its API."""
    with atomic_path(output) as part:
        part.mkdir()
        link(gguf, part / "model.gguf")
        shutil.copyfile(modelfile, part / "Modelfile")
        (part / "README.md").write_text(readme, encoding="utf-8")
        if example:
            # not by write_json, which sorts keys: their order is that of the answer
            (part / "request.json").write_text(json.dumps(example, indent=2, ensure_ascii=False), encoding="utf-8")


if job := find_job(globals()):
    with logging_to(job.log[0]):
        about = job.params.about
        schema = read_schema(job.input.schema) if job.input.get("schema") else None
        said = verdict(
            job.params.models, read_json(job.input.metrics), read_json(job.input.comparison), job.params.splits
        )
        readme = README.format(**about, verdict=said) + (SCHEMA if schema else "")
        example = request(about["run"], schema) if schema else None
        make_folder(job.input.gguf, job.input.modelfile, readme, job.output.folder, example)
