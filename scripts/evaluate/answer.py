"""Generate one model's answers to one split with llama.cpp: greedy decoding, with the chat template in the GGUF.

In: a GGUF, the split's records, the chat contract. Out: one answer per line (id, answer, stopped, token counts),
and the speed; with `examples`, how many each row was shown, and how many rows had fewer than the config wants.
"""

import time
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from jinja2 import TemplateError
from llama_cpp.llama_chat_format import Jinja2ChatFormatter

from scripts.common.answers import make_rows, make_speed, sample
from scripts.common.chat import ChatContract, read_contract
from scripts.common.errors import GradusError, first_line
from scripts.common.gguf_info import own_template, require_contract
from scripts.common.hashing import sha256_file
from scripts.common.io import write_json, write_jsonl
from scripts.common.isolate import run_isolated
from scripts.common.job import find_job
from scripts.common.llama_vocabulary import adds_bos
from scripts.common.logs import logging_to
from scripts.common.prompts import Conversation, conversations
from scripts.common.records import Record, read_records
from scripts.common.shots import Shots, count_fewer, read_shots
from scripts.evaluate.generate import answer_all, first_fitting
from scripts.evaluate.grammar import find_grammar

# what a template can raise that refuses a conversation, or has a fault
FAULTS = (TemplateError, TypeError, ValueError, LookupError, ArithmeticError, RecursionError)


def render_prompts(gguf: str | Path, contract: ChatContract | None, asked: Sequence[Conversation]) -> list[str]:
    """Return each conversation, rendered with the template in the GGUF. Without a contract, a BOS token comes first if
    the vocabulary wants one, also where the template writes none: so do llama.cpp's server and Ollama.

    Raises GradusError if that template is not the contract's, or, without a contract, if there is none, or if it fails.
    """
    if contract:
        template = require_contract(gguf, contract)["chat_template"]
        end, begin = contract.end_of_turn, contract.bos_token
    else:
        template, begin, end = own_template(gguf)
    prompts: list[str] = []
    try:
        formatter = Jinja2ChatFormatter(template=template, eos_token=end, bos_token=begin)
        for messages in asked:
            prompts.append(formatter(messages=messages).prompt)  # type: ignore[arg-type]
    except FAULTS as error:
        roles = ", ".join(message["role"] for message in next(iter(asked[len(prompts) :]), []))
        raise GradusError(
            f"{gguf}: its chat template fails on a conversation with the roles {roles}: {first_line(error)}. "
            'If it takes no system prompt, give the model\'s entry in models a system_prompt: "". Otherwise leave out '
            "its examples, or take another model"
        ) from None
    if contract or not begin or not run_isolated(f"reading {gguf}", adds_bos, str(gguf)):
        return prompts
    return [prompt if prompt.startswith(begin) else begin + prompt for prompt in prompts]


def fit_prompts(
    gguf: str | Path,
    contract: ChatContract,
    asked: Sequence[Record],
    options: Mapping[str, Any],
    own_template: bool,
    shown: Sequence[Shots],
    max_tokens: int,
) -> tuple[list[str], list[int]]:
    """Return the rendered prompt of each record, and the number of examples in it: as many as fit, with the answer,
    into the context that the model was trained for.

    `options`: those of the model in the config; `own_template`: whether the GGUF has its own instead of the contract's;
    `shown`: the examples of each record in versions, from all to none.
    """
    versions = shown or [{}]
    wanted = [conversations(contract, asked, options.get("system_prompt"), version) for version in versions]
    rendered = iter(render_prompts(gguf, None if own_template else contract, list(chain(*wanted))))
    prompts = list(zip(*([next(rendered) for _ in asked] for _ in versions), strict=True))
    places = [0] * len(asked)
    if len(versions) > 1:
        places = run_isolated(f"measuring prompts for {gguf}", first_fitting, str(gguf), prompts, max_tokens)
    counts = [len(versions[place].get(record.id, ())) for record, place in zip(asked, places, strict=True)]
    return [row[place] for row, place in zip(prompts, places, strict=True)], counts


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
        settings, options = dict(job.params.answer), job.params.options
        records = sample(list(read_records(job.input.records)), settings.pop("max_rows"))
        contract = read_contract(job.input.contract)
        count, shown = 0, list[Shots]()
        if "examples" in options:
            count, shown = read_shots(options["examples"], records, job.input, job.params.at_most)
        prompts, numbers = fit_prompts(
            job.input.gguf, contract, records, options, job.params.own_template, shown, settings["max_tokens"]
        )
        grammar = find_grammar(options.get("constrained"), job.input)
        given, speed = answer(job.input.gguf, records, prompts, grammar=grammar, **settings)
        if shown:
            given = [{**row, "examples": number} for row, number in zip(given, numbers, strict=True)]
            speed["examples"] = count_fewer(count, numbers)
        write_jsonl(job.output.answers, given)
        write_json(job.output.speed, speed)
