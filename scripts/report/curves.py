"""Write the learning curves of all trainings as one table, for `dvc plots diff`, notebooks and papers.

In: loss histories, in the order of training. Out: a CSV file with a line for each optimizer step: arm, seed, phase,
step and tokens over all phases, loss and held-out loss in nats per completion token. Held-out loss is empty where it
was not measured.
"""

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from scripts.common.io import atomic_open, read_jsonl
from scripts.common.job import find_job
from scripts.common.logs import logging_to

COLUMNS = ("arm", "seed", "phase", "step", "tokens", "loss", "heldout_loss")


def curve_rows(histories: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Yield {column: value} for each step of files …/train/<arm>/seed<seed>/<phase>/history.jsonl."""
    done: dict[tuple[str, str], tuple[int, int]] = {}  # steps and tokens of a training's earlier phases
    for path in histories:
        arm, seed, phase = Path(path).parts[-4:-1]
        steps, tokens = done.get((arm, seed), (0, 0))
        for line in read_jsonl(path):
            here = {"step": steps + line["step"], "tokens": tokens + line["tokens"]}
            losses = {name: line.get(name) for name in ("loss", "heldout_loss")}
            yield {"arm": arm, "seed": seed.removeprefix("seed"), "phase": phase, **here, **losses}
            done[arm, seed] = here["step"], here["tokens"]


def write_curves(histories: Sequence[str], path: str | Path) -> None:
    """Write the table."""
    with atomic_open(path) as handle:
        table = csv.DictWriter(handle, COLUMNS, lineterminator="\n")
        table.writeheader()
        table.writerows(curve_rows(histories))


if job := find_job(globals()):
    with logging_to(job.log[0]):
        write_curves(job.input.histories, job.output.curves)
