"""Tokens a second of the same rows: Gradus's training, the tutorial's way, and Unsloth if it is installed.

`python -m scripts.gpu_check.speed JOB.json`. Each way runs alone, in a process of its own.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from scripts.common.io import read_json, write_json
from scripts.common.records import read_steps
from scripts.config.schema import default
from scripts.gpu_check.findings import Findings, run_job
from scripts.gpu_check.training import LORA, base_of, require_success, run_once, settings


def tutorial(job: dict[str, Any], rows: list[list[Any]], output: Path, tuned: bool) -> float:
    """Return the seconds that the tutorial's way takes; see scripts/bench/tutorial.py."""
    output.mkdir(parents=True)
    given = {
        "threads": job["threads"],
        "base": str(Path(job["folder"]) / "base"),
        "rows": [record.to_json() for step in rows for record in step],
        "system_prompt": "Be brief.",
        "tuned": tuned,
        "output": str(output),
        "batch_size": len(rows[0]),
        "learning_rate": default("train.learning_rate"),
        "seed": 1,
        "rank": LORA["rank"],
        "alpha": LORA["alpha"],
    }
    write_json(output / "job.json", given)
    command = [sys.executable, "-m", "scripts.bench.tutorial", str(output / "job.json")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    require_success(done.returncode, done.stderr)
    return float(json.loads((output / "seconds.json").read_text(encoding="utf-8")))


def check(job: dict[str, Any], findings: Findings) -> None:
    """Time the ways. `job`: as for scripts/gpu_check/training.py, and `unsloth`, whether it is there."""
    folder, output = Path(job["folder"]), Path(job["output"])
    steps = read_steps(folder / "rows.jsonl")
    tokens = sum(map(len, steps)) * job["tokens"]
    device = "cpu" if job["device"] == "cpu" else "auto"
    given = {
        "contract": str(folder / "contract.json"),
        "valid": str(folder / "valid.jsonl"),
        "rows": str(folder / "rows.jsonl"),
        "schedule": {"first": len(steps)},
        "phase": "first",
    }
    ways: dict[str, float] = {}

    def ours(name: str, weights: str, **more: Any) -> None:
        with findings.trying(f"speed, {name}"):
            train = settings(weights, job["pack"], threads=job["threads"], device=device, **more)
            where = output / name.replace(" ", "-")
            run_once({**given, "base": str(base_of(folder, weights)), "train": train, "output": str(where)})
            ways[name] = tokens / read_json(where / "summary.json")["seconds"]["steps"]

    ours("nf4", "nf4")
    ours("nf4-packed", "nf4-packed")
    for name, tuned in (("the tutorial's way", False), ("the tutorial's way, tuned", True)):
        with findings.trying(f"speed, {name}"):
            ways[name] = tokens / tutorial(job, steps, output / ("tuned" if tuned else "tutorial"), tuned)
    if job["unsloth"]:
        ours("unsloth", "nf4-packed", backend="unsloth")
    told = "; ".join(f"{name} {value:,.0f}" for name, value in ways.items())
    others = [value for name, value in ways.items() if not name.startswith("nf4")]
    best = max(ways.get("nf4", 0.0), ways.get("nf4-packed", 0.0))
    # on a CPU this small model says nothing
    passed = best > max(others) if others and best and device != "cpu" else None
    if others and best:
        packed = ways.get("nf4-packed", 0.0) / max(others)  # packs its weights as the others do
        told += f"; {best / max(others):.1f} times the fastest other, nf4-packed {packed:.1f} times"
    findings.add("speed, tokens/s", passed, told, **ways)


if __name__ == "__main__":
    run_job(check, sys.argv[1])
