"""What the contenders that need no model have in common: which rows may not help each other, and what they write."""

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from scripts.common.answers import Answer, make_rows, make_speed, sample
from scripts.common.io import write_json, write_jsonl
from scripts.common.records import Record, read_records, split_sources

Respond = Callable[[Sequence[Record]], Sequence[str]]  # records → their answers


def number_kin(records: Sequence[Record], by: str) -> np.ndarray:
    """Return a number for each record, the same for those that always share a split, shape (records).

    So do an augmented row and the rows of its source, as far as it is trained at all.

    `by`: the config's `split.by`. A contender that is measured on training rows must not use a row's kin, because
    held-out rows have none among the training rows.
    """
    keys = [(record.group if by == "group" else "") or record.thread or record.id for record in records]
    kin = np.unique(keys, return_inverse=True)[1]
    made_from = {source for record in records if record.augmented for source in split_sources(record.source)}
    pairs = [
        (place, source)
        for place, record in enumerate(records)
        for source in (split_sources(record.source) if record.augmented else [record.source])
        if source in made_from
    ]
    if not pairs:
        return kin
    rows = [place for place, _ in pairs]
    # an augmented row is kin of all rows of its sources, and so of theirs
    origins = np.unique([source for _, source in pairs], return_inverse=True)[1] + len(records)
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
