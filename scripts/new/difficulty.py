"""Choose the cheap scorer that best divides rows into the levels of a curriculum, and apply it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from scripts.common.curriculum import wanted_quantiles
from scripts.common.difficulty import propose, to_levels
from scripts.common.records import Record
from scripts.config.schema import default
from scripts.curriculum.scorers import SCORERS, Known

LEVELS: list[str] = default("curriculum.levels")
QUANTILES = wanted_quantiles(len(LEVELS))
CHEAP = ("facts", "length", "readability", "rules")  # scorers that are fast and do not need the model
MOST_SCORED = 5_000  # rows that scorers are tried on


@dataclass
class Division:
    """How rows are divided. `shares`: {scorer: share of the rows in each level}; `scorer` is None if none works."""

    scorer: str | None
    shares: dict[str, list[float]]
    levels: list[int]  # of each record


def divide(records: Sequence[Record], rules: Mapping[str, object]) -> Division | None:
    """Return how the records are divided; None if all of them have their own difficulty.

    `rules`: the settings of the scorer of that name.
    """
    given = [record.difficulty for record in records]
    if None not in given:
        return None
    known = Known(rules=rules)
    tried = {name: SCORERS[name](records[:MOST_SCORED], known) for name in CHEAP}
    shares, proposal = propose(tried, len(LEVELS))
    if proposal is None:
        return Division(None, shares, [0] * len(records))
    scored = to_levels(np.array(SCORERS[proposal.scorer](records, known)), None, proposal.quantiles).tolist()
    return Division(
        proposal.scorer, shares, [level if own is None else own for own, level in zip(given, scored, strict=True)]
    )


def choose_phases(levels: Sequence[int], division: Division | None) -> list[list[int]]:
    """Return the levels of each phase: each phase adds a level that has rows; one phase if no scorer divides them."""
    if division is not None and division.scorer is None:
        return [list(range(len(LEVELS)))]
    return [list(range(level + 1)) for level in sorted(set(levels))]


def mark_hard(places: Sequence[str], records: Sequence[Record], levels: Sequence[int]) -> list[str]:
    """Return the splits with hard `test` rows moved to `eval-hard`, as the rule `score` does."""
    last = len(LEVELS) - 1
    return [
        "eval-hard" if place == "test" and level == last and not record.split else place
        for place, record, level in zip(places, records, levels, strict=True)
    ]
