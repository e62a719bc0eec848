"""Make the questions outside the task that every model answers, once for the run.

In: the World Factbook. Out: one question per line (id, kind, level, prompt, answer, check, guess).
"""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from scripts.common.io import write_jsonl
from scripts.common.job import find_job
from scripts.common.logs import logging_to
from scripts.common.sources import require_sha256
from scripts.forgetting.factbook import Country, countries
from scripts.forgetting.kinds import KINDS, LEVELS


def questions(count: int, seed: int, known: Sequence[Country]) -> list[dict[str, Any]]:
    """Return `count` questions of each kind, shared among the levels, easy ones first; the same for the same seed.

    `known`: the countries, for questions about facts. A level that has fewer questions gives all of them.
    """
    found = []
    for name, kind in KINDS.items():
        for place, level in enumerate(LEVELS):
            share = (count + len(LEVELS) - 1 - place) // len(LEVELS)
            for number, question in enumerate(kind.make(level, share, seed, known) if share else [], 1):
                found.append({"id": f"{name}-{level}-{number}", "kind": name, "level": level, **asdict(question)})
    return found


if job := find_job(globals()):
    with logging_to(job.log[0]):
        require_sha256(job.input.factbook, job.params.sha256)
        made = questions(job.params.each, job.params.seed, countries(job.input.factbook))
        write_jsonl(job.output.questions, made)
