"""What the contenders that need no model have in common: which rows may not help each other, and what they write."""

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from scripts.common.answers import Answer, make_rows, make_speed, sample
from scripts.common.io import write_json, write_jsonl
from scripts.common.records import Record, read_records, split_sources

Respond = Callable[[Sequence[Record]], Sequence[str]]  # records → their answers


def without_mixed(records: Iterable[Record]) -> list[Record]:
    """Return the records but for augmented ones that were made from several: they would make all their rows kin."""
    return [row for row in records if not (row.augmented and len(split_sources(row.source)) > 1)]


def number_kin(records: Sequence[Record], by: str) -> np.ndarray:
    """Return a number for each record, the same for those that always share a split, shape (records).

    So do an augmented row and the rows of its source, as far as it is trained at all.

    `by`: the config's `split.by`. A contender that is measured on training rows must not use a row's kin, because
    held-out rows have none among the training rows.
    """
    keys = [(record.group if by == "group" else "") or record.thread or record.id for record in records]
    kin = np.unique(keys, return_inverse=True)[1]
    made_from = {record.source for record in records if record.augmented}
    rows = [place for place, record in enumerate(records) if record.source in made_from]
    if not rows:
        return kin
    # an augmented row is kin of all rows of its source, and so of theirs
    origins = np.unique([records[place].source for place in rows], return_inverse=True)[1] + len(records)
    size = 2 * len(records)
    graph = coo_matrix((np.ones(len(rows)), (kin[rows], origins)), shape=(size, size))
    return connected_components(graph, directed=False)[1][kin]


def write_answers(job: Any, respond: Respond, fit_seconds: float) -> None:
    """Answer the splits of a job and write answers and speed.

    They have no tokens; `fit_seconds` is the time that the choice and the fit took, once for all splits.
    """
    files = zip(job.input.records, job.output.answers, job.output.speed, job.params.max_rows, strict=True)
    for records, answers, speed, max_rows in files:
        asked = sample(list(read_records(records)), max_rows)
        began = time.monotonic()
        given = [Answer(text, True, None, None) for text in respond(asked)]
        seconds = time.monotonic() - began
        rows = make_rows(asked, given)
        write_jsonl(answers, rows)
        write_json(speed, {**make_speed(rows, seconds), "fit_seconds": round(fit_seconds, 2)})
