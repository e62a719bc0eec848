"""Select the rows that one arm trains on in each phase, step by step.

In: scored training records, their scores, the tokenizer and the chat contract (to count tokens). Out: one file per
phase, each row with its step number; the schedule (optimizer steps per phase); the exposure ledger.
"""

from scripts.common.chat import read_contract
from scripts.common.curriculum import read_curriculum
from scripts.common.io import read_jsonl, write_json, write_jsonl
from scripts.common.job import find_job
from scripts.common.logs import logging_to
from scripts.common.records import read_records, write_steps
from scripts.common.tokens import TokenCounter
from scripts.curriculum.arms import Arm, lay_out_phases, ledger

if job := find_job(globals()):
    with logging_to(job.log[0]):
        train = list(read_records(job.input.records))
        counted = TokenCounter(job.input.tokenizer, read_contract(job.input.contract)).count(train)
        lengths = {record.id: sum(both) for record, both in zip(train, counted, strict=True)}
        scores = {row["id"]: row["score"] for row in read_jsonl(job.input.scores) if row["split"] == "train"}
        curriculum = read_curriculum(job.params.curriculum)
        phases = lay_out_phases(
            train,
            Arm(**job.params.arm),
            curriculum,
            int(job.wildcards.seed),
            job.params.batch_size,
            lengths,
            scores,
        )
        laid = dict(phases)
        for path, steps in zip(job.output.phases, laid.values(), strict=True):
            write_jsonl(path, write_steps(steps))
        write_json(job.output.schedule, {name: len(steps) for name, steps in laid.items()})
        write_json(job.output.ledger, ledger(laid, curriculum, lengths))
