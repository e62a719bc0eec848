"""Assign each record to a split by hashes, permanently: rows added at the end never move other rows.

In: records with their links to near-copies, augmented ones last; what deduplicate left out.
Out: records with `split` (train, valid, test, eval-unseen, or the given one), those left out, and counts.
The score rule later moves hard rows from `test` to `eval-hard`.

A row's split depends on a hash of its group (or of its conversation, or of the row itself); a near-copy of an earlier
row follows that row. Where near-copies would still be in two splits, those on the training side are left out.
An augmented row is only for training: it is left out if a row of its source (that it was made from), its group, or a
near-copy is held out.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tqdm import tqdm

from scripts.common.errors import GradusError
from scripts.common.hashing import unit_hash
from scripts.common.io import read_jsonl, write_json, write_jsonl
from scripts.common.job import find_job
from scripts.common.logs import logging_to
from scripts.common.records import OWN, SPLITS, Record, read_records, split_sources
from scripts.data.deduplicate import COPY

# by priority: if near-copies are in two of these splits, the row in the first one is kept
STRICT = (OWN, "eval-unseen", "eval-hard", "test", "valid", "train")
LEARNT = {"train", "valid"}
AUGMENTED = "augmented row of one in"  # the reason, before the split
FEW = 100  # records; with fewer, training and evaluation are meaningless


@dataclass
class Splitter:
    """Assigns records to splits, one at a time.

    by: `group` (rows of a group share a split) or `row` (only near-copies do; only eval-unseen has whole groups).
    Shares are fractions of the groups, or of the rows without a group, from 0 to 1.
    """

    seed: int
    by: str
    valid_share: float
    test_share: float
    unseen_share: float
    splits: dict[str, str] = field(default_factory=dict)  # of each record so far, by id
    threads: dict[str, str] = field(default_factory=dict)
    sources: dict[str, list[str]] = field(default_factory=dict)  # ids of the rows of each source, or of their copies
    given: set[str] = field(default_factory=set)
    dropped: dict[str, str] = field(default_factory=dict)

    def draw(self, *what: object) -> str:
        """Return train, valid or test, by a hash."""
        lot = unit_hash(self.seed, *what)
        return "test" if lot < self.test_share else "valid" if lot < self.test_share + self.valid_share else "train"

    def place(self, record: Record) -> str:
        """Return the record's split: the given one, or by its group, conversation, earlier near-copy or own hash."""
        if record.split:
            self.given.add(record.id)
            return record.split
        if record.augmented and (held_out := self.find_held_out(record.source)):
            return held_out
        if record.group and unit_hash(self.seed, "unseen", record.group) < self.unseen_share:
            return "eval-unseen"
        if self.by == "group" and record.group:
            return self.draw("group", record.group)
        if record.augmented:
            return self.follow(record) or "train"
        if record.thread:
            return self.threads.setdefault(record.thread, self.follow(record) or self.draw("thread", record.thread))
        return self.follow(record) or self.draw("row", record.id)

    def find_held_out(self, source: str) -> str:
        """Return a split but train that a row of the source is in, or the one for whose sake it was left out; or ''."""
        ids = [key for one in split_sources(source) for key in self.sources.get(one, ()) if key in self.splits]
        places = [self.dropped[key].split()[-1] if key in self.dropped else self.splits[key] for key in ids]
        return next((place for place in places if place != "train"), "")

    def follow(self, record: Record) -> str:
        """Return the split of the record's earliest near-copy, but for those in eval-own; empty if there is none to
        follow.
        """
        near = next((there for other in record.near if (there := self.splits.get(other, "")) != OWN), "")
        return near if near in ("train", "valid", "test") else ""

    def add(self, record: Record) -> None:
        """Assign one record."""
        split = self.splits[record.id] = self.place(record)
        if record.augmented and split != "train":
            self.dropped[record.id] = f"{AUGMENTED} {split}"
            return
        if not record.augmented:
            self.sources.setdefault(record.source, []).append(record.id)
        for other in record.near:
            there = self.splits.get(other, split)
            # the user's own rows may repeat what other held-out rows ask, not what is trained
            if there != split and (OWN not in (split, there) or LEARNT & {split, there}):
                stays, goes = sorted([(split, record.id), (there, other)], key=lambda item: STRICT.index(item[0]))
                if goes[1] not in self.given or stays[0] == OWN:
                    self.dropped[goes[1]] = f"near-copy of a row in {stays[0]}"


def find_copies(left_out: Iterable[Mapping[str, Any]]) -> dict[str, list[str]]:
    """Return {source: ids of the rows that stand for its rows}, from what deduplicate left out; for augmented rows."""
    removed = [item for item in left_out if not item.get("augmented")]
    first = {item["id"]: item["reason"].removeprefix(COPY) for item in removed if item["reason"].startswith(COPY)}
    found: dict[str, list[str]] = {}
    for item in removed:
        key = item["id"]
        while key in first:
            key = first[key]
        found.setdefault(item["source"], []).append(key)
    return found


def split(records: Iterable[Record], splitter: Splitter, few: bool) -> dict[str, Any]:
    """Assign the records; return counts. `few`: whether fewer than FEW records are allowed.

    Raises GradusError if there are too few records, or if all are in one group and therefore in one split.
    """
    groups: set[str] = set()
    total = augmented = 0
    for record in tqdm(records, desc="splitting", unit="row", mininterval=1):
        splitter.add(record)
        total += 1
        augmented += record.augmented
        if len(groups) < 2:
            groups.add(record.group)
    if total - augmented < FEW and not few:
        raise GradusError(
            f"only {total - augmented} records are left after checking and deduplication; training and evaluation are "
            f"meaningless with fewer than {FEW}. Add rows, or set data.allow_few: true to try anyway."
        )
    sizes = Counter(place for key, place in splitter.splits.items() if key not in splitter.dropped)
    if splitter.by == "group" and len(groups) == 1 and groups != {""} and len(sizes) == 1:
        raise GradusError(
            f"all {total} records are in one group, {next(iter(groups))!r}, and so in one split, {next(iter(sizes))}. "
            "Set split.by: row to divide the group, or correct the groups of the rows."
        )
    apart = sum(reason.startswith(AUGMENTED) for reason in splitter.dropped.values())
    return {
        "records": total,
        "splits": {name: sizes[name] for name in SPLITS if sizes[name]},
        "left_out": len(splitter.dropped) - apart,
        **({"augmented_left_out": apart} if apart else {}),
    }


def divided(records: Iterable[Record], splitter: Splitter) -> Iterator[dict[str, Any]]:
    """Yield the kept records, as JSON objects with their split."""
    for record in records:
        if record.id not in splitter.dropped:
            record.split, record.near = splitter.splits[record.id], []
            yield record.to_json()


def left_out(records: str | Path, splitter: Splitter) -> Iterator[dict[str, Any]]:
    """Yield the records that were left out, with the reason."""
    for record in read_records(records):
        if reason := splitter.dropped.get(record.id):
            split = splitter.splits[record.id]
            yield {"id": record.id, "source": record.source, "split": split, "reason": reason}


if job := find_job(globals()):
    with logging_to(job.log[0]):
        sources = find_copies(read_jsonl(job.input.replaced))
        decided = Splitter(job.params.seed, **job.params.split, sources=sources)
        summary = split(read_records(job.input.records), decided, job.params.allow_few)
        write_jsonl(job.output.records, divided(read_records(job.input.records), decided))
        write_jsonl(job.output.left_out, left_out(job.input.records, decided) if decided.dropped else ())
        write_json(job.output.given, sorted(decided.given))
        write_json(job.output.counts, summary)
