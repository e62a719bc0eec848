"""`python -m scripts.bench.preference RUN PHASE`: DPO with Gradus against TRL's DPOTrainer, on a finished run's pairs.

The ways run one after another, each in a process of its own; Gradus runs first and last, which shows drift in the
machine's speed. Out: results/bench/preference.json, and a Markdown table.
"""

import argparse
import math
import sys
import tempfile
from pathlib import Path
from typing import Any

from scripts.bench.training import run
from scripts.common.errors import GradusError
from scripts.common.io import read_json, write_json, write_jsonl
from scripts.common.pairs import read_pair_steps, write_pair_steps
from scripts.common.preference import preference_phases
from scripts.config.reading import read_config

BATCH = 4  # pairs that TRL computes at a time, at most
WAYS: dict[str, dict[str, Any]] = {
    "ours": {},
    "TRL's DPOTrainer": {"checkpointing": True, "precomputed": False},  # its defaults, but for the batch
    "without checkpointing": {"checkpointing": False, "precomputed": False},
    "and the reference computed before": {"checkpointing": False, "precomputed": True},
    "ours again": {},
}


def compare(ours: list[dict[str, float]], other: list[dict[str, float]]) -> dict[str, float]:
    """Return the largest difference of loss and margin over the steps."""
    pairs = list(zip(ours, other, strict=True))
    return {f"{name}_differs": max(abs(a[name] - b[name]) for a, b in pairs) for name in ("loss", "margin")}


def measure(run_folder: Path, phase: str, arm: str, seed: int, steps: int) -> dict[str, Any]:
    """Return {way: seconds, memory, pairs a second, difference from ours} for the first `steps` steps of a phase."""
    config = read_config(run_folder / "config.yaml")
    given = preference_phases(config).get(phase)
    if not given or given.method != "dpo":
        raise GradusError(f"{run_folder}/config.yaml: no phase {phase!r} of method dpo")
    if config["train"]["base_weights"] == "nf4-packed":
        raise GradusError(f"{run_folder}: its base is packed, and TRL would train another one; take a run that is not")
    rounded = config["train"]["base_weights"] == "nf4"
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as scratch:
        rows = Path(scratch) / "steps.jsonl"
        laid = read_pair_steps(run_folder / f"preference/{arm}/seed{seed}/{phase}/steps.jsonl")[:steps]
        write_jsonl(rows, write_pair_steps(laid))
        common = {
            "rows": str(rows),
            "base": str(run_folder / ("base-nf4" if rounded else "base")),
            "adapter": str(run_folder / f"train/{arm}/seed{seed}/{given.after}/trained/adapter"),
            "contract": str(run_folder / "data/chat_contract.json"),
            "train": config["train"],
            "threads": config["train"]["threads"],
            "batch_size": config["train"]["batch_size"],
            "batch": math.gcd(BATCH, config["train"]["batch_size"]),
            "learning_rate": given.learning_rate,
            "beta": given.beta,
            "seed": seed,
        }
        first: list[dict[str, float]] = []
        for way, own in WAYS.items():
            output = Path(scratch) / way.replace(" ", "-")
            output.mkdir()
            measured = run("dpo", {**common, **own, "way": way, "output": str(output)})
            each = read_json(output / "steps.json")
            first = first or each
            pairs = sum(map(len, laid))
            speed = round(pairs / measured["seconds_steps"], 2)
            found[way] = {**measured, "pairs": pairs, "pairs_per_s": speed, **compare(first, each)}
    return found


def main() -> None:
    """Measure, write and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="the folder of a finished run, such as results/us-address-preference")
    parser.add_argument("phase", help="its phase of method dpo")
    parser.add_argument("--arm", default="curriculum")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--steps", type=int, default=8, help="how many of its steps")
    given = parser.parse_args()
    try:
        found = measure(given.run, given.phase, given.arm, given.seed, given.steps)
    except (GradusError, FileNotFoundError) as error:
        sys.exit(f"Gradus: {error}")
    write_json("results/bench/preference.json", found)
    slower = min(found[way]["pairs_per_s"] for way in found if way.startswith("ours"))
    print("| way | pairs/s | ours is … times as fast | peak memory (GiB) | largest difference of loss | of margin |")
    print("|---|--:|--:|--:|--:|--:|")
    for way, m in found.items():
        times = "" if way.startswith("ours") else f"{slower / m['pairs_per_s']:.1f}"
        differs = f"{m['loss_differs']:.4f} | {m['margin_differs']:.4f}"
        print(f"| {way} | {m['pairs_per_s']} | {times} | {m['peak_gib']} | {differs} |")


if __name__ == "__main__":
    main()
