"""Remove exact duplicates; find near-copies and contradictions.

In: masked records. Out: records, each with the ids of earlier near-copies (`near`; the split rule keeps them together),
and the rejected answers of its exact duplicates; rows that were left out, with the reason; contradictory rows; counts.

Rows of eval-own are always compared by their prompts: they may have the response of a training row, not ask the same.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from tqdm import tqdm

from scripts.common.hashing import sha256_text
from scripts.common.io import Rows, atomic_open, dump_line, write_json, write_jsonl
from scripts.common.job import find_job
from scripts.common.logs import logging_to
from scripts.common.near_copies import near_copies
from scripts.common.parallel import chunks, in_order
from scripts.common.records import OWN, Record, distinct, normal

COPY = "near-copy of "  # the reason of a row that is thinned out, before the id of the earlier row


def key(text: str) -> int:
    """Return a 64-bit hash of a text."""
    return int(sha256_text(text)[:16], 16)


def text_of(record: Record, by: str) -> str:
    """Return the text that is compared to find near-copies: `prompt` (with earlier turns), or `response`."""
    return record.response if by == "response" else record.asked


@dataclass
class Pass:
    """What one pass over the rows finds, as row numbers; of two exact duplicates, the first is kept."""

    kept: list[int] = field(default_factory=list)
    own: set[int] = field(default_factory=set)  # kept rows of eval-own
    augmented: set[int] = field(default_factory=set)  # kept rows
    left_out: list[dict[str, Any]] = field(default_factory=list)  # the exact duplicates
    same_prompt: list[tuple[int, int]] = field(default_factory=list)  # pairs of rows
    rejected: dict[str, list[str]] = field(default_factory=dict)  # rejected answers of exact duplicates, by id


def first_pass(rows: Rows, processes: int = 1) -> Pass:
    """Find exact duplicates, whose prompt and response differ only in whitespace, and rows with the same prompt."""

    def facts(record: Record) -> tuple[int, int, bool, bool]:
        return int(record.id, 16), key(normal(record.asked)), record.split == OWN, record.augmented

    def work(numbers: range) -> list[tuple[int, int, bool, bool]]:
        return [facts(Record(**rows[number])) for number in numbers]

    found = Pass()
    seen: set[int] = set()
    asked: dict[int, int] = {}
    parts = chain.from_iterable(in_order(work, chunks(range(len(rows)), 2000), processes))
    progress = tqdm(parts, desc="duplicates", total=len(rows), unit="row", mininterval=1)
    for number, (own, question, is_own, augmented) in enumerate(progress):
        if own in seen:
            record = Record(**rows[number])
            found.left_out.append(left(record.to_json(), "exact duplicate"))
            if record.rejected:
                found.rejected.setdefault(record.id, []).extend(record.rejected)
            continue
        seen.add(own)
        first = asked.setdefault(question, number)
        if first != number:
            found.same_prompt.append((first, number))
        found.kept.append(number)
        if is_own:
            found.own.add(number)
        if augmented:
            found.augmented.add(number)
    return found


def find_asked(
    rows: Rows, own: list[int], others: list[int], threshold: float, processes: int
) -> list[tuple[int, int]]:
    """Return the pairs of a row of eval-own and another row whose prompts are near-copies, each as (earlier, later)."""
    order = [*own, *others]  # own rows first, so that every row of a bucket is compared with some of them
    found = near_copies(
        len(order) if own else 0,
        lambda position: Record(**rows[order[position]]).asked,
        threshold,
        anchors=4,
        wanted=lambda first, second: first < len(own) <= second,
        processes=processes,
    )
    return [(min(pair), max(pair)) for pair in ((order[a], order[b]) for a, b, _ in found)]


def left(row: Mapping[str, Any], reason: str) -> dict[str, Any]:
    """Return an entry for the list of rows that were left out."""
    marks = {"augmented": True} if row.get("augmented") else {}
    return {"id": row["id"], "source": row["source"], "reason": reason, **marks}


def add_rejected(row: Mapping[str, Any], more: Sequence[str]) -> dict[str, Any]:
    """Return a row with further rejected answers: those that it has not, and that are not among its right ones."""
    own = row.get("rejected", [])
    new = distinct(more, [row["response"], *row.get("accepted", ()), *own])
    return {**row, "rejected": [*own, *new]} if new else dict(row)


def contradiction(first: Record, second: Record) -> dict[str, Any]:
    """Return an entry for the list of contradictions: two rows with the same prompt and different responses."""
    return {
        "prompt": first.prompt[:300],
        "sources": [first.source, second.source],
        "responses": [first.response[:300], second.response[:300]],
    }


def deduplicate(
    records: str | Path, output: str | Path, by: str, threshold: float, near: str, processes: int = 1
) -> tuple[list[dict[str, Any]], list[dict[str, Any]], dict[str, Any]]:
    """Write the records to keep; return (left out, contradictions, counts).

    `near`: `together` keeps near-copies and links them, `thin` keeps only the first, and augmented rows.
    Links point to earlier rows, so that rows added at the end do not change earlier records.
    """
    rows = Rows(records)
    found = first_pass(rows, processes)
    left_out, same_prompt = found.left_out, found.same_prompt
    kept = [number for number in found.kept if number not in found.own]

    def text(position: int) -> str:
        return text_of(Record(**rows[kept[position]]), by)

    pairs = [(kept[a], kept[b]) for a, b, _ in near_copies(len(kept), text, threshold, processes=processes)]
    copies = {second for _, second in pairs}
    pairs += find_asked(rows, sorted(found.own), kept, threshold, processes)
    links: dict[int, list[int]] = {}
    for first, second in sorted({*pairs, *same_prompt}):
        links.setdefault(second, []).append(first)
    # clusters are of rows that no rule made; augmented rows come last, so no edge leads over them
    plain = [number for number in found.kept if number not in found.augmented]
    given = set(plain)
    edges = np.array([(a, b) for b, firsts in links.items() if b in given for a in firsts], np.int64).reshape(-1, 2)
    graph = coo_matrix((np.ones(len(edges)), (edges[:, 0], edges[:, 1])), shape=(len(rows), len(rows)))
    labels = connected_components(graph, directed=False)[1][plain] if plain else np.zeros(0, dtype=int)
    sizes = np.unique(labels, return_counts=True)[1]
    reasons = Counter(item["reason"] for item in left_out)
    written = 0
    rejected: Counter[str] = Counter()  # rejected answers of rows that were left out
    with atomic_open(output) as handle:
        for number in found.kept:
            line = rows.line(number)
            if found.rejected and (more := found.rejected.get(rows[number]["id"])):
                row = json.loads(line)
                whole = add_rejected(row, more)
                rejected["kept"] += len(whole.get("rejected", ())) - len(row.get("rejected", ()))
                line = dump_line(whole)
            if number in links:
                row = json.loads(line)
                row["near"] = [rows[first]["id"] for first in links[number]]
                if near == "thin" and number in copies and not row.get("augmented"):
                    left_out.append(left(row, COPY + row["near"][0]))
                    reasons["near-copy"] += 1
                    rejected["left_out"] += len(row.get("rejected", ()))
                    continue
                line = dump_line(row)
            handle.write(line)
            written += 1
    contradictions = [contradiction(Record(**rows[a]), Record(**rows[b])) for a, b in same_prompt]
    counts = {
        "rows": len(rows),
        "records": written,
        "left_out": dict(reasons),
        "by": by,
        "threshold": threshold,
        "clusters": len(sizes),
        "rows_with_near_copies": int(sizes[sizes > 1].sum()),
        "largest_cluster": int(sizes.max()) if len(sizes) else 0,
        "contradictions": len(contradictions),
        **({"rejected": dict(+rejected)} if +rejected else {}),
    }
    return left_out, contradictions, counts


if job := find_job(globals()):
    with logging_to(job.log[0]):
        dropped, contradictory, summary = deduplicate(
            job.input.records, job.output.records, **job.params.deduplicate, processes=job.threads
        )
        write_jsonl(job.output.left_out, dropped)
        write_jsonl(job.output.contradictions, contradictory)
        write_json(job.output.counts, summary)
