"""Compare the models with each other.

In: every model's metrics, grades and answers, the records, the advice. Out: metrics.json, {model: {split: {metric:
{value, n}}}}, and comparison.json: the interval of every value; each model against the one named in `compare_with`; the
served model against each other model, and which of these was the strongest on the validation rows; ways of training
over several seeds.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from scripts.common.experiment_statistics import compare_arms
from scripts.common.io import read_json, read_jsonl, write_json
from scripts.common.job import find_job
from scripts.common.logs import logging_to
from scripts.common.records import Record, read_records
from scripts.common.statistics import (
    Floats,
    by_cluster,
    effective_rows,
    holm,
    mcnemar,
    mean_interval,
    number_clusters,
    paired_shares,
    percentiles,
    resampled,
    rounded,
    sign_flips,
    three_digits,
    wilson,
)
from scripts.tasks.table import load_task
from scripts.tasks.task import Task, Whole

Grades = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Values:
    """One model's values of one metric on one split."""

    by_id: Mapping[str, float]  # of the rows that count; of a metric over all rows the ids alone matter
    binary: bool = False
    groups: Mapping[str, str] = field(default_factory=dict)  # of the rows that have one, by id
    whole: float | None = None  # of a metric over all rows at once
    resamples: Floats | None = None  # such a metric on resampled rows
    measure: Callable[[Sequence[str]], "Values"] | None = None  # such a metric on fewer rows, by their ids

    def on(self, ids: Sequence[str]) -> "Values":
        """Return a metric over all rows on these rows alone."""
        return self if self.measure is None or list(self.by_id) == list(ids) else self.measure(ids)

    @property
    def interval(self) -> list[float] | None:
        """Return the 95% interval of the metric; None with too few rows."""
        if not self.by_id:
            return None
        if self.whole is not None:
            return None if self.resamples is None else rounded(percentiles(self.resamples))
        values, clusters = list(self.by_id.values()), number_clusters(list(self.by_id), self.groups)
        if not self.binary:
            return rounded(mean_interval(by_cluster(values, clusters)[0]))
        right = sum(value == 1 for value in values)
        if clusters is None:
            return rounded(wilson(right, len(values)))
        effective = effective_rows(values, clusters)
        return rounded(wilson(right * effective / len(values), effective))


def values_of(grades: Grades, metric: str, binary: bool, groups: Mapping[str, str] | None = None) -> Values:
    """Return a model's values of a row metric. A row without a grade does not count."""
    return Values({row["id"]: row[metric] for row in grades if metric in row}, binary, groups or {})


def groups_of(records: Mapping[str, Record]) -> dict[str, str]:
    """Return {id: the rows that a row hangs together with}: its group, or its conversation."""
    return {key: hang for key, record in records.items() if (hang := record.group or record.thread)}


def values_over_all(records: Mapping[str, Record], answers: Grades, whole: Whole, value: float | None) -> Values:
    """Return a model's value of a metric over all rows, and the metric on resamples of these rows."""
    by_id = {row["id"]: row for row in answers}
    asked, texts = [records[row["id"]] for row in answers], [row["text"] for row in answers]

    def measure(rows: Sequence[int]) -> float:
        # a metric of the user's own may have no value, or fail, on a resample, such as one with a single label
        try:
            found = whole([asked[row] for row in rows], [texts[row] for row in rows])
        except Exception:
            return math.nan
        return math.nan if found is None else found

    def on(ids: Sequence[str]) -> Values:
        place = {key: number for number, key in enumerate(by_id)}
        found = measure([place[key] for key in ids])
        shared = [by_id[key] for key in ids]
        return values_over_all(records, shared, whole, round(found, 6) if math.isfinite(found) else None)

    groups = groups_of(records)
    resamples = resampled(len(asked), measure, number_clusters(list(by_id), groups))
    return Values(dict.fromkeys(by_id, 0.0), groups=groups, whole=value, resamples=resamples, measure=on)


