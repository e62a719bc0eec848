"""Answer with the response of the nearest training row.

In: the training rows, the rows of each split. Out: answers and speed of each split, and choice.json: the similarity
(similarity.py) that was chosen, and what each one reached on training rows whose own response is left out.
"""

import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from scripts.common.answers import read_training, sample
from scripts.common.io import write_json
from scripts.common.job import find_job
from scripts.common.logs import logging_to
from scripts.common.records import Record
from scripts.contenders.contender import Respond, number_kin, without_mixed, write_answers
from scripts.contenders.similarity import SIMILARITIES, find_nearest
from scripts.tasks.table import load_task
from scripts.tasks.task import Task

MOST_TRIED = 2000  # training rows that are answered to choose; those with the smallest ids, a fair sample


def fit(train: Sequence[Record], similarity: str) -> Respond:
    """Return a function that answers records with the responses of their nearest training rows."""
    score = SIMILARITIES[similarity]([row.asked for row in train])

    def respond(asked: Sequence[Record]) -> list[str]:
        found = score([record.asked for record in asked])
        return [train[find_nearest(scores, 1)[0]].response for scores in found]

    return respond


def fit_answer(train: Sequence[Record], asked: Sequence[Record], similarity: str = "bm25") -> list[str]:
    """Return the answers to `asked`."""
    return list(fit(train, similarity)(asked))


def leave_one_out(train: Sequence[Record], by: str, similarity: str) -> list[tuple[Record, str, bool]]:
    """Return (training row, the response of the nearest one that is not of its kin, True); rows that have only kin are
    left out.
    """
    kin = number_kin(train, by)
    place = {row.id: number for number, row in enumerate(train)}
    asked = sample(train, MOST_TRIED)
    score = SIMILARITIES[similarity]([row.asked for row in train])
    answers = []
    for row, scores in zip(asked, score([row.asked for row in asked]), strict=True):
        others = np.flatnonzero(kin != kin[place[row.id]])
        if len(others):
            answers.append((row, train[others[find_nearest(scores[others], 1)[0]]].response, True))
    return answers


def choose(train: Sequence[Record], by: str, task: Task) -> dict[str, Any]:
    """Return {similarity, tried}: the best by the task's main metric; of equally good ones by its further metrics, in
    their order; then the first in the table. `tried` has the metrics that were needed to decide.
    """
    answers = {similarity: leave_one_out(train, by, similarity) for similarity in SIMILARITIES}
    tried: dict[str, dict[str, Any]] = {similarity: {} for similarity in SIMILARITIES}
    left = list(SIMILARITIES)
    for name in [task.headline, *(name for name in task.metrics if name != task.headline)]:
        for similarity in left:
            tried[similarity][name] = task.average(name, answers[similarity])
        values = {similarity: tried[similarity][name]["value"] or 0 for similarity in left}
        left = [similarity for similarity in left if values[similarity] == max(values.values())]
        if len(left) == 1:
            break
    listed = [{"similarity": similarity, "metrics": metrics} for similarity, metrics in tried.items()]
    return {"similarity": left[0], "tried": listed}


if job := find_job(globals()):
    with logging_to(job.log[0]):
        began = time.monotonic()
        rows = read_training(job.input.train)
        choice = choose(without_mixed(rows), job.params.by, load_task(job.params.task, job.params.headline))
        respond = fit(rows, choice["similarity"])
        write_answers(job, respond, time.monotonic() - began)
        write_json(job.output.choice, choice)
