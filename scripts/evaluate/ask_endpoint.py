"""Answer one split with a model behind an OpenAI-compatible API.

In: the split's records, the chat contract; the key from the environment. Out: one answer per line (id, answer,
stopped, token counts, the file in which it is kept), and speed, tokens, cost and what the server says of itself.
"""

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from typing import Any

from tqdm import tqdm

from scripts.common.answers import Answer, make_rows, make_speed, sample
from scripts.common.chat import read_contract
from scripts.common.errors import GradusError
from scripts.common.io import write_json, write_jsonl
from scripts.common.job import find_job
from scripts.common.logs import logging_to
from scripts.common.prompts import Conversation, conversations
from scripts.common.records import Record, read_records
from scripts.common.shots import read_shots
from scripts.evaluate.endpoint import Endpoint, Reply


def make_parameters(settings: Mapping[str, Any], max_tokens: int) -> dict[str, Any]:
    """Return the fields of each request besides model and messages: greedy decoding, changed by the config's
    `request`, whose nulls leave a field out. `max_tokens`: of an answer, unless the config's endpoint has its own.
    """
    limit = settings["max_tokens"] or max_tokens
    fields = {"temperature": 0, "seed": 0, "max_tokens": limit, **settings["request"]}
    return {name: value for name, value in fields.items() if value is not None}


async def ask_all(
    endpoint: Endpoint, names: Sequence[str], wanted: Sequence[Conversation], concurrency: int
) -> tuple[list[Reply], int]:
    """Return the replies to conversations, in order, and how many of them were kept from earlier runs.

    At most `concurrency` requests are under way at a time. After an error nothing new is asked; requests under way are
    waited for, because their answers are paid for. Raises GradusError with the row's name, and with the number of
    answers that are kept.
    """
    places = [endpoint.place(messages) for messages in wanted]
    replies = {place: reply for place in places if (reply := endpoint.kept(place))}
    cached = sum(place in replies for place in places)
    missing = {place: row for row, place in enumerate(places) if place not in replies}  # each conversation once
    slots, failed = asyncio.Semaphore(concurrency), dict[int, GradusError]()
    with tqdm(total=len(missing), desc="answers", unit="answer", mininterval=1) as progress:

        async def ask(row: int) -> None:
            async with slots:
                if failed:
                    return
                try:
                    replies[places[row]] = await endpoint.ask(wanted[row])
                    progress.update()
                except GradusError as error:
                    failed[row] = error

        async with endpoint.client:
            await asyncio.gather(*map(ask, missing.values()))
    if failed:
        row = min(failed)
        kept = sum(place in replies for place in places)
        raise GradusError(
            f"{endpoint.settings['url']}, model {endpoint.settings['model']!r}, row {names[row]}: {failed[row]}.\n"
            f"{kept} of {len(places)} answers are kept; run again to ask for the rest."
        )
    return [replies[place] for place in places], cached


def find_cost(rows: Sequence[Mapping[str, Any]], price: Mapping[str, float] | None) -> float | None:
    """Return what these answers cost, in the currency of `price`, which is per million tokens; None if unknown."""
    tokens = [(row["prompt_tokens"], row["tokens"]) for row in rows]
    if price is None or any(None in pair for pair in tokens):
        return None
    return round(sum(read * price["input"] + written * price["output"] for read, written in tokens) / 1e6, 6)


def answer(
    settings: Mapping[str, Any], asked: Sequence[Record], wanted: Sequence[Conversation], max_tokens: int
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Return the answers to the records, which `wanted` ask, and a summary: tokens, cost, what the server reports.

    `settings`: the model's `endpoint` in the config. The cost is that of all answers, kept ones included.
    """
    parameters = make_parameters(settings, max_tokens)
    endpoint = Endpoint(settings, parameters)
    names = [f"{record.id} ({record.source})" for record in asked]
    began = time.monotonic()
    replies, cached = asyncio.run(ask_all(endpoint, names, wanted, settings["concurrency"]))
    seconds = time.monotonic() - began
    logging.info("%d answers, %d of them kept from earlier runs", len(replies), cached)
    rows = make_rows(
        asked,
        [Answer(reply.text, reply.finish_reason == "stop", reply.prompt_tokens, reply.tokens) for reply in replies],
    )
    speed = make_speed(rows, seconds)
    kept = [{**row, "kept": endpoint.place(messages).name} for row, messages in zip(rows, wanted, strict=True)]
    return kept, {
        **speed,
        "tokens_per_s": None if cached else speed["tokens_per_s"],  # kept answers take no time
        "cached": cached,
        "cost": find_cost(rows, settings["price"]),
        "server": {
            "url": settings["url"],
            "model": settings["model"],
            "parameters": parameters,
            "reported_models": sorted({reply.model for reply in replies if reply.model}),
            "system_fingerprints": sorted({reply.system_fingerprint for reply in replies if reply.system_fingerprint}),
        },
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
