"""Let the model after a supervised phase answer training rows several times at a temperature, for pairs.

In: its GGUF, the training rows, the chat contract. Out: one line per answer (id, sample, text, stopped, token counts,
the GGUF's hash), the answers to a row one after the other; and the speed.
"""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from scripts.common.answers import make_rows, make_speed
from scripts.common.chat import ChatContract, read_contract
from scripts.common.generate import answer_all, render_prompts
from scripts.common.gpus import choose_layers, gpu_name
from scripts.common.hashing import sha256_file, sha256_text, unit_hash
from scripts.common.io import write_json, write_jsonl
from scripts.common.isolate import run_isolated
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

    `settings`: max_tokens, sequences, threads and gpu_layers of `answer_all`.
    """
    prompts = render_prompts(gguf, contract, conversations(contract, asked))
    each = [(record, prompt, n) for record, prompt in zip(asked, prompts, strict=True) for n in range(1, samples + 1)]
    began = time.monotonic()
    answers = run_isolated(
        f"answering with {gguf}",
        answer_all,
        str(gguf),
        [prompt for _, prompt, _ in each],
        names=[record.source or record.id for record, _, _ in each],
        temperature=temperature,
        seeds=[sample_seed(seed, record, number) for record, _, number in each],
        **settings,
    )
    seconds = time.monotonic() - began
    sha256 = sha256_file(gguf)
    given = make_rows([record for record, _, _ in each], answers)
    rows = [{**row, "sample": number, "gguf_sha256": sha256} for row, (_, _, number) in zip(given, each, strict=True)]
    computed = {"gpu": gpu_name(settings["gpu_layers"])} if settings["gpu_layers"] else {}
    return rows, {"gguf_sha256": sha256, **make_speed(rows, seconds), **computed}


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
