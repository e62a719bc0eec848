"""Read what people rated back: how often each model was preferred, and how far the raters agree.

In: the files that the page saved, one of each rater; key.json. Out: ratings.json.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache
from itertools import combinations
from typing import Any

import numpy as np
from nltk.metrics.agreement import AnnotationTask
from nltk.metrics.distance import interval_distance

from scripts.common.io import read_json, write_json
from scripts.common.job import find_job
from scripts.common.logs import logging_to
from scripts.common.statistics import (
    mean_interval,
    percentiles,
    resampled,
    rounded,
    sign_flips,
    three_digits,
    wilson,
    with_holm,
)
from scripts.rating.raters import VALUES, Key, Rater, read_raters

FEWEST = 6  # shared pairs: on 5, two who choose at random agree or differ throughout in 1 of 16 cases, on 6 in 1 of 32
COPIED = 10  # shared pairs: all the same choices on so many may be a copy
Votes = Mapping[str, float]  # {rater: value of the choice} of one pair


def share_interval(values: Sequence[float]) -> list[float] | None:
    """Return the 95% interval of a mean of values from 0 to 1: Wilson's if all are 0 or 1, else by bootstrap."""
    if values and set(values) <= {0.0, 1.0}:
        return rounded(wilson(round(sum(values)), len(values)))
    return rounded(mean_interval(values)) if values else None


def compare(counted: Mapping[str, Any], scores: Sequence[float], pairs: int) -> dict[str, Any]:
    """Return how often model `a` is preferred to `b`.

    `counted`: {a, b, split, rows, identical}; `scores`: of each rated pair the mean over its raters, 1 for a; `pairs`:
    on the page. Pairs of identical answers, which nobody rates, are ties; if only a part of the others was rated, as
    many of them count as belong to that part. `share` counts a tie as half, `p` is from the paired permutation test.
    """
    same = round(counted["identical"] * len(scores) / pairs) if pairs else counted["identical"]
    values = [*scores, *[0.5] * same]
    return {
        **counted,
        "pairs": pairs,
        "rated": len(scores),
        "n": len(values),
        "share": round(sum(values) / len(values), 6) if values else None,
        "interval": share_interval(values),
        "p": three_digits(sign_flips([2 * value - 1 for value in values])) if values else None,
        "a_preferred": sum(value > 0.5 for value in values),
        "b_preferred": sum(value < 0.5 for value in values),
        "ties": sum(value == 0.5 for value in values),
    }


def compare_all(key: Key, raters: Sequence[Rater]) -> list[dict[str, Any]]:
    """Return the comparison of each two models on each split, with p corrected for the number of those of a split."""
    found = []
    for counted in key["comparisons"]:
        alike = [pair for pair in key["pairs"] if all(pair[name] == counted[name] for name in ("a", "b", "split"))]
        scores = []
        for pair in alike:
            values = [VALUES[rater.winners[pair["pair"]]] for rater in raters if pair["pair"] in rater.winners]
            if values:
                of_first = sum(values) / len(values)
                scores.append(of_first if pair["first"] == pair["a"] else 1 - of_first)
        found.append(compare(counted, scores, len(alike)))
    return with_holm(found)


def alpha(pairs: Sequence[Sequence[float]]) -> float:
    """Return Krippendorff's alpha with interval distance (Krippendorff 1980): 1 if the raters agree on everything, 0 if
    no more than by chance. `pairs`: the values of all who rated a pair; whose they are does not matter.

    NaN if nobody shares a pair, or if all choices are the same, where it is not defined.
    """
    shared = [values for values in pairs if len(values) > 1]
    if len({value for values in shared for value in values}) < 2:
        return math.nan
    data = [(rater, number, value) for number, values in enumerate(shared) for rater, value in enumerate(values)]
    return float(AnnotationTask(data, distance=interval_distance).alpha())


