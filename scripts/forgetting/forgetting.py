"""Compare what the models still know outside the task with what the base knows.

In: the questions, every model's answers and losses, the counts of the text. Out: forgetting.json.

A kind of questions counts only if the base clearly beats chance at it: nobody can forget what he never knew. Chance is
the best that an answer without reading the question reaches: guessing among what is offered, or one and the same answer
to every question.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.stats import binomtest

from scripts.common.io import read_json, read_jsonl, write_json
from scripts.common.job import find_job
from scripts.common.logs import logging_to
from scripts.common.statistics import (
    holm,
    mcnemar,
    paired_shares,
    percentiles,
    resampled,
    rounded,
    three_digits,
    wilson,
)
from scripts.forgetting.kinds import KINDS, LEVELS, grade

COUNTS = 0.01  # largest p at which the base clearly beats chance
LIMIT = 0.05  # of p, for a drop
Lines = Sequence[Mapping[str, Any]]
Marks = Mapping[str, bool]  # whether the answer to each question is right, by id


def chance(questions: Lines, texts: Sequence[str]) -> float:
    """Return the share of these questions that chance gets right: the larger one of the mean of their `guess` and of
    the share that the best constant answer reaches. Tried are the right answers and `texts`.
    """
    constants = {*(question["answer"] for question in questions), *texts}
    best = max(sum(grade(question, text) for question in questions) for text in constants)
    return round(max(best, sum(question["guess"] for question in questions)) / len(questions), 6)


def share(right: Sequence[bool]) -> dict[str, Any]:
    """Return n, how many are right, their share, and its interval."""
    n, hits = len(right), sum(right)
    return {"n": n, "right": hits, "value": round(hits / n, 6), "interval": rounded(wilson(hits, n))}


def describe_kind(questions: Lines, base: Marks, texts: Sequence[str]) -> dict[str, Any]:
    """Return the base's share of one kind, by level as well, chance, and whether the kind counts: whether p of the
    exact binomial test, that a model at chance gets so many right, is at most COUNTS. `texts`: the base's answers.
    """
    found = share([base[question["id"]] for question in questions])
    level = chance(questions, texts)
    p = float(binomtest(found["right"], found["n"], level, alternative="greater").pvalue)
    return {
        **found,
        "chance": level,
        "p": three_digits(p),
        "counts": p <= COUNTS,
        "levels": by_level(questions, base),
        "source": KINDS[questions[0]["kind"]].source,
    }


def by_level(questions: Lines, marks: Marks) -> dict[str, Any]:
    """Return {level: {n, right}}."""
    groups = {level: [marks[q["id"]] for q in questions if q["level"] == level] for level in LEVELS}
    return {level: {"n": len(right), "right": sum(right)} for level, right in groups.items() if right}


def pair(questions: Lines, base: Marks, other: Marks) -> dict[str, Any]:
    """Return a model's share of these questions; the difference, model minus base, with interval and McNemar's p."""
    both = sum(base[q["id"]] and other[q["id"]] for q in questions)
    lost = sum(base[q["id"]] and not other[q["id"]] for q in questions)
    won = sum(other[q["id"]] and not base[q["id"]] for q in questions)
    n = len(questions)
    return {
        **share([other[question["id"]] for question in questions]),
        "base_value": round((both + lost) / n, 6),
        "difference": round((won - lost) / n, 6),
        "difference_interval": rounded(paired_shares(both, lost, won, n - both - lost - won)),
        "only_base": lost,
        "only_model": won,
        "p": three_digits(mcnemar(lost, won)),
    }


def dropped(found: Mapping[str, Any], p: float, max_drop: float) -> bool:
    """Return whether a share fell by more than `max_drop`, and not by chance: interval without 0, p below LIMIT."""
    return bool(found["difference"] < -max_drop and found["difference_interval"][1] < 0 and p < LIMIT)


def perplexities(base: Lines, other: Lines, max_rise: float) -> dict[str, Any]:
    """Return both perplexities on the same passages, and their ratio with its interval, by bootstrap over the passages.

    Perplexity is exp of the mean negative log-likelihood of a token. `rose`: the ratio is above 1 + `max_rise`, and its
    interval above 1.
    """
    tokens = np.array([line["tokens"] for line in base], dtype=float)
    before, after = (np.array([line["loss"] for line in lines], dtype=float) for lines in (base, other))

    def ratio(rows: Sequence[int]) -> float:
        return float(np.exp((after[rows].sum() - before[rows].sum()) / tokens[rows].sum()))

    value = ratio(range(len(tokens)))
    resamples = resampled(len(tokens), ratio)
    bounds = None if resamples is None else percentiles(resamples)
    return {
        "tokens": int(tokens.sum()),
        "base_value": round(math.exp(before.sum() / tokens.sum()), 4),
        "value": round(math.exp(after.sum() / tokens.sum()), 4),
        "ratio": round(value, 4),
        "ratio_interval": rounded(bounds),
        "rose": bool(value > 1 + max_rise and bounds is not None and bounds[0] > 1),
    }


def compare(
    questions: Lines,
    answers: Mapping[str, Lines],
    losses: Mapping[str, Lines],
    base: str,
    max_drop: float,
    max_rise: float,
) -> dict[str, Any]:
    """Return {base, kinds, models}. `answers` and `losses`: lines of each model; `base`: the model before training.

    A model's p values are corrected for the number of kinds that count (Holm).
    """
    marks = {
        model: {line["id"]: grade(question, line["text"]) for question, line in zip(questions, lines, strict=True)}
        for model, lines in answers.items()
    }
    of_kind = {kind: [q for q in questions if q["kind"] == kind] for kind in KINDS}
    of_kind = {kind: asked for kind, asked in of_kind.items() if asked}
    said = {line["id"]: line["text"] for line in answers[base]}
    kinds = {
        kind: describe_kind(asked, marks[base], [said[question["id"]] for question in asked])
        for kind, asked in of_kind.items()
    }
    counting = [question for question in questions if kinds[question["kind"]]["counts"]]
    models = {}
    for model in (name for name in answers if name != base):
        pairs = {
            kind: {**pair(asked, marks[base], marks[model]), "levels": by_level(asked, marks[model])}
            for kind, asked in of_kind.items()
        }
        adjusted = holm({kind: found["p"] for kind, found in pairs.items() if kinds[kind]["counts"]})
        for kind, found in pairs.items():
            found["p_holm"] = three_digits(adjusted[kind]) if kind in adjusted else None
            found["dropped"] = kind in adjusted and dropped(found, adjusted[kind], max_drop)
        overall = pair(counting, marks[base], marks[model]) if counting else None
        if overall:
            overall["dropped"] = dropped(overall, overall["p"], max_drop)
        models[model] = {
            "kinds": pairs,
            "overall": overall,
            "perplexity": perplexities(losses[base], losses[model], max_rise),
        }
    return {
        "base": base,
        "base_overall": share([marks[base][question["id"]] for question in counting]) if counting else None,
        "kinds": kinds,
        "models": models,
        "limits": {"max_drop": max_drop, "max_rise": max_rise, "counts": COUNTS, "p": LIMIT},
    }


if job := find_job(globals()):
    with logging_to(job.log[0]):
        names = job.params.models
        answers, losses = (
            dict(zip(names, (list(read_jsonl(path)) for path in job.input[kind]), strict=True))
            for kind in ("answers", "losses")
        )
        compared = compare(
            list(read_jsonl(job.input.questions)),
            answers,
            losses,
            names[0],
            job.params.max_drop,
            job.params.max_rise,
        )
        write_json(job.output.forgetting, {**compared, "text": read_json(job.input.counts)})
