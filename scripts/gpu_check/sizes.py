"""Trainings with the shapes of real models: peak memory against the estimate, and tokens a second.

`python -m scripts.gpu_check.sizes JOB.json`. The weights are random: memory and speed do not depend on them.
"""

import shutil
import sys
import time
from pathlib import Path
from typing import Any

from scripts.common.device import choose_device
from scripts.gpu_check.findings import Findings, run_job
from scripts.gpu_check.shapes import write_inputs
from scripts.gpu_check.training import GIB, estimated, measure, settings
from scripts.train.estimate import free_memory

# weights, checkpointing; `nf4` has the memory and speed of `bf16`, because its weights are expanded
KINDS = (("nf4-packed", True), ("nf4-packed", False), ("bf16", False))


def check(job: dict[str, Any], findings: Findings) -> None:
    """Train a few `steps` with one `shape`. The rest of `job`: as for scripts/gpu_check/training.py."""
    device = choose_device("cpu" if job["device"] == "cpu" else "auto")
    shape, output = job["shape"], Path(job["output"])
    with findings.trying(shape):
        began = time.monotonic()
        write_inputs(output / "inputs", shape, job["steps"], job["pack"] // job["tokens"], job["tokens"], device)
        findings.add(f"{shape}, checkpoint", None, f"random weights written in {time.monotonic() - began:.0f} s")
        given = {
            "base": str(output / "inputs" / "base"),
            "contract": str(output / "inputs" / "contract.json"),
            "valid": str(output / "inputs" / "valid.jsonl"),
            "rows": str(output / "inputs" / "rows.jsonl"),
            "schedule": {"first": job["steps"]},
            "phase": "first",
            "tokens": job["tokens"],
        }
        for weights, checkpointing in KINDS:
            name = f"{shape} {weights}" + (" with checkpointing" if checkpointing else "")
            train = settings(
                weights,
                job["pack"],
                threads=job["threads"],
                device="cpu" if device == "cpu" else "auto",
                gradient_checkpointing=checkpointing,
            )
            where = output / name.replace(" ", "-")
            with findings.trying(name):
                need = sum(estimated({**given, "train": train}, checkpointing, device).values())
                free = free_memory(device)
                if need > free:
                    text = f"needs {need / GIB:.1f} GiB by the estimate, and {free / GIB:.1f} GiB are free"
                    findings.leave_out(name, text)
                    continue
                measure({**given, "train": train, "output": str(where)}, name, findings, device, job["before"])
    shutil.rmtree(output / "inputs", ignore_errors=True)


if __name__ == "__main__":
    run_job(check, sys.argv[1])