def compare_values(first: Values, other: Values) -> dict[str, Any]:
    """Compare two models on the rows that count for both.

    `difference` is other minus first, with its interval. For a metric of zeros and ones, `only_first` and `only_other`
    count the rows that only one of the two gets right. `p` is from McNemar's exact test on these, and for other
    metrics from the paired permutation test; a metric over all rows has none. Where rows hang together, intervals allow
    for that, the permutation test flips their groups, whatever the metric, and `units` is how many groups there
    are. Without rows, all are null.
    """
    ids = [key for key in other.by_id if key in first.by_id]
    if not ids:
        return dict.fromkeys(("first_value", "value", "interval", "difference", "difference_interval", "p")) | {"n": 0}
    clusters = number_clusters(ids, other.groups)
    hang = {} if clusters is None else {"units": int(clusters.max()) + 1}
    if other.measure is not None:
        return _compare_wholes(first.on(ids), other.on(ids), len(ids)) | hang
    pairs = [(first.by_id[key], other.by_id[key]) for key in ids]
    shared = Values({key: other.by_id[key] for key in ids}, other.binary, other.groups)
    differences = [b - a for a, b in pairs]
    units, sums = by_cluster(differences, clusters)
    found = {
        "n": len(ids),
        "first_value": round(sum(a for a, _ in pairs) / len(ids), 6),
        "value": round(sum(b for _, b in pairs) / len(ids), 6),
        "interval": shared.interval,
        "difference": round(sum(differences) / len(ids), 6),
        **hang,
    }
    if other.binary:
        lost, won = sum(a == 1 and b < 1 for a, b in pairs), sum(a < 1 and b == 1 for a, b in pairs)
        both = sum(a == 1 and b == 1 for a, b in pairs)
        found |= {"first_right": both + lost, "right": both + won, "only_first": lost, "only_other": won}
        counts = (both, lost, won, len(ids) - both - lost - won)
        if clusters is None:
            spread = paired_shares(*counts)
            return {**found, "difference_interval": rounded(spread), "p": three_digits(mcnemar(lost, won))}
        share = effective_rows(differences, clusters) / len(ids)
        bounds: tuple[float, float] | None = paired_shares(*(share * count for count in counts))
    else:
        bounds = mean_interval(units)
        if bounds is None and len(units) > 1 and units[0]:
            bounds = (units[0], units[0])  # the same everywhere: no spread, but a difference
    return {**found, "difference_interval": rounded(bounds), "p": three_digits(sign_flips(sums))}


def _compare_wholes(first: Values, other: Values, n: int) -> dict[str, Any]:
    """Compare two models by a metric over all rows, given both on the same rows, so that their resamples are paired."""
    spread = None
    if first.resamples is not None and other.resamples is not None:
        spread = rounded(percentiles(other.resamples - first.resamples))
    difference = None if first.whole is None or other.whole is None else round(other.whole - first.whole, 6)
    return {
        "n": n,
        "first_value": first.whole,
        "value": other.whole,
        "interval": other.interval,
        "difference": difference,
        "difference_interval": spread,
        "p": None,
    }


def against_each(
    values: Mapping[str, Mapping[str, Mapping[str, Values]]], served: str, families: Sequence[Sequence[str]]
) -> dict[str, Any]:
    """Return {model: {split: {metric: comparison}}}: the served model (as the other one) against each model. `p_holm`
    is p corrected for the number of models in the same family, on the same split and metric.
    """
    table: dict[str, Any] = {}
    for family in families:
        members = [name for name in family if name != served]
        for name in members:
            table[name] = {
                split: {
                    metric: compare_values(found, values[served][split][metric]) for metric, found in by_metric.items()
                }
                for split, by_metric in values[name].items()
            }
        for split, by_metric in values[served].items():
            for metric in by_metric:
                cells = {name: table[name][split][metric] for name in members}
                known = {name: cell["p"] for name, cell in cells.items() if cell["p"] is not None}
                adjusted = holm(known)
                for name, cell in cells.items():
                    cell["p_holm"] = three_digits(adjusted[name]) if name in adjusted else None
    return table


