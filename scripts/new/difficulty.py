"""Which of the cheap scorers divides rows into the levels of a curriculum, and at which quantiles."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from scripts.common.records import LEVELS, Record
from scripts.curriculum.scorers import SCORERS, Known

# ordered by how well they went with failures in the worked runs; the first that divides the rows is taken
CHEAP = ("facts", "length", "readability", "rules")
SHARES = (0.3, 0.5, 0.2)  # of rows, easiest first
POINTS = (1, 2)  # the default of score.thresholds
TOLERANCE = 0.1  # by which a level's share may miss its target


@dataclass(frozen=True)
class Proposal:
    """A scorer and its quantiles, with the share of rows that each level gets; `scorer` None: nothing divides them."""

    scorer: str | None
    quantiles: list[float]
    shares: list[float]
    levels: list[int]  # of each record
    by_points: list[float]  # the shares that the default, points of `rules` by thresholds, would give


def assign(values: np.ndarray, quantiles: Sequence[float]) -> np.ndarray:
    """Return each value's level by quantiles, as scripts/curriculum/score.py does."""
    return np.searchsorted(np.quantile(values, quantiles), values, side="left")


def level_shares(levels: np.ndarray, count: int) -> list[float]:
    """Return the share of each of `count` levels."""
    return [float(np.mean(levels == level)) for level in range(count)]


def propose(records: Sequence[Record], rules: Mapping[str, object], shares: Sequence[float] = SHARES) -> Proposal:
    """Return the first of the CHEAP scorers whose quantiles divide the rows about as `shares`; else the best of them.

    `rules`: the settings of the scorer of that name. Rows that bring their difficulty are not looked at.
    """
    quantiles = [round(float(value), 4) for value in np.cumsum(shares)[:-1]]
    known = Known(rules=rules)
    points = np.searchsorted(POINTS, np.array(SCORERS["rules"](records, known)), side="right")
    best: tuple[float, str, np.ndarray] | None = None
    for name in CHEAP:
        levels = assign(np.array(SCORERS[name](records, known)), quantiles)
        got = level_shares(levels, len(shares))
        missed = max(abs(one - wanted) for one, wanted in zip(got, shares, strict=True))
        if all(got) and (best is None or missed < best[0]):
            best = missed, name, levels
        if best and best[0] <= TOLERANCE:
            break
    by_points = level_shares(points, len(shares))
    if best is None:
        return Proposal(None, quantiles, [], [0] * len(records), by_points)
    _, name, levels = best
    return Proposal(name, quantiles, level_shares(levels, len(shares)), levels.tolist(), by_points)


def find_levels(records: Sequence[Record], rules: Mapping[str, object]) -> tuple[list[int], Proposal | None]:
    """Return each record's level, and the proposal that it comes from: None if all rows bring their difficulty."""
    given = [record.difficulty for record in records]
    if None not in given:
        return [int(level or 0) for level in given], None
    proposal = propose(records, rules)
    return [own if level is None else level for level, own in zip(given, proposal.levels, strict=True)], proposal


def choose_phases(levels: Sequence[int], proposal: Proposal | None) -> list[list[int]]:
    """Return the levels of each phase: each adds one that has rows; a single phase if nothing divides the rows."""
    if proposal is not None and proposal.scorer is None:
        return [list(range(len(LEVELS)))]
    return [list(range(level + 1)) for level in sorted(set(levels))]


def mark_hard(places: Sequence[str], records: Sequence[Record], levels: Sequence[int]) -> list[str]:
    """Return the splits with `eval-hard` taken out of `test`, as the rule `score` does."""
    last = len(LEVELS) - 1
    return [
        "eval-hard" if place == "test" and level == last and not record.split else place
        for place, record, level in zip(places, records, levels, strict=True)
    ]
