"""Generate one model's answers to one split with llama.cpp: greedy decoding, with the chat template in the GGUF.

In: a GGUF, the split's records, the chat contract. Out: one answer per line (id, answer, stopped, token counts),
and the speed.
"""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from llama_cpp.llama_chat_format import Jinja2ChatFormatter

from scripts.common.answers import make_rows, make_speed, sample
from scripts.common.chat import ChatContract, read_contract
from scripts.common.gguf_info import own_template, require_contract
from scripts.common.hashing import sha256_file
from scripts.common.io import write_json, write_jsonl
from scripts.common.isolate import run_isolated
from scripts.common.job import find_job
from scripts.common.logs import logging_to
from scripts.common.prompts import Conversation, conversations
from scripts.common.records import Record, read_records
from scripts.common.shots import read_shots
from scripts.evaluate.generate import answer_all


def render_prompts(gguf: str | Path, contract: ChatContract | None, asked: Sequence[Conversation]) -> list[str]:
    """Return each conversation, rendered with the template in the GGUF.

    Raises GradusError if that template is not the contract's, or, without a contract, if there is none.
    """
    if contract:
        template = require_contract(gguf, contract)["chat_template"]
        end, begin = contract.end_of_turn, contract.bos_token
    else:
        template, begin, end = own_template(gguf)
    formatter = Jinja2ChatFormatter(template=template, eos_token=end, bos_token=begin)
    return [formatter(messages=messages).prompt for messages in asked]  # type: ignore[arg-type]


def answer(
    gguf: str | Path,
    asked: Sequence[Record],
    prompts: Sequence[str],
    max_tokens: int,
    sequences: int,
    threads: int,
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Return the answers to the records, which `prompts` ask, and a summary (rows, tokens, seconds)."""
    began = time.monotonic()
    answers = run_isolated(f"answering with {gguf}", answer_all, str(gguf), prompts, max_tokens, sequences, threads)
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
        given, speed = answer(job.input.gguf, records, prompts, **settings)
        write_jsonl(job.output.answers, given)
        write_json(job.output.speed, speed)
