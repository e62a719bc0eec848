"""The same job with Gradus: `python -m scripts.bench.ours JOB.json`, as for scripts/bench/tutorial.py."""

import json
import shutil
import sys
from pathlib import Path

from scripts.common.io import read_json, write_jsonl
from scripts.train.train_phase import TrainParams, train_phase


def main() -> None:
    """Train with the job's settings."""
    job = read_json(sys.argv[1])
    output = Path(job["output"])
    size = job["batch_size"]
    rows = output / "rows.jsonl"
    count = write_jsonl(rows, ({**row, "step": 1 + number // size} for number, row in enumerate(job["rows"])))
    train_phase(
        rows=rows,
        valid=job["valid"],
        base=job["rounded"],
        contract_path=job["contract"],
        schedule=dict.fromkeys(("measured", "second", "third"), -(-count // size)),  # the first third of a schedule
        phase="measured",
        method="sft",
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
