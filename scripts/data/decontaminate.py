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
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from scipy.sparse import csc_matrix
from tqdm import tqdm

from scripts.common.errors import GradusError
from scripts.common.io import Rows, atomic_open, write_json, write_jsonl
from scripts.common.job import find_job
from scripts.common.logs import logging_to
from scripts.common.near_copies import near_copies
from scripts.common.ngrams import distinct_grams, find_shared, grams, hits
from scripts.common.parallel import chunks, in_order
from scripts.common.records import Record


@dataclass
class Sides:
    """The numbers of the held-out rows, of the training rows, and of the augmented ones."""

    held_out: list[int] = field(default_factory=list)
    train: list[int] = field(default_factory=list)
    augmented: list[int] = field(default_factory=list)


def sides_of(rows: Rows, processes: int = 1) -> Sides:
    """Return which rows are on which side."""

    def side(row: dict[str, Any]) -> str:
        return "augmented" if row.get("augmented") else "train" if row["split"] == "train" else "held_out"

    def work(numbers: range) -> list[str]:
        return [side(rows[number]) for number in numbers]

    sides = Sides()
    parts = in_order(work, chunks(range(len(rows)), 2000), processes)
    for number, name in enumerate(chain.from_iterable(parts)):
        getattr(sides, name).append(number)
    return sides


def asked_by(rows: Rows, number: int) -> str:
    """Return what a row asks."""
    return Record(**rows[number]).asked


def grams_of(
    rows: Rows, numbers: list[int], size: int, what: str, processes: int, known: np.ndarray | None = None
) -> Iterator[np.ndarray]:
    """Yield the `grams` of what each row asks, or their `hits` in `known`; `what` labels the progress bar."""

    def work(some: list[int]) -> list[np.ndarray]:
        found = [grams(asked_by(rows, number), size) for number in some]
        return found if known is None else [hits(known, theirs) for theirs in found]

    parts = in_order(work, chunks(numbers, 2000), processes)
    yield from tqdm(chain.from_iterable(parts), desc=what, total=len(numbers), unit="row", mininterval=1)


def overlaps(rows: Rows, sides: Sides, size: int, processes: int) -> Iterator[tuple[int, int, float]]:
    """Yield (held-out row, training row with the largest overlap, share of its n-grams found in training)."""
    own = list(grams_of(rows, sides.held_out, size, "n-grams", processes))
    known = distinct_grams(own)
    trained = zip(sides.train, grams_of(rows, sides.train, size, "overlap", processes, known), strict=True)
    for number, mine, found in zip(sides.held_out, own, find_shared(own, known, trained), strict=True):
        if found:
            yield number, Counter(found).most_common(1)[0][0], len(found) / len(mine)


def crossing(
    rows: Rows, held_out: Sequence[int], others: Sequence[int], threshold: float, processes: int
) -> Iterator[tuple[int, int, float]]:
    """Yield the near-copies: (held-out row, row of `others`, similarity)."""
    order = [*held_out, *others]  # held-out rows first, so that every row of a bucket is compared with some of them
    found = near_copies(
        len(order),
        lambda position: asked_by(rows, order[position]),
        threshold,
        anchors=4,
        wanted=lambda first, second: first < len(held_out) <= second,
        processes=processes,
    )
    for first, second, similarity in found:
        yield order[first], order[second], similarity


def find_augmented(
    rows: Rows, sides: Sides, threshold: float, ngram: int, ngram_share: float, processes: int = 1
) -> set[int]:
    """Return the numbers of the augmented rows that come too close to a held-out row.

    They are near-copies of one, or would be what lifts the share of its n-grams in training to `ngram_share`: training
    rows count first, then the augmented rows in their order.
    """
    if not sides.augmented or not sides.held_out:
        return set()
    gone = {number for _, number, _ in crossing(rows, sides.held_out, sides.augmented, threshold, processes)}
    own = list(grams_of(rows, sides.held_out, ngram, "n-grams", processes))
    known = distinct_grams(own)
    place = np.concatenate([hits(known, mine) for mine in own])
    sizes = np.array([len(mine) for mine in own])
    owner = np.repeat(np.arange(len(own)), sizes)
    times = csc_matrix((np.ones(len(place)), (owner, place)), shape=(len(own), len(known)))  # of a gram in a text
    trained = np.zeros(len(known), dtype=bool)  # whether training has the n-gram
    counts = np.zeros(len(own))  # of each held-out row's n-grams that training has
    order, augmented = [*sides.train, *sides.augmented], set(sides.augmented)
    theirs = grams_of(rows, order, ngram, "augmented", processes, known)
    for number, found in zip(order, theirs, strict=True):
        new = np.unique(found[~trained[found]])
        if number in gone or not len(new):
            continue
        after = counts + np.asarray(times[:, new].sum(axis=1)).ravel()
        clean = counts / np.maximum(sizes, 1) < ngram_share
        if number in augmented and (clean & (after / np.maximum(sizes, 1) >= ngram_share)).any():
            gone.add(number)
        else:
            trained[new], counts = True, after
    return gone


def find_pairs(
    rows: Rows, sides: Sides, threshold: float, ngram: int, ngram_share: float, processes: int = 1
) -> dict[int, dict[str, Any]]:
    """Return the pairs of too similar held-out and training rows, by the held-out row's number.

    Augmented rows are none of these: they go, whatever is to be done about the others (`find_augmented`).
    """
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

    for one, other, similarity in crossing(rows, sides.held_out, sides.train, threshold, processes):
        note(one, other, "near-copy", similarity)
    for one, other, share in overlaps(rows, sides, ngram, processes):
        if share >= ngram_share:
            note(one, other, "n-grams", share)
    return dict(sorted(found.items()))


def kept(records: str | Path, gone: set[int]) -> Iterator[str]:
    """Yield the lines of the records whose numbers are not in `gone`."""
    with open(records, encoding="utf-8", newline="\n") as handle:
        for number, line in enumerate(handle):
            if number not in gone:
                yield line


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
        rows = Rows(job.input.records)
        sides = sides_of(rows, job.threads)
        limits = {name: settings[name] for name in ("threshold", "ngram", "ngram_share")}
        alike = find_pairs(rows, sides, **limits, processes=job.threads)
        leave_out = settings["found"] == "leave-out"
        if not leave_out:
            gate(list(alike.values()), len(sides.held_out), settings["max_share"])
        copies = find_augmented(rows, sides, **limits, processes=job.threads)
        left_out = set(alike) if leave_out else set()
        with atomic_open(job.output.dataset) as handle:
            handle.writelines(kept(job.input.records, left_out | copies))
        write_jsonl(job.output.pairs, alike.values())
        kinds = Counter(f"{pair['split']}: {pair['check']}" for pair in alike.values())
        more = {"augmented_left_out": len(copies)} if copies else {}
        counts = {"train": len(sides.train), "held_out": len(sides.held_out), "found": dict(kinds)}
        write_json(job.output.counts, {**counts, "left_out": len(left_out), **more})
