"""Generate one model's answers to one split with llama.cpp: greedy decoding, with the chat template in the GGUF.

In: a GGUF, the split's records, the chat contract. Out: one answer per line (id, answer, stopped, token counts),
and the speed.
"""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from scripts.common.answers import make_rows, make_speed, sample
from scripts.common.chat import read_contract
from scripts.common.generate import answer_all, render_prompts
from scripts.common.hashing import sha256_file
from scripts.common.io import write_json, write_jsonl
from scripts.common.isolate import run_isolated
from scripts.common.job import find_job
from scripts.common.logs import logging_to
from scripts.common.prompts import conversations
from scripts.common.records import Record, read_records
from scripts.common.shots import read_shots
from scripts.evaluate.grammar import find_grammar


def answer(
    gguf: str | Path,
    asked: Sequence[Record],
    prompts: Sequence[str],
    max_tokens: int,
    sequences: int,
    threads: int,
    grammar: str | None = None,
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Return the answers to the records, which `prompts` ask, and a summary (rows, tokens, seconds).

    `grammar`: what every answer must match (GBNF).
    """
    names = [record.source or record.id for record in asked]
    began = time.monotonic()
    answers = run_isolated(
        f"answering with {gguf}", answer_all, str(gguf), prompts, max_tokens, sequences, threads, grammar, names
    )
    seconds = time.monotonic() - began
    rows = make_rows(asked, answers)
    return rows, {"gguf_sha256": sha256_file(gguf), **make_speed(rows, seconds)}


if job := find_job(globals()):
    with logging_to(job.log[0]):
        settings = dict(job.params.answer)
        records = sample(list(read_records(job.input.records)), settings.pop("max_rows"))
        contract = read_contract(job.input.contract)
        options = job.params.options
        shown = read_shots(options["examples"], records, job.input) if "examples" in options else None
        wanted = conversations(contract, records, options.get("system_prompt"), shown)
        prompts = render_prompts(job.input.gguf, None if job.params.own_template else contract, wanted)
        grammar = find_grammar(job.params.options.get("constrained"), job.input)
        given, speed = answer(job.input.gguf, records, prompts, grammar=grammar, **settings)
        write_jsonl(job.output.answers, given)
        write_json(job.output.speed, speed)
