"""Compare the models with each other.

In: every model's metrics and grades. Out: metrics.json, {model: {split: {metric: {value, n}}}}, and
comparison.json: each model against the one named in `compare_with`, row by row, with confidence intervals.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from scipy.stats import binomtest

from scripts.common.io import read_json, read_jsonl, write_json
from scripts.common.job import find_job
from scripts.common.logs import logging_to
from scripts.tasks.table import load_task
from scripts.tasks.task import Task


def interval(hits: int, n: int) -> list[float]:
    """Return the 95 % Wilson score interval of a share (Wilson 1927), as [low, high]."""
    bounds = binomtest(hits, n).proportion_ci(confidence_level=0.95, method="wilson")
    return [round(float(bounds.low), 4), round(float(bounds.high), 4)]


def compare_rows(first: Sequence[Mapping[str, Any]], other: Sequence[Mapping[str, Any]], metric: str) -> dict[str, Any]:
    """Compare two models' grades on the same rows for a binary metric.

    `only_first` and `only_other` count the rows that only one of the two models gets right. `p` is from the exact
    two-sided McNemar test on them (McNemar 1947): the probability of a split at least this uneven if both models were
    equally good. Without rows, interval and p are null.
    """
    pairs = {row["id"]: row[metric] for row in first if metric in row}
    both = [(pairs[row["id"]], row[metric]) for row in other if row["id"] in pairs and metric in row]
    lost = sum(a == 1 and b < 1 for a, b in both)
    won = sum(a < 1 and b == 1 for a, b in both)
    hits = sum(b == 1 for _, b in both)
    p = float(f"{binomtest(won, won + lost).pvalue:.3g}") if won + lost else 1.0
    return {
        "n": len(both),
        "right": hits,
        "interval": interval(hits, len(both)) if both else None,
        "first_right": sum(a == 1 for a, _ in both),
        "only_first": lost,
        "only_other": won,
        "p": p if both else None,
    }


def compare(
    models: Sequence[str],
    first: str,
    splits: Sequence[str],
    task: Task,
    metrics: Mapping[str, Any],
    grades: Mapping[str, Any],
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return both tables. `first`: the model that the others are compared with; the keys of `metrics` and `grades` are
    "model/split".
    """
    table = {model: {split: metrics[f"{model}/{split}"] for split in splits} for model in models}
    against: dict[str, Any] = {"first": first, "headline": task.headline, "models": {}}
    for model in (name for name in models if name != first):
        against["models"][model] = {
            split: {
                name: compare_rows(grades[f"{first}/{split}"], grades[f"{model}/{split}"], name)
                for name in table[model][split]
                if task.is_binary(name)
            }
            for split in splits
        }
    return table, against


if job := find_job(globals()):
    with logging_to(job.log[0]):
        keys = [f"{model}/{split}" for model in job.params.models for split in job.params.splits]
        result, versus = compare(
            job.params.models,
            job.params.first,
            job.params.splits,
            load_task(job.params.task, job.params.headline),
            dict(zip(keys, map(read_json, job.input.metrics), strict=True)),
            dict(zip(keys, (list(read_jsonl(path)) for path in job.input.grades), strict=True)),
        )
        write_json(job.output.metrics, result)
        write_json(job.output.comparison, versus)
