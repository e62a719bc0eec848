"""Predict which rows will be held out and how many are contaminated, by running data stages on a temporary copy."""

import io
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import redirect_stderr
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scripts.common.io import Rows, write_jsonl
from scripts.common.records import Record, read_records
from scripts.config.schema import default
from scripts.data.decontaminate import find_pairs, sides_of
from scripts.data.deduplicate import deduplicate
from scripts.data.split import Splitter, divided, split

MOST_COMPARED = 20_000  # rows; comparing more takes too long here


@dataclass
class HeldOut:
    """The split of each record, empty if it is left out; the number of contaminated and of all held-out records."""

    places: list[str]
    contaminated: int
    count: int

    @property
    def too_many(self) -> bool:
        """Return whether the run would stop at the gate."""
        return self.contaminated > default("decontaminate.max_share") * self.count


def hold_out(records: Sequence[Record], section: Mapping[str, Any]) -> HeldOut:
    """Return how the config's section `split` divides the records, considering near-copies if there are few enough."""
    shares = {name: section[name] for name in ("by", "valid_share", "test_share", "unseen_share")}
    splitter = Splitter(default("seed"), **shares)
    if len(records) > MOST_COMPARED:
        return HeldOut([splitter.place(record) for record in records], 0, 1)
    gate = {name: default(f"decontaminate.{name}") for name in ("threshold", "ngram", "ngram_share")}
    with tempfile.TemporaryDirectory() as scratch, redirect_stderr(io.StringIO()):  # hides the stages' progress bars
        rows, distinct, placed = (Path(scratch) / name for name in ("rows", "distinct", "placed"))
        write_jsonl(rows, (record.to_json() for record in records))
        deduplicate(rows, distinct, **default("deduplicate"))
        split(read_records(distinct), splitter, few=True)
        write_jsonl(placed, divided(read_records(distinct), splitter))
        there = {record.id: record.split for record in read_records(placed)}
        stored = Rows(placed)
        sides = sides_of(stored)
        pairs = find_pairs(stored, sides, **gate)
    found = HeldOut([there.get(record.id, "") for record in records], len(pairs), len(sides.held_out))
    if found.too_many:  # the config will leave them out
        gone = {pair["id"] for pair in pairs.values()}
        found.places = ["" if record.id in gone else place for record, place in zip(records, found.places, strict=True)]
    return found
