"""Generate one model's answers to one split with llama.cpp: greedy decoding, with the chat template in the GGUF.

In: a GGUF, the split's records, the chat contract. Out: one answer per line (id, answer, stopped, token counts),
and the speed; with `examples`, how many each row was shown, and how many rows had fewer than the config wants.
"""

import time
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from scripts.common.answers import make_rows, make_speed, sample
from scripts.common.chat import ChatContract, read_contract
from scripts.common.generate import answer_all, first_fitting, render_prompts
from scripts.common.gpus import choose_layers, gpu_name
from scripts.common.hashing import sha256_file
from scripts.common.io import write_json, write_jsonl
from scripts.common.isolate import run_isolated
from scripts.common.job import find_job
from scripts.common.logs import logging_to
from scripts.common.prompts import conversations
from scripts.common.records import Record, read_records
from scripts.common.shots import Shots, count_fewer, read_shots
from scripts.evaluate.grammar import find_grammar


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
    gpu_layers: int = 0,
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Return the answers to the records, which `prompts` ask, and a summary (rows, tokens, seconds, the GPU if any).

    `grammar`: what every answer must match (GBNF). `gpu_layers`: computed on the GPU (`choose_layers`).
    """
    names = [record.source or record.id for record in asked]
    began = time.monotonic()
    settings = (max_tokens, sequences, threads, grammar, names, gpu_layers)
    answers = run_isolated(f"answering with {gguf}", answer_all, str(gguf), prompts, *settings)
    seconds = time.monotonic() - began
    rows = make_rows(asked, answers)
    computed = {"gpu": gpu_name(gpu_layers)} if gpu_layers else {}
    return rows, {"gguf_sha256": sha256_file(gguf), **make_speed(rows, seconds), **computed}


if job := find_job(globals()):
    with logging_to(job.log[0]):
        settings, options = dict(job.params.answer), job.params.options
        settings["gpu_layers"] = choose_layers(settings["gpu_layers"])
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
