"""The gate between training and evaluation: finds held-out rows whose prompts also occur in the training rows.

In: split records. Out: the dataset, without contaminated held-out rows if they are to be left out; the contaminated
pairs; counts. Two checks on prompts: near-copies (the Jaccard similarity of near_copies.py), and n-gram overlap, the
share of a held-out prompt's word n-grams that occur in training prompts (8-grams and a share of 0.7 are PaLM's
definition, Chowdhery et al. 2022, arXiv 2204.02311, section 8).
"""

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from scripts.common.errors import GradusError
from scripts.common.io import read_jsonl, write_json, write_jsonl
from scripts.common.job import find_job
from scripts.common.logs import logging_to
from scripts.common.ngrams import find_shared, grams
from scripts.common.records import Record, read_records
from scripts.data.near_copies import Rows, near_copies


def overlaps(
    records: str | Path, held_out: Sequence[int], train: Sequence[int], size: int
) -> Iterator[tuple[int, int, float]]:
    """Yield (held-out row, training row with the largest overlap, share of its n-grams found in training)."""
    rows = Rows(records)
    own = [grams(Record(**rows[number]).asked, size) for number in tqdm(held_out, desc="n-grams", mininterval=1)]
    trained = (
        (number, grams(Record(**rows[number]).asked, size))
        for number in tqdm(train, desc="overlap", unit="row", mininterval=1)
    )
    for number, mine, found in zip(held_out, own, find_shared(own, trained), strict=True):
        if found:
            yield number, Counter(found).most_common(1)[0][0], len(found) / len(mine)


def find_pairs(
    records: str | Path, threshold: float, ngram: int, ngram_share: float
) -> tuple[list[dict[str, Any]], dict[str, int]]:
    """Return the pairs of too similar held-out and training rows, one per held-out row, and the rows of each side."""
    rows = Rows(records)
    sides: dict[bool, list[int]] = {True: [], False: []}
    for number, record in enumerate(read_records(records)):
        sides[record.split == "train"].append(number)
    train, held_out = sides[True], sides[False]
    order = [*held_out, *train]  # held-out rows first, so that every row of a bucket is compared with some of them
    found: dict[int, dict[str, Any]] = {}

    def note(one: int, other: int, kind: str, value: float) -> None:
        if one not in found:
            mine, theirs = Record(**rows[one]), Record(**rows[other])
            found[one] = {
                "id": mine.id,
                "split": mine.split,
                "sources": [mine.source, theirs.source],
                "prompts": [mine.prompt[:300], theirs.prompt[:300]],
                "check": kind,
                "value": round(value, 3),
            }

    crossing = near_copies(
        len(order),
        lambda position: Record(**rows[order[position]]).asked,
        threshold,
        anchors=4,
        wanted=lambda first, second: first < len(held_out) <= second,
    )
    for first, second, similarity in crossing:
        note(order[first], order[second], "near-copy", similarity)
    for one, other, share in overlaps(records, held_out, train, ngram):
        if share >= ngram_share:
            note(one, other, "n-grams", share)
    return [found[number] for number in sorted(found)], {"train": len(train), "held_out": len(held_out)}


def gate(pairs: Sequence[dict[str, Any]], held_out: int, max_share: float) -> None:
    """Raise GradusError that lists pairs if more than `max_share` of the held-out rows are contaminated."""
    if len(pairs) <= max_share * held_out:
        return
    lines = [f"{p['split']} {p['sources'][0]} ~ train {p['sources'][1]} ({p['check']} {p['value']:g})" for p in pairs]
    for pair in pairs:
        logging.error("%s", pair)
    more = f"\n  … and {len(lines) - 5} more, all in this rule's log" if len(lines) > 5 else ""
    raise GradusError(
        f"{len(pairs)} of {held_out} held-out rows ask what training rows ask "
        f"(decontaminate.max_share allows {max_share:g}):\n  " + "\n  ".join(lines[:5]) + more + "\n"
        "They would inflate the evaluation's results. Set decontaminate.found: leave-out to evaluate without them, or "
        "fix the data."
    )


if job := find_job(globals()):
    with logging_to(job.log[0]):
        settings = job.params.decontaminate
        alike, sides = find_pairs(job.input.records, settings["threshold"], settings["ngram"], settings["ngram_share"])
        leave_out = settings["found"] == "leave-out"
        if not leave_out:
            gate(alike, sides["held_out"], settings["max_share"])
        gone = {pair["id"] for pair in alike} if leave_out else set()
        write_jsonl(job.output.dataset, (row for row in read_jsonl(job.input.records) if row["id"] not in gone))
        write_jsonl(job.output.pairs, alike)
        kinds = Counter(f"{pair['split']}: {pair['check']}" for pair in alike)
        write_json(job.output.counts, {**sides, "found": dict(kinds), "left_out": len(gone)})