def over_seeds(
    models: Sequence[Mapping[str, Any]], values: Callable[[str, str], Values], splits: Sequence[str], metric: str
) -> list[dict[str, Any]]:
    """Return each way of training against the first one, where both have two seeds or more in common; a way is an arm
    of a group of models. The same seeds and rows are paired, and the interval is over both (docs/statistics.md, "Two
    arms").

    `values(model, split)`: those of `metric`. One over all rows at once is left out, and so are splits of one unit.
    """
    ways: dict[str, dict[int, str]] = {}
    for model in models:
        if model.get("group"):
            training = model["training"]
            ways.setdefault(f"{model['group']}-{training['arm']}", {})[training["seed"]] = model["name"]
    found = []
    for split in splits:
        for way in list(ways)[1:]:
            first = next(iter(ways))
            seeds = sorted(ways[first].keys() & ways[way].keys())
            table = {name: {seed: values(ways[name][seed], split) for seed in seeds} for name in (first, way)}
            every = [value for by_seed in table.values() for value in by_seed.values()]
            if len(seeds) < 2 or any(value.measure for value in every):
                continue
            rows = [key for key in every[0].by_id if all(key in value.by_id for value in every)]
            groups = every[0].groups
            if len({groups.get(row) or row for row in rows}) < 2:
                continue
            shared = {
                name: {seed: {row: value.by_id[row] for row in rows} for seed, value in by_seed.items()}
                for name, by_seed in table.items()
            }
            compared = compare_arms(shared, way, first, groups, higher_is_better=True)
            found.append({"split": split, "metric": metric, **compared.to_dict()})
    return found


def compare(
    models: Sequence[Mapping[str, Any]],
    first: str,
    served: str,
    strongest: str | None,
    task: Task,
    metrics: Mapping[str, Mapping[str, Any]],
    values: Callable[[str, str, str], Values],
) -> dict[str, Any]:
    """Return comparison.json.

    `models`: each as Model.describe() says; `first`: the model that the others are compared with; `strongest`: the
    contender that did best on the validation rows, before training; `metrics`: metrics.json; `values(model, split,
    metric)`. The untrained models, which are the contenders, are one family for the correction; the trained ones are
    another.
    """
    table = {
        model["name"]: {
            split: {metric: values(model["name"], split, metric) for metric in by_metric}
            for split, by_metric in metrics[model["name"]].items()
        }
        for model in models
    }
    contenders = [model["name"] for model in models if not model["trained"]]
    return {
        "first": first,
        "headline": task.headline,
        "binary": task.is_binary(task.headline),
        "intervals": {
            model: {split: {metric: found.interval for metric, found in by.items()} for split, by in by_split.items()}
            for model, by_split in table.items()
        },
        "models": {
            model: {
                split: {metric: compare_values(table[first][split][metric], found) for metric, found in by.items()}
                for split, by in by_split.items()
            }
            for model, by_split in table.items()
            if model != first
        },
        "served": {
            "model": served,
            "strongest": strongest if strongest in contenders else None,
            "models": against_each(
                table, served, [contenders, [model["name"] for model in models if model["trained"]]]
            ),
        },
        "over_seeds": over_seeds(
            models,
            lambda model, split: table[model][split][task.headline],
            list(next(iter(metrics.values()))),
            task.headline,
        ),
    }


def read_values(
    task: Task,
    metrics: Mapping[str, Mapping[str, Any]],
    grades: Mapping[str, Grades],
    answers: Mapping[str, Grades],
    records: Mapping[str, Mapping[str, Record]],
    model: str,
    split: str,
    metric: str,
) -> Values:
    """Return one model's values of one metric on one split. The keys of `grades` and `answers` are "model/split"; those
    of `records` split and id.
    """
    key = f"{model}/{split}"
    if whole := task.whole.get(metric):
        return values_over_all(records[split], answers[key], whole, metrics[model][split][metric]["value"])
    return values_of(grades[key], metric, task.is_binary(metric), groups_of(records[split]))


if job := find_job(globals()):
    with logging_to(job.log[0]):
        splits, task = job.params.splits, load_task(job.params.task, job.params.headline)
        names = [model["name"] for model in job.params.models]
        keys = [f"{name}/{split}" for name in names for split in splits]
        found = dict(zip(keys, map(read_json, job.input.metrics), strict=True))
        metrics = {name: {split: found[f"{name}/{split}"] for split in splits} for name in names}
        get = partial(
            read_values,
            task,
            metrics,
            dict(zip(keys, (list(read_jsonl(path)) for path in job.input.grades), strict=True)),
            dict(zip(keys, (list(read_jsonl(path)) for path in job.input.answers), strict=True)),
            {
                split: {record.id: record for record in read_records(path)}
                for split, path in zip(splits, job.input.records, strict=True)
            },
        )
        strongest = read_json(job.input.advice)["strongest"]
        write_json(job.output.metrics, metrics)
        write_json(
            job.output.comparison,
            compare(job.params.models, job.params.first, job.params.served, strongest, task, metrics, get),
        )
