"""The gate between training and evaluation: finds held-out rows whose prompts also occur in the training rows.

In: split records. Out: the dataset, without augmented rows that come too close to held-out ones, and without
contaminated held-out rows if they are to be left out; the contaminated pairs; counts. Two checks on prompts:
near-copies (the Jaccard similarity of near_copies.py), and n-gram overlap, the share of a held-out prompt's word
n-grams that occur in training prompts (8-grams and a share of 0.7 are PaLM's definition, Chowdhery et al.
2022, arXiv 2204.02311, section 8).
"""

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.sparse import csc_matrix
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


def sides_of(records: str | Path) -> tuple[list[int], list[int], list[int]]:
    """Return the numbers of the held-out rows, of the training rows, and of the augmented ones."""
    sides: dict[str, list[int]] = {"held_out": [], "train": [], "augmented": []}
    for number, record in enumerate(read_records(records)):
        sides["augmented" if record.augmented else "train" if record.split == "train" else "held_out"].append(number)
    return sides["held_out"], sides["train"], sides["augmented"]


def crossing(
    rows: Rows, held_out: Sequence[int], others: Sequence[int], threshold: float
) -> Iterator[tuple[int, int, float]]:
    """Yield the near-copies: (held-out row, row of `others`, similarity)."""
    order = [*held_out, *others]  # held-out rows first, so that every row of a bucket is compared with some of them
    found = near_copies(
        len(order),
        lambda position: Record(**rows[order[position]]).asked,
        threshold,
        anchors=4,
        wanted=lambda first, second: first < len(held_out) <= second,
    )
    for first, second, similarity in found:
        yield order[first], order[second], similarity


def find_augmented(records: str | Path, threshold: float, ngram: int, ngram_share: float) -> set[str]:
    """Return the ids of the augmented rows that come too close to a held-out row.

    They are near-copies of one, or would be what lifts the share of its n-grams in training to `ngram_share`: training
    rows count first, then the augmented rows in their order.
    """
    held_out, train, augmented = sides_of(records)
    if not augmented or not held_out:
        return set()
    rows = Rows(records)
    gone = {number for _, number, _ in crossing(rows, held_out, augmented, threshold)}
    own = [grams(Record(**rows[number]).asked, ngram) for number in held_out]
    index, place = np.unique(np.concatenate(own), return_inverse=True)
    sizes = np.array([len(mine) for mine in own])
    owner = np.repeat(np.arange(len(own)), sizes)
    times = csc_matrix((np.ones(len(place)), (owner, place)), shape=(len(own), len(index)))  # of a gram in a text
    known = np.zeros(len(index), dtype=bool)  # whether training has the n-gram
    counts = np.zeros(len(own))  # of each held-out row's n-grams that training has
    for number in tqdm([*train, *augmented] if len(index) else (), desc="augmented", unit="row", mininterval=1):
        record = Record(**rows[number])
        theirs = grams(record.asked, ngram)
        at = np.minimum(np.searchsorted(index, theirs), len(index) - 1)
        new = np.unique(at[(index[at] == theirs) & ~known[at]])
        if number in gone or not len(new):
            continue
        after = counts + np.asarray(times[:, new].sum(axis=1)).ravel()
        clean = counts / np.maximum(sizes, 1) < ngram_share
        if record.augmented and (clean & (after / np.maximum(sizes, 1) >= ngram_share)).any():
            gone.add(number)
        else:
            known[new], counts = True, after
    return {rows[number]["id"] for number in gone}


def find_pairs(
    records: str | Path, threshold: float, ngram: int, ngram_share: float
) -> tuple[list[dict[str, Any]], dict[str, int]]:
    """Return the pairs of too similar held-out and training rows, one per held-out row, and the rows of each side.

    Augmented rows are none of these: they go, whatever is to be done about the others (`find_augmented`).
    """
    rows = Rows(records)
    held_out, train, _ = sides_of(records)
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

    for one, other, similarity in crossing(rows, held_out, train, threshold):
        note(one, other, "near-copy", similarity)
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
        copies = find_augmented(job.input.records, settings["threshold"], settings["ngram"], settings["ngram_share"])
        left_out = {pair["id"] for pair in alike} if leave_out else set()
        gone = left_out | copies
        write_jsonl(job.output.dataset, (row for row in read_jsonl(job.input.records) if row["id"] not in gone))
        write_jsonl(job.output.pairs, alike)
        kinds = Counter(f"{pair['split']}: {pair['check']}" for pair in alike)
        more = {"augmented_left_out": len(copies)} if copies else {}
        write_json(job.output.counts, {**sides, "found": dict(kinds), "left_out": len(left_out), **more})
