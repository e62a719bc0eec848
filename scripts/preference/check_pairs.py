"""Check the pairs of the user's own, and the settings of preference tuning, before anything is trained.

In: the training rows with rejected answers, the held-out rows, tokenizer, chat contract and the task. Out: how many
pairs there are, and the tokens of the longest wrong answer that may come, for the estimate of memory.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from scripts.common.chat import read_contract
from scripts.common.errors import GradusError
from scripts.common.io import write_json
from scripts.common.job import find_job
from scripts.common.logs import logging_to
from scripts.common.pairs import Pair
from scripts.common.records import Record, normal, read_records
from scripts.common.tokens import TokenCounter
from scripts.tasks.table import load_task
from scripts.tasks.task import Task


def own_pairs(train: Iterable[Record]) -> Iterator[Pair]:
    """Yield a pair for each rejected answer of the user's own: against the row's response.

    Raises GradusError if a rejected answer is one of the row's right ones.
    """
    for record in train:
        right = {normal(version.response) for version in record.versions()}
        for text in record.rejected:
            if normal(text) in right:
                raise GradusError(
                    f"{record.source or record.id}: the rejected answer {text!r} is also the right one (spaces do not "
                    "count). Remove it from `rejected`, or correct the response"
                )
            yield Pair(record, text, {"made": "own"})


def refuse_held_out(pairs: Iterable[Pair], held_out: Iterable[Record]) -> None:
    """Raise GradusError if a pair asks what a held-out row asks."""
    sources = {normal(record.asked): record.source or record.id for record in held_out}
    for pair in pairs:
        if other := sources.get(normal(pair.record.asked)):
            raise GradusError(
                f"{pair.record.source or pair.record.id}: this training row asks the same as the held-out row {other}. "
                "Preference tuning on it would train what is evaluated. Remove one of the two rows, or set "
                "decontaminate.found: leave-out"
            )


def refuse_long(pairs: Sequence[Pair], lengths: Sequence[tuple[int, int]], max_length: int) -> None:
    """Raise GradusError that names the first pairs whose wrong answer does not fit; `lengths`: tokens of prompt and
    wrong answer of each.
    """
    long = [
        f"{pair.record.source or pair.record.id} ({asked + answer} tokens)"
        for pair, (asked, answer) in zip(pairs, lengths, strict=True)
        if asked + answer > max_length
    ]
    if long:
        raise GradusError(
            f"with their prompt, {len(long)} rejected answer{'s are' if len(long) > 1 else ' is'} longer than "
            f"train.max_length ({max_length} tokens): {', '.join(long[:3])}{' …' if len(long) > 3 else ''}. Shorten or "
            "remove them, or raise train.max_length"
        )


def check_metric(task: Task, metric: str | None) -> None:
    """Raise GradusError if the task has no such metric of a row."""
    if metric and metric not in task.row_names:
        raise GradusError(
            f"preference.metric: task {task.name} has no metric {metric!r} of a row; known: {', '.join(task.row_names)}"
        )


def require_some(own: int, settings: Mapping[str, Any]) -> None:
    """Raise GradusError if the pairs of the user's own are all that there will be, and too few."""
    if settings["rows"] == 0 and own < settings["min_pairs"]:
        raise GradusError(
            f"only {own} pairs for preference tuning, all from the field `rejected` of training rows, because "
            f"preference.rows is 0; preference.min_pairs is {settings['min_pairs']}. Give more rows the field, or set "
            "preference.rows, so that the model's own answers make pairs"
        )


if job := find_job(globals()):
    with logging_to(job.log[0]):
        settings = job.params.preference
        check_metric(load_task(job.params.task, job.params.headline), settings["metric"])
        pairs = list(own_pairs(read_records(job.input.rejected)))
        refuse_held_out(pairs, (record for path in job.input.held_out for record in read_records(path)))
        counter = TokenCounter(job.input.tokenizer, read_contract(job.input.contract))
        lengths = counter.count([replace(pair.record, response=pair.rejected) for pair in pairs])
        refuse_long(pairs, lengths, job.params.max_length)
        require_some(len(pairs), settings)
        sampled = job.params.max_tokens if settings["rows"] != 0 else 0
        longest = max([sampled, *(answer for _, answer in lengths)])
        write_json(job.output.checked, {"own_pairs": len(pairs), "wrong_tokens": longest})
