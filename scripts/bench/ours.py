"""The same job by Gradus's own training: `python -m scripts.bench.ours JOB.json`, as scripts/bench/tutorial.py."""

import json
import shutil
import sys
from pathlib import Path

from scripts.common.io import read_json
from scripts.train.train_phase import TrainParams, train_phase


def main() -> None:
    """Train by the job's settings."""
    job = read_json(sys.argv[1])
    output = Path(job["output"])
    steps = -(-len(job["rows"]) // job["batch_size"])
    rows = output / "rows.jsonl"
    rows.write_text("".join(json.dumps(row) + "\n" for row in job["rows"]), encoding="utf-8")
    train_phase(
        rows=rows,
        valid=job["valid"],
        base=job["rounded"],
        contract_path=job["contract"],
        schedule={level: {"rows": len(job["rows"]), "steps": steps} for level in ("easy", "medium", "hard")},
        phase="easy",
        previous=None,
        seed=job["seed"],
        params=TrainParams(**job["train"]),
        work=output / "work",
        folder=output / "trained",
        history=output / "history.jsonl",
        summary=output / "summary.json",
    )
    shutil.move(output / "trained" / "adapter", output / "adapter")
    (output / "seconds.json").write_text(json.dumps(read_json(output / "summary.json")["seconds"]["steps"]))


if __name__ == "__main__":
    main()
