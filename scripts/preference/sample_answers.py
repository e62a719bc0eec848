"""Let the model after a supervised phase answer training rows several times at a temperature, for pairs.

In: its GGUF, the training rows, the chat contract. Out: one line per answer (id, sample, text, stopped, token counts),
the answers to a row one after the other; and the speed, with the GGUF's hash.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from scripts.common.chat import ChatContract, read_contract
from scripts.common.generate import answer_records, render_prompts
from scripts.common.gpus import choose_layers
from scripts.common.hashing import sha256_text, unit_hash
from scripts.common.io import write_json, write_jsonl
from scripts.common.job import find_job
from scripts.common.logs import logging_to
from scripts.common.prompts import conversations
from scripts.common.records import Record, read_records


def choose_rows(train: Sequence[Record], rows: int | None, seed: int) -> list[Record]:
    """Return at most `rows` training rows that are no augmented ones, all if None, drawn at random by `seed`. An edited
    row moves no others.
    """
    own = [record for record in train if not record.augmented]
    return sorted(own, key=lambda record: (unit_hash(seed, "preference", record.id), record.id))[:rows]


def sample_seed(seed: int, record: Record, number: int) -> int:
    """Return the seed of one answer's generator: it depends on nothing but the run's seed, the row and the number."""
    return int(sha256_text(f"{seed} {record.id} {number}"), 16)


def sample_answers(
    gguf: str | Path,
    contract: ChatContract,
    asked: Sequence[Record],
    seed: int,
    samples: int,
    temperature: float,
    settings: Mapping[str, Any],
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Return `samples` answers to each record, numbered from 1, and a summary as of rule `answer`.

    `settings`: max_tokens, sequences, threads and gpu_layers of `answer_records`.
    """
    prompts = render_prompts(gguf, contract, conversations(contract, asked))
    each = [(record, prompt, n) for record, prompt in zip(asked, prompts, strict=True) for n in range(1, samples + 1)]
    given, speed = answer_records(
        gguf,
        [record for record, _, _ in each],
        [prompt for _, prompt, _ in each],
        temperature=temperature,
        seeds=[sample_seed(seed, record, number) for record, _, number in each],
        **settings,
    )
    return [{**row, "sample": number} for row, (_, _, number) in zip(given, each, strict=True)], speed


if job := find_job(globals()):
    with logging_to(job.log[0]):
        drawn = int(job.wildcards.seed)
        layers = choose_layers(job.params.answer["gpu_layers"])
        lines, speed = sample_answers(
            job.input.gguf,
            read_contract(job.input.contract),
            choose_rows(list(read_records(job.input.train)), job.params.rows, drawn),
            drawn,
            job.params.samples,
            job.params.temperature,
            {**job.params.answer, "gpu_layers": layers},
        )
        write_jsonl(job.output.samples, lines)
        write_json(job.output.speed, speed)