@cache
def agreement(pairs: tuple[tuple[float, ...], ...]) -> dict[str, Any]:
    """Return {alpha, interval, pairs}: the agreement on the pairs that more than one rater rated. Of two raters it is
    asked for more than once. The interval is of the resamples in which alpha is defined; None if all are the same.
    """
    shared = [values for values in pairs if len(values) > 1]
    found = alpha(shared)
    values = None if math.isnan(found) else resampled(len(shared), lambda rows: alpha([shared[row] for row in rows]))
    return {
        "alpha": None if math.isnan(found) else round(found, 4),
        "interval": None if values is None else rounded(percentiles(values[np.isfinite(values)])),
        "pairs": len(shared),
    }


def with_the_rest(rater: str, pairs: Sequence[Votes]) -> tuple[tuple[float, float], ...]:
    """Return of each pair that this rater and others rated the rater's choice and the mean of the others'."""
    found = []
    for votes in pairs:
        rest = [value for name, value in votes.items() if name != rater]
        if rater in votes and rest:
            found.append((votes[rater], sum(rest) / len(rest)))
    return tuple(found)


def with_another(rater: str, other: str, pairs: Sequence[Votes]) -> tuple[tuple[float, float], ...]:
    """Return the choices of two raters, of each pair that both rated."""
    return tuple((votes[rater], votes[other]) for votes in pairs if rater in votes and other in votes)


def beyond_chance(found: Mapping[str, Any]) -> bool:
    """Return whether an agreement can be told from chance: there are enough pairs, and the interval is above 0. There
    is none if the raters agree on all pairs.
    """
    if found["alpha"] is None or found["pairs"] < FEWEST:
        return False
    return bool(found["interval"][0] > 0 if found["interval"] else found["alpha"] == 1)


def at_random(rater: str, with_rest: Mapping[str, Any], pairs: Sequence[Votes]) -> bool:
    """Return whether a rater may have answered at random: no agreement with the mean of the others, or with any one of
    them, can be told from chance. (The mean alone does not tell: one who answers at random spoils it for all.) False if
    they share too few pairs to say so.
    """
    if with_rest["alpha"] is None or with_rest["pairs"] < FEWEST or beyond_chance(with_rest):
        return False
    others = sorted({name for votes in pairs for name in votes} - {rater})
    return not any(beyond_chance(agreement(with_another(rater, other, pairs))) for other in others)


def describe(rater: Rater, pairs: Sequence[Votes]) -> dict[str, Any]:
    """Return how a rater rated: how many pairs and ties, how often the first of two answers, the agreement with the
    mean of the others, and whether it may be at random.
    """
    found = agreement(with_the_rest(rater.name, pairs))
    counts = Counter(rater.winners.values())
    decided = counts["1"] + counts["2"]
    return {
        "rater": rater.name,
        "rated": len(rater.winners),
        "ties": counts["tie"],
        "first": {
            "n": decided,
            "share": round(counts["1"] / decided, 4) if decided else None,
            "interval": rounded(wilson(counts["1"], decided)) if decided else None,
        },
        "agreement": found,
        "at_random": at_random(rater.name, found, pairs),
    }


def find_warnings(raters: Sequence[Mapping[str, Any]], together: Mapping[str, Any]) -> list[str]:
    """Return what casts doubt on the ratings. `raters`: as `describe` says; `together`: the agreement of all."""
    if len(raters) == 1:
        return ["There is one rater only, so nobody knows whether others would choose the same."]
    warnings = []
    few = [(rater["rater"], rater["agreement"]["pairs"]) for rater in raters if rater["agreement"]["pairs"] < FEWEST]
    if few:
        shared = ", ".join(f"{name} {pairs}" for name, pairs in few)
        warnings.append(
            f"Too few pairs are shared with other raters ({shared}): fewer than {FEWEST} do not tell agreement from "
            "chance. Have more of the same pairs rated."
        )
    elif together["alpha"] is None:
        warnings.append("How far the raters agree is not known: all chose the same throughout.")
    chance = [rater["rater"] for rater in raters if rater["at_random"]]
    if len(raters) == 2 and chance:
        warnings.append(
            f"The agreement of {raters[0]['rater']} and {raters[1]['rater']} cannot be told from chance; which of the "
            "two is at fault, or whether the answers are too alike, a third rater would show."
        )
    else:
        warnings += [
            f"{name}'s agreement with any other rater cannot be told from chance; look at the result without that file."
            for name in chance
        ]
    for rater in raters:
        low, high = rater["first"]["interval"] or (0, 1)
        if low > 0.5 or high < 0.5:
            side = "first" if low > 0.5 else "second"
            warnings.append(
                f"{rater['rater']} prefers the {side} answer, whosever it is, more often than chance would."
            )
    return warnings


