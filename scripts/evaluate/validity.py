"""Measure whether difficulty scores are valid: do they correlate with what models get wrong?

In: scores of the held-out sample, grades of every model, the advice. Out: validity.json: each scorer's n, its rank
correlation with models' failures and with length, the scorers' rank correlations with each other, and warnings. Models:
the one that all are compared with, the served one, the strongest contender, and those of groups.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.stats import bootstrap, spearmanr

from scripts.common.io import read_json, read_jsonl, write_json
from scripts.common.job import find_job
from scripts.common.logs import logging_to

FEW = 20  # with fewer rows, a correlation is not reported
WEAK = 0.1


def correlation(first: Sequence[float], second: Sequence[float]) -> dict[str, Any] | None:
    """Return Spearman's rank correlation {rho, low, high, p, n} (Spearman 1904) with a 95% bootstrap interval
    (percentiles of 999 resamples, Efron 1979); None if either is constant or there are fewer than 20 rows.
    """
    a, b = np.array(first, dtype=float), np.array(second, dtype=float)
    if len(a) < FEW or np.ptp(a) == 0 or np.ptp(b) == 0:
        return None
    test = spearmanr(a, b)

    def statistic(x: Any, y: Any) -> float:
        return float(spearmanr(x, y).statistic) if np.ptp(x) and np.ptp(y) else 0.0

    spread = bootstrap(
        (a, b),
        statistic,
        paired=True,
        vectorized=False,
        n_resamples=999,
        method="percentile",
        rng=np.random.default_rng(1),
    ).confidence_interval
    rounded = {"rho": test.statistic, "low": spread.low, "high": spread.high}
    return {
        **{name: round(float(value), 3) for name, value in rounded.items()},
        "p": float(f"{test.pvalue:.3g}"),
        "n": len(a),
    }


def failures(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Return how wrong each answer is, by id: 1 minus the mean of its grades, without `stopped`."""
    by_id = {}
    for row in rows:
        marks = [value for name, value in row.items() if name not in ("id", "stopped")]
        if marks:  # else no metric applies to the row
            by_id[row["id"]] = 1 - sum(marks) / len(marks)
    return by_id


def judged(groups: Mapping[str, str | None], first: str, served: str, strongest: str | None) -> list[str]:
    """Return the models whose failures are looked at, of {model: its group}: each contender's would fill pages."""
    return [name for name, group in groups.items() if group or name in (first, served, strongest)]


def validity(
    scores: Mapping[str, Mapping[str, Any]],
    grades: Mapping[str, Sequence[Mapping[str, Any]]],
    first: str,
    labels: str = "difficulty",
) -> dict[str, Any]:
    """Return the content of validity.json. `scores`: {id: line of scores.jsonl}; `grades`: {model: rows of all splits};
    `first`: the model that the others are compared with.

    `difficulty`, the label that the rows got, is evaluated like a scorer.
    """
    asked = sorted({row["id"] for rows in grades.values() for row in rows} & set(scores))
    values = {key: {labels: scores[key]["difficulty"], **scores[key]["scores"]} for key in asked}
    names = sorted({name for row in values.values() for name in row}, key=lambda name: (name != labels, name))
    wrong = {model: failures(rows) for model, rows in grades.items()}
    table: dict[str, Any] = {}
    for name in names:
        rows = [key for key in asked if name in values[key]]
        table[name] = {
            "n": len(rows),
            "failures": {
                model: correlation(
                    [values[key][name] for key in rows if key in marks], [marks[key] for key in rows if key in marks]
                )
                for model, marks in wrong.items()
            },
            "length": correlation(
                [values[key][name] for key in rows if "length" in values[key]],
                [values[key]["length"] for key in rows if "length" in values[key]],
            ),
        }
    agreement = {
        one: {
            other: correlation([values[k][one] for k in both], [values[k][other] for k in both])
            for other in names
            if other != one and (both := [k for k in asked if one in values[k] and other in values[k]])
        }
        for one in names
    }
    return {
        "rows": len(asked),
        "scorers": table,
        "agreement": {o: {n: f["rho"] if f else None for n, f in others.items()} for o, others in agreement.items()},
        "warnings": list(warn(table, first, labels)),
    }


def warn(table: Mapping[str, Any], first: str, labels: str) -> list[str]:
    """Return warnings about the difficulty labels, as text."""
    warnings = []
    for model, found in table[labels]["failures"].items():
        if found is None and model == first:
            warnings.append(
                f"{first} gets all rows equally wrong (or right), all rows have one difficulty, or there are fewer "
                f"than {FEW} rows. Its failures say nothing about scorers; use the trained models' failures instead."
            )
        elif found is not None and (found["rho"] < WEAK or found["low"] <= 0):
            fault = "is weak" if found["high"] >= 0 else "points the wrong way, harder rows fail less often"
            warnings.append(
                f"the difficulty label {fault}: its rank correlation with the failures of {model} is {found['rho']:g} "
                f"(95% interval {found['low']:g} to {found['high']:g}, n = {found['n']})."
            )
    length = table[labels]["length"]
    if length and length["rho"] > 0.9:
        warnings.append(f"the difficulty label is little more than length (rank correlation {length['rho']:g}).")
    return warnings


if job := find_job(globals()):
    with logging_to(job.log[0]):
        params, strongest = job.params, read_json(job.input.advice)["strongest"]
        by_model: dict[str, list[Any]] = {
            model: [] for model in judged(params.models, params.first, params.served, strongest)
        }
        keys = [(model, split) for model in params.models for split in params.splits]
        for (model, _), path in zip(keys, job.input.grades, strict=True):
            if model in by_model:
                by_model[model] += list(read_jsonl(path))
        wanted = {row["id"] for rows in by_model.values() for row in rows}
        table = {row["id"]: row for row in read_jsonl(job.input.scores) if row["id"] in wanted}
        write_json(job.output.validity, validity(table, by_model, params.first))
