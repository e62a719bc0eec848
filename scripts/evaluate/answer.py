"""Generate one model's answers to one split with llama.cpp: greedy decoding, with the chat template in the GGUF.

In: a GGUF, the split's records, the chat contract. Out: one answer per line (id, answer, stopped, token counts),
and the speed; with `examples`, how many each row was shown, and how many rows had fewer than the config wants.
"""

from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from scripts.common.answers import sample
from scripts.common.chat import ChatContract, read_contract
from scripts.common.generate import answer_records, first_fitting, render_prompts
from scripts.common.gpus import choose_layers
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
        given, speed = answer_records(job.input.gguf, records, prompts, grammar=grammar, **settings)
        if shown:
            given = [{**row, "examples": number} for row, number in zip(given, numbers, strict=True)]
            speed["examples"] = count_fewer(count, numbers)
        write_jsonl(job.output.answers, given)
        write_json(job.output.speed, speed)
