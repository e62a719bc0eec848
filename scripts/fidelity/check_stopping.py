"""Check that answers stop: the share that ended with the end-of-turn token, for every model, quant and split.

In: answers. Out: the gate's value, which is the lowest share of a trained model in the served quant on the first split,
and all shares.
"""

from pathlib import Path
from typing import Any

from scripts.common.io import read_jsonl, write_json
from scripts.common.job import find_job
from scripts.common.logs import logging_to


def shares(paths: list[str]) -> list[dict[str, Any]]:
    """Return {model, quant, split, n, stopped, share} of each answers file …/<model>/<quant>/<split>.answers.jsonl."""
    rows = []
    for path in map(Path, paths):
        ended = [row["stopped"] for row in read_jsonl(path)]
        share = round(sum(ended) / len(ended), 6) if ended else None
        model, quant = path.parts[-3:-1]
        split = path.name.removesuffix(".answers.jsonl")
        rows.append(
            {"model": model, "quant": quant, "split": split, "n": len(ended), "stopped": sum(ended), "share": share}
        )
    return rows


def least(rows: list[dict[str, Any]], models: list[str], quant: str, split: str) -> float | None:
    """Return the lowest share of these models in `quant` on `split`; None if no row was asked."""
    known = [
        row["share"]
        for row in rows
        if row["model"] in models and (row["quant"], row["split"]) == (quant, split) and row["share"] is not None
    ]
    return min(known, default=None)


if job := find_job(globals()):
    with logging_to(job.log[0]):
        table = shares(list(job.input.answers))
        value = least(table, job.params.models, job.params.served, job.params.split)
        skipped = f"no row of {job.params.split} was asked"
        write_json(job.output.facts, {"values": {"stopping.share": value}, "skipped": skipped, "shares": table})
