"""`python -m scripts.bench.plan [--configfile FILE]`: measure how long Snakemake takes before the first job.

Prints the seconds (median of three) for planning an empty Snakefile, which is Snakemake's own share; for planning the
config; for a rerun with nothing to do, if the config's run is finished; and for planning 5,000 jobs.
"""

import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from scripts.common.hashing import ROOT
from scripts.config.reading import load_yaml

ARMS = ["curriculum", "growing-random", "shuffled", "uniform"]
JOBS_OF_ONE = 14  # per arm and seed, from the rows of its phases to its grades


def measure(arguments: Sequence[str], folder: Path = ROOT, times: int = 3) -> tuple[float, str]:
    """Return (median seconds, output) of a snakemake command."""
    seconds, output = [], ""
    for _ in range(times):
        began = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-m", "snakemake", *arguments],
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        seconds.append(time.monotonic() - began)
        output = done.stdout
        if done.returncode:
            raise SystemExit(output)
    return statistics.median(seconds), output


def jobs_of(output: str) -> int:
    """Return how many jobs a plan has."""
    total = re.search(r"^total\s+(\d+)$", output, re.MULTILINE)
    return int(total[1]) if total else 0


def many_jobs(count: int) -> dict[str, Any]:
    """Return config/config.yaml with enough arms and seeds for a plan of about `count` jobs."""
    seeds = list(range(1, 1 + count // (JOBS_OF_ONE * len(ARMS))))
    models = {
        "base": {},
        "tuned": {"trained": {"arm": "curriculum", "seed": 1}},
        "order": {"trained": {"arms": ARMS, "seeds": seeds}},
    }
    return {**load_yaml(ROOT / "config/config.yaml"), "run": "plan", "models": models}


def main(arguments: Sequence[str]) -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as scratch:
        empty = Path(scratch, "Snakefile")
        empty.write_text("rule all:\n    input: []\n", encoding="utf-8")
        print("| | jobs | seconds |\n|---|--:|--:|")
        print(f"| an empty Snakefile | 0 | {measure(['-n'], Path(scratch))[0]:.2f} |", flush=True)
        seconds, output = measure(["-n", *arguments])
        print(f"| `snakemake -n` | {jobs_of(output):,} | {seconds:.2f} |", flush=True)
        if "Nothing to be done" in output:
            print(f"| a rerun with nothing to do | 0 | {measure(['--cores', '2', *arguments])[0]:.2f} |", flush=True)
        many = Path(scratch, "many.json")
        many.write_text(json.dumps(many_jobs(5000)), encoding="utf-8")
        seconds, output = measure(["-n", "--quiet", "rules", "--configfile", str(many)], times=1)
        print(f"| `snakemake -n`, many arms and seeds | {jobs_of(output):,} | {seconds:.2f} |")


if __name__ == "__main__":
    main(sys.argv[1:])
