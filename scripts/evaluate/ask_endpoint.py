"""Answer one split with a model behind an OpenAI-compatible API.

In: the split's records, the chat contract; the key from the environment. Out: one answer per line (id, answer,
stopped, token counts, the file in which it is kept), and speed, tokens, cost and what the server says of itself.
"""

import logging
import time
from collections.abc import Mapping, Sequence
from typing import Any

from scripts.common.answers import Answer, make_rows, make_speed, sample
from scripts.common.asking import ask_all, describe_server, find_cost, make_parameters
from scripts.common.chat import read_contract
from scripts.common.io import write_json, write_jsonl
from scripts.common.job import find_job
from scripts.common.logs import logging_to
from scripts.common.prompts import Conversation, conversations
from scripts.common.records import Record, read_records
from scripts.common.shots import read_shots


def answer(
    settings: Mapping[str, Any], asked: Sequence[Record], wanted: Sequence[Conversation], max_tokens: int
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Return the answers to the records, which `wanted` ask, and a summary: tokens, cost, what the server reports.

    `settings`: the model's `endpoint` in the config. The cost is that of all answers, kept ones included.
    """
    parameters = make_parameters(settings, max_tokens)
    names = [f"{record.id} ({record.source})" for record in asked]
    began = time.monotonic()
    replies, files, cached = ask_all(settings, parameters, names, wanted)
    seconds = time.monotonic() - began
    logging.info("%d answers, %d of them kept from earlier runs", len(replies), cached)
    rows = make_rows(
        asked,
        [Answer(reply.text, reply.finish_reason == "stop", reply.prompt_tokens, reply.tokens) for reply in replies],
    )
    speed = make_speed(rows, seconds)
    kept = [{**row, "kept": file} for row, file in zip(rows, files, strict=True)]
    return kept, {
        **speed,
        "tokens_per_s": None if cached else speed["tokens_per_s"],  # kept answers take no time
        "cached": cached,
        "cost": find_cost(rows, settings["price"]),
        "server": {"url": settings["url"], **describe_server(settings, parameters, replies)},
    }


if job := find_job(globals()):
    with logging_to(job.log[0]):
        logging.getLogger("httpx2").setLevel(logging.WARNING)  # not a line for each request
        records = sample(list(read_records(job.input.records)), job.params.max_rows)
        contract = read_contract(job.input.contract)
        options = job.params.options
        # all examples: how many tokens the model can take is not known
        shown = read_shots(options["examples"], records, job.input)[1][0] if "examples" in options else None
        wanted = conversations(contract, records, options.get("system_prompt"), shown)
        settings = job.config["models"][job.wildcards.model]["endpoint"]
        given, speed = answer(settings, records, wanted, job.params.max_tokens)
        write_jsonl(job.output.answers, given)
        write_json(job.output.speed, speed)
