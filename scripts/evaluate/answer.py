"""Generate one model's answers to one split with llama.cpp: greedy decoding, with the chat template in the GGUF.

In: a GGUF, the split's records, the chat contract. Out: one answer per line (id, answer, stopped, token counts),
and the speed.
"""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from llama_cpp.llama_chat_format import Jinja2ChatFormatter

from scripts.common.chat import ChatContract, read_contract
from scripts.common.gguf_info import require_contract
from scripts.common.hashing import sha256_file
from scripts.common.io import write_json, write_jsonl
from scripts.common.isolate import run_isolated
from scripts.common.job import find_job
from scripts.common.logs import logging_to
from scripts.common.records import Record, read_records
from scripts.evaluate.answers import make_rows, make_speed, sample
from scripts.evaluate.generate import answer_all


def render_prompts(gguf: str | Path, contract: ChatContract, records: Sequence[Record]) -> list[str]:
    """Return each record's prompt, rendered with the template in the GGUF.

    Raises GradusError if that template is not the contract's.
    """
    template = require_contract(gguf, contract)["chat_template"]
    formatter = Jinja2ChatFormatter(template=template, eos_token=contract.end_of_turn, bos_token=contract.bos_token)
    conversations = [contract.ask(record) for record in records]
    return [formatter(messages=messages).prompt for messages in conversations]  # type: ignore[arg-type]


def answer(
    gguf: str | Path,
    records: Sequence[Record],
    contract: ChatContract,
    max_rows: int,
    max_tokens: int,
    sequences: int,
    threads: int,
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Return the answers to at most `max_rows` records, and a summary (rows, tokens, seconds)."""
    asked = sample(records, max_rows)
    prompts = render_prompts(gguf, contract, asked)
    began = time.monotonic()
    answers = run_isolated(f"answering with {gguf}", answer_all, str(gguf), prompts, max_tokens, sequences, threads)
    seconds = time.monotonic() - began
    rows = make_rows(asked, answers)
    return rows, {"gguf_sha256": sha256_file(gguf), **make_speed(rows, seconds)}


if job := find_job(globals()):
    with logging_to(job.log[0]):
        given, speed = answer(
            job.input.gguf,
            list(read_records(job.input.records)),
            read_contract(job.input.contract),
            **job.params.answer,
        )
        write_jsonl(job.output.answers, given)
        write_json(job.output.speed, speed)
