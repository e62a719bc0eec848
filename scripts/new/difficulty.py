"""Which of the cheap scorers divides rows into the levels of a curriculum, and what that makes of the rows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np

from scripts.common.records import LEVELS, Record
from scripts.curriculum.scorers import SCORERS, Known

CHEAP = ("facts", "length", "readability", "rules")  # the first that divides about as well as the best is taken
SHARES = (0.3, 0.5, 0.2)  # of rows, easiest first
QUANTILES = [round(value, 6) for value in accumulate(SHARES[:-1])]
ALIKE = 0.05  # shares that differ by less are taken as equal
MOST_SCORED = 5_000  # rows that scorers are tried on


@dataclass
class Division:
    """How rows are divided. `shares`: {scorer: share of the rows in each level}; `scorer` None: none divides them."""

    scorer: str | None
    shares: dict[str, list[float]]
    levels: list[int]  # of each record


def assign(values: Sequence[float]) -> np.ndarray:
    """Return each value's level by QUANTILES, as scripts/curriculum/score.py does."""
    return np.searchsorted(np.quantile(values, QUANTILES), values, side="left")


def choose_scorer(scores: Mapping[str, Sequence[float]]) -> tuple[str | None, dict[str, list[float]]]:
    """Return the scorer to take, None if each leaves a level empty; and the shares of the levels by each.

    `scores`: {scorer: values of the same rows}, preferred ones first.
    """
    count = len(SHARES)
    shares = {
        name: (np.bincount(assign(values), minlength=count) / len(values)).tolist() for name, values in scores.items()
    }
    missed = {
        name: max(abs(one - other) for one, other in zip(found, SHARES, strict=True))
        for name, found in shares.items()
        if min(found) > 0
    }
    return next((name for name in missed if missed[name] <= min(missed.values()) + ALIKE), None), shares


def divide(records: Sequence[Record], rules: Mapping[str, object]) -> Division | None:
    """Return how the records are divided; None if all of them bring their difficulty.

    `rules`: the settings of the scorer of that name.
    """
    given = [record.difficulty for record in records]
    if None not in given:
        return None
    known = Known(rules=rules)
    scorer, shares = choose_scorer({name: SCORERS[name](records[:MOST_SCORED], known) for name in CHEAP})
    if scorer is None:
        return Division(None, shares, [0] * len(records))
    found = assign(SCORERS[scorer](records, known)).tolist()
    return Division(scorer, shares, [one if own is None else own for own, one in zip(given, found, strict=True)])


def choose_phases(levels: Sequence[int], division: Division | None) -> list[list[int]]:
    """Return the levels of each phase: each adds one that has rows; a single phase if nothing divides the rows."""
    if division is not None and division.scorer is None:
        return [list(range(len(LEVELS)))]
    return [list(range(level + 1)) for level in sorted(set(levels))]


def mark_hard(places: Sequence[str], records: Sequence[Record], levels: Sequence[int]) -> list[str]:
    """Return the splits with `eval-hard` taken out of `test`, as the rule `score` does."""
    last = len(LEVELS) - 1
    return [
        "eval-hard" if place == "test" and level == last and not record.split else place
        for place, record, level in zip(places, records, levels, strict=True)
    ]
