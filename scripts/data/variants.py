"""Variants of a converter's rows: the same row, written otherwise, or with values of another row, as augmented rows.

A variant has the `source` of its row, or of both rows, so the split rule leaves it out if one of them is held out.
"""

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from scripts.common.errors import GradusError
from scripts.common.hashing import unit_hash
from scripts.common.own_code import load
from scripts.common.records import AND, join_sources, normal
from scripts.common.strict_json import strict_json

Row = dict[str, Any]
Vary = Any  # (text, object, random numbers) → the same, changed, or None; a mixing one takes another row's before these
TRIES = 10  # other rows that a mixing kind is offered


@dataclass(frozen=True)
class Kind:
    """A way to change a row; `mixes`: with values of another row."""

    change: Vary
    mixes: bool = False


def find_kinds(file: str | Path, names: Sequence[str]) -> dict[str, Kind]:
    """Return the named kinds of variants of a converter. Raises GradusError if it has no such kind."""
    own = load(file)
    known = {name: Kind(change) for name, change in getattr(own, "VARIANTS", {}).items()}
    known |= {name: Kind(change, mixes=True) for name, change in getattr(own, "MIXTURES", {}).items()}
    if missing := [name for name in names if name not in known]:
        raise GradusError(
            f"data.package.variants.kinds: {file} has no variant {missing[0]!r}; known: {', '.join(known) or 'none'}"
        )
    return {name: known[name] for name in names}


def parts_of(row: Row) -> dict[str, Any]:
    """Return a row's output as an object. Raises GradusError if the row has no input, or no object as its output."""
    try:
        parts = strict_json(row["output"]) if isinstance(row["output"], str) else row["output"]
        if isinstance(row["input"], str) and isinstance(parts, dict):
            return parts
    except (KeyError, ValueError):
        pass
    raise GradusError(
        f"data.package.variants: {row.get('source', 'a row')} needs a text as `input` and a JSON object as `output`"
    )


class Others:
    """Rows whose values a mixing kind may use. One more row changes few draws, so that few rows are trained anew."""

    def __init__(self, rows: Sequence[Row]) -> None:
        """Place the rows on a ring, by a hash of their texts."""
        placed = sorted((unit_hash(row["input"]), number) for number, row in enumerate(rows))
        self.places, self.rows = [place for place, _ in placed], [rows[number] for _, number in placed]

    def draw(self, random: Random) -> Iterator[Row]:
        """Yield TRIES rows, each the first at or after a random place."""
        for _ in range(TRIES if self.rows else 0):
            yield self.rows[bisect_left(self.places, random.random()) % len(self.rows)]


def vary(row: Row, kinds: Mapping[str, Kind], number: int, others: Others | None = None) -> Row | None:
    """Return the variant of a row with this number; None if nothing of it can be changed.

    Each kind is used with a chance of ½, in the order given, drawn by the row's text; if that changes nothing, the
    first that can. `others`: rows whose values may be used.
    """
    parts, text, sources = parts_of(row), row["input"], [row.get("source", "")]
    random = Random(f"{text} {number}")

    def apply(kind: Kind) -> None:
        nonlocal text, parts
        if not kind.mixes:
            text, parts = kind.change(text, parts, random) or (text, parts)
            return
        for other in others.draw(random) if others else ():
            if changed := kind.change(other["input"], parts_of(other), text, parts, random):
                text, parts = changed
                sources.append(other["source"])
                return

    drawn = [kind for kind in kinds.values() if random.random() < 0.5]
    for kind in drawn:
        apply(kind)
    rest = [kind for kind in kinds.values() if kind not in drawn]
    while text == row["input"] and rest:
        apply(rest.pop(random.randrange(len(rest))))
    if text == row["input"]:
        return None
    kept = {name: value for name, value in row.items() if name not in ("split", "rejected")}  # those answer the row
    return {**kept, "input": text, "output": parts, "source": join_sources(sources), "augmented": True}


def make_variants(rows: Sequence[Row], kinds: Mapping[str, Kind], per_row: int) -> Iterator[Row]:
    """Yield the variants of each row that may be trained on, at most `per_row`, but none that asks what a row asks.

    Every such row needs a `source`. Raises GradusError if one cannot be told from two.
    """
    origins = [row for row in rows if row.get("split", "train") == "train" and not row.get("augmented")]
    if any(kind.mixes for kind in kinds.values()) and (two := [row for row in origins if AND in row["source"]]):
        raise GradusError(
            f"data.package.variants: the source {two[0]['source']!r} has {AND!r} in it, which stands between the "
            "sources of a row that is made from two; name it otherwise in the converter"
        )
    others = Others(origins)
    seen = {normal(row["input"]) for row in rows if parts_of(row)}
    for row in origins:
        for number in range(1, per_row + 1):
            variant = vary(row, kinds, number, others)
            if variant and normal(variant["input"]) not in seen:
                seen.add(normal(variant["input"]))
                yield variant
