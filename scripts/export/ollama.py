"""Create the folder for Ollama: the GGUF, its Modelfile, and a README with the commands.

In: the quantized GGUF, the Modelfile, the verdict, the JSON schema of the answers, if any. Out: a folder with
model.gguf (a hard link if the file system supports it).
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
from scripts.common.modelfile_parser import read_modelfile
from scripts.common.strict_json import read_schema

README = """# {run}

{description}

    ollama create {run} -f Modelfile
    ollama run {run} "…"

Run both commands in this folder. The first one copies `model.gguf` into Ollama's own store under the name `{run}`; the
second one asks the model: write your request in place of `…`, here and below.{version}

{verdict}

`Modelfile` sets the template, system prompt, stop token, greedy sampling, a context of {num_ctx} tokens and, as in the
evaluation, answers of at most {num_predict} tokens. Ollama has its own template language; `{fidelity}` has the check
that its template writes the same prompts as in training, byte for byte. Answers need not be the same: Ollama computes
in another order, and where two tokens are nearly equally likely it may choose the other one. In the project that made
this folder, `.venv/bin/snakemake --cores 1 -- deploy` (of another run than the default one, with its `--configfile`
before the `--`) creates the model, compares the prompts, and counts the answers that are the same.

- A request that does not fit into the context with its answer is cut silently, the system prompt first.
- A system message in a request replaces the system prompt that the model was trained with.
- An answer that reached the limit ends with `"done_reason": "length"`; `"options": {{"num_predict": 500}}` in a request
  raises the limit.

## From a script

    ollama run --nowordwrap {run} "…"

Without `--nowordwrap`, Ollama writes escape codes into answers of more than 75 columns, in a pipe, too. Over HTTP:

    curl http://localhost:11434/api/chat \\
        -d '{{"model": "{run}", "stream": false, "messages": [{{"role": "user", "content": "…"}}]}}'

The OpenAI API (`/v1`) ignores the Modelfile's temperature and samples at 1, unless a request says otherwise. Always
send `temperature`:

    curl http://localhost:11434/v1/chat/completions -H "Content-Type: application/json" \\
        -d '{{"model": "{run}", "temperature": 0, "messages": [{{"role": "user", "content": "…"}}]}}'
"""

NEEDS_PARSER = """

**Ollama 0.12 or newer is needed.** The base's own template mentions tools or thinking. Ollama takes such a template
instead of the Modelfile's unless the Modelfile says `PARSER passthrough`, which older versions do not know."""

SCHEMA = """
## Only JSON that satisfies the schema

A Modelfile cannot hold a schema; each request does, in `format` (Ollama 0.5 or newer). `request.json` is such a
request, with the schema of the run:

    curl http://localhost:11434/api/chat -d @request.json

Ollama makes a grammar of the schema, as llama.cpp does, and decodes only what the grammar allows. Keys come in the
order of the schema, since the Modelfile has a TEMPLATE. White space between them is free, so parse the answer; do not
compare texts. With the OpenAI API (`/v1`), the schema goes into `response_format`:

    "temperature": 0, "response_format": {"type": "json_schema", "json_schema": {"name": "answer", "schema": …}}

If `models` in the config has an entry with `constrained: schema`, the report shows what this changes.
"""


OWN_ORDER = """
## Why there is no request with a schema

The model writes the keys in the order of the text (`data.key_order: row`). Ollama's grammar would force the schema's
order, which it never saw. So ask without `format`, and check each answer against the schema.
"""


def schema_of(path: str | None, key_order: str) -> Any:
    """Return the schema that requests can hold; None without one, and if the model learned the rows' own order of keys
    (`data.key_order: row`): Ollama's grammar would force the schema's order, which it never saw.
    """
    return read_schema(path) if path and key_order != "row" else None


def link(source: str | Path, target: Path) -> None:
    """Hard-link a file, or copy it if the file system does not support links."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def describe(about: Mapping[str, Any], modelfile: str, said: str, more: str = "") -> str:
    """Return the text of the README.

    `about`: run, description, fidelity; `said`: the verdict; `more`: a section on the schema that answers have.
    """
    commands = dict(read_modelfile(modelfile))
    version = NEEDS_PARSER if "parser" in commands else ""
    limits = {name: commands[f"parameter {name}"] for name in ("num_ctx", "num_predict")}
    return README.format(**about, **limits, verdict=said, version=version) + more


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
        given = job.input.get("schema")
        schema = schema_of(given, job.params.key_order)
        said = read_json(job.input.verdict)["sentence"]
        modelfile = Path(job.input.modelfile).read_text(encoding="utf-8")
        readme = describe(about, modelfile, said, SCHEMA if schema else OWN_ORDER if given else "")
        example = request(about["run"], schema) if schema else None
        make_folder(job.input.gguf, job.input.modelfile, readme, job.output.folder, example)
