"""Compare the quants of a model: what each loses, and how many answers it flips.

In: quant_loss of each quant, the grades of each quant's answers. Out: the gates' values for the served quant, and a
table.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from scripts.common.io import read_json, read_jsonl, write_json
from scripts.common.job import find_job
from scripts.common.logs import logging_to
from scripts.tasks.table import load_task


def flips(reference: Sequence[Mapping[str, Any]], other: Sequence[Mapping[str, Any]], metric: str) -> dict[str, Any]:
    """Return n, the metric of both, and how many answers became worse (of zeros and ones: wrong) and better."""
    before = {row["id"]: row[metric] for row in reference if metric in row}
    pairs = [(before[row["id"]], row[metric]) for row in other if metric in row]
    n = len(pairs)
    return {
        "n": n,
        "bf16_value": round(sum(a for a, _ in pairs) / n, 6) if n else None,
        "value": round(sum(b for _, b in pairs) / n, 6) if n else None,
        "delta": round(sum(b - a for a, b in pairs) / n, 6) if n else None,
        "worse": sum(b < a for a, b in pairs),
        "better": sum(b > a for a, b in pairs),
        "stopped": round(sum(row["stopped"] for row in other) / len(other), 6) if other else None,
    }


def side_by_side(
    losses: Mapping[str, Mapping[str, Any]],
    grades: Mapping[str, Sequence[Mapping[str, Any]]],
    served: str,
    metric: str,
    binary: bool,
    split: str,
) -> dict[str, Any]:
    """Return the gates' values of the served quant, and for each quant of `losses` its losses and flips."""
    table = {quant: {**loss, **flips(grades["bf16"], grades[quant], metric)} for quant, loss in losses.items()}
    here = table[served]
    drop = None if here["delta"] is None else round(max(0.0, -here["delta"]), 6)
    return {
        "values": {
            "quant.mean_kl": here["mean_kl"],
            "quant.top1_agreement": here["top1_agreement"],
            "quant.task_drop": drop,
        },
        "skipped": f"no row of {split} was asked",
        "served": served,
        "metric": metric,
        "binary": binary,
        "split": split,
        "quants": table,
    }


if job := find_job(globals()):
    with logging_to(job.log[0]):
        quants, task = job.params.quants, load_task(job.params.task, job.params.headline)
        write_json(
            job.output.facts,
            side_by_side(
                dict(zip(quants, map(read_json, job.input.losses), strict=True)),
                dict(zip(quants, (list(read_jsonl(path)) for path in job.input.grades), strict=True)),
                job.params.served,
                task.headline,
                task.is_binary(task.headline),
                job.params.split,
            ),
        )
