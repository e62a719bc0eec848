"""Find the training rows that are most like each row of a split, for examples in prompts.

In: the training rows, the split's rows. Out: one line per row of the split, {id, neighbors}: the ids of at most
NEIGHBORS training rows, the nearest first, by BM25 over everything that the model reads (earlier turns and prompt).
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from scripts.common.answers import read_training
from scripts.common.io import write_jsonl
from scripts.common.job import find_job
from scripts.common.logs import logging_to
from scripts.common.records import Record, read_records
from scripts.common.shots import NEIGHBORS
from scripts.contenders.similarity import find_nearest, index_bm25


def find_neighbors(train: Sequence[Record], records: Iterable[Record]) -> Iterator[dict[str, Any]]:
    """Yield {id, neighbors} of each record. Rows that are equally near are in the order of the training rows."""
    asked = list(records)
    if not asked:
        return
    score = index_bm25([row.asked for row in train])
    for record, scores in zip(asked, score([record.asked for record in asked]), strict=True):
        yield {"id": record.id, "neighbors": [train[place].id for place in find_nearest(scores, NEIGHBORS)]}


if job := find_job(globals()):
    with logging_to(job.log[0]):
        write_jsonl(
            job.output.neighbors,
            find_neighbors(read_training(job.input.train), read_records(job.input.records)),
        )