def find_copies(raters: Sequence[Rater]) -> list[str]:
    """Return a warning for each two raters who chose the same on all pairs that both rated, if these are many."""
    warnings = []
    for one, other in combinations(raters, 2):
        shared = one.winners.keys() & other.winners.keys()
        if len(shared) >= COPIED and all(one.winners[pair] == other.winners[pair] for pair in shared):
            warnings.append(
                f"{one.name} and {other.name} chose the same on all {len(shared)} pairs that both rated. Two people "
                "who rate in one browser save the same choices; if that happened, remove one file."
            )
    return warnings


def find_marks(key: Key, raters: Sequence[Rater]) -> list[dict[str, Any]]:
    """Return {id, split, model, pass, rater}: whether this rater finds that answer acceptable. An answer that stands in
    several pairs, since they share a model, has one vote of a rater: what this one says more often, none if neither.
    """
    votes: dict[tuple[str, str, str, str], list[bool]] = {}
    for pair in key["pairs"]:
        for rater in raters:
            for side, passes in sorted(rater.marks.get(pair["pair"], {}).items()):
                model = pair["first"] if side == "1" else pair["second"]
                votes.setdefault((pair["record"], pair["split"], model, rater.name), []).append(passes)
    return [
        {"id": record, "split": split, "model": model, "pass": 2 * sum(said) > len(said), "rater": name}
        for (record, split, model, name), said in votes.items()
        if 2 * sum(said) != len(said)
    ]


def count_passes(marks: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return {model, split, n, share, interval}: the share of a model's marked answers that are acceptable; of an
    answer that several raters marked their mean counts.
    """
    by_answer: dict[tuple[str, str], dict[str, list[bool]]] = {}
    for mark in marks:
        by_answer.setdefault((mark["model"], mark["split"]), {}).setdefault(mark["id"], []).append(mark["pass"])
    found = []
    for (model, split), answers in sorted(by_answer.items()):
        values = [sum(passes) / len(passes) for passes in answers.values()]
        share = round(sum(values) / len(values), 6)
        found.append(
            {"model": model, "split": split, "n": len(values), "share": share, "interval": share_interval(values)}
        )
    return found


def winner(pair: Mapping[str, str], chosen: str) -> str:
    """Return "a", "b" or "tie" of a choice on the page."""
    if chosen == "tie":
        return "tie"
    return "a" if pair["first" if chosen == "1" else "second"] == pair["a"] else "b"


def summarize(key: Key, raters: Sequence[Rater]) -> dict[str, Any]:
    """Return ratings.json."""
    votes = [
        {rater.name: VALUES[rater.winners[pair["pair"]]] for rater in raters if pair["pair"] in rater.winners}
        for pair in key["pairs"]
    ]
    together = agreement(tuple(tuple(values.values()) for values in votes))
    described = [describe(rater, votes) for rater in raters]
    marks = find_marks(key, raters)
    return {
        "page": key["page"],
        "comparisons": compare_all(key, raters),
        "agreement": together,
        "raters": described,
        "warnings": [*find_warnings(described, together), *find_copies(raters)],
        "passes": count_passes(marks),
        "pairs": [
            {
                "id": pair["record"],
                **{name: pair[name] for name in ("split", "a", "b")},
                "ratings": [
                    {"rater": rater.name, "winner": winner(pair, rater.winners[pair["pair"]])}
                    for rater in raters
                    if pair["pair"] in rater.winners
                ],
            }
            for pair in key["pairs"]
        ],
        "marks": marks,
    }


if job := find_job(globals()):
    with logging_to(job.log[0]):
        key = read_json(job.input.key)
        write_json(job.output.ratings, summarize(key, read_raters(job.input.files, key)))
