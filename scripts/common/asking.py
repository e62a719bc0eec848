"""Many conversations put to one model behind an API, and what their replies cost."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tqdm import tqdm

from scripts.common.endpoint_client import Endpoint, Reply
from scripts.common.errors import GradusError
from scripts.common.prompts import Conversation


def make_parameters(settings: Mapping[str, Any], max_tokens: int) -> dict[str, Any]:
    """Return the fields of each request besides model and messages: greedy decoding, changed by the config's
    `request`, whose nulls leave a field out. `max_tokens`: of an answer, unless the config's endpoint has its own.
    """
    limit = settings["max_tokens"] or max_tokens
    fields = {"temperature": 0, "seed": 0, "max_tokens": limit, **settings["request"]}
    return {name: value for name, value in fields.items() if value is not None}


def ask_all(
    settings: Mapping[str, Any], parameters: Mapping[str, Any], names: Sequence[str], wanted: Sequence[Conversation]
) -> tuple[list[Reply], list[str], int]:
    """Return the replies to conversations, in order, the names of the files in which they are kept, and how many of
    them were kept from earlier runs.

    `settings`: the `endpoint` of the config; `parameters`: see make_parameters; `names`: of the conversations, for
    errors. After an error nothing new is asked; requests under way are waited for, because their answers are paid for.
    Raises GradusError with the row's name, and with the number of answers that are kept.
    """
    return asyncio.run(_ask_all(Endpoint(settings, parameters), names, wanted))


async def _ask_all(
    endpoint: Endpoint, names: Sequence[str], wanted: Sequence[Conversation]
) -> tuple[list[Reply], list[str], int]:
    places = [endpoint.place(messages) for messages in wanted]
    replies = {place: reply for place in places if (reply := endpoint.kept(place))}
    cached = sum(place in replies for place in places)
    missing = {place: row for row, place in enumerate(places) if place not in replies}  # each conversation once
    slots, failed = asyncio.Semaphore(endpoint.settings["concurrency"]), dict[int, GradusError]()
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
    return [replies[place] for place in places], [place.name for place in places], cached


def find_cost(rows: Iterable[Mapping[str, Any]], price: Mapping[str, float] | None) -> float | None:
    """Return what these answers cost, in the currency of `price`, which is per million tokens; None if unknown."""
    tokens = [(row["prompt_tokens"], row["tokens"]) for row in rows]
    if price is None or any(None in pair for pair in tokens):
        return None
    return round(sum(read * price["input"] + written * price["output"] for read, written in tokens) / 1e6, 6)


def describe_server(
    settings: Mapping[str, Any], parameters: Mapping[str, Any], replies: Iterable[Reply]
) -> dict[str, Any]:
    """Return what was asked with which parameters, and what the server says of itself; not its address."""
    replies = list(replies)
    return {
        "model": settings["model"],
        "parameters": dict(parameters),
        "reported_models": sorted({reply.model for reply in replies if reply.model}),
        "system_fingerprints": sorted({reply.system_fingerprint for reply in replies if reply.system_fingerprint}),
    }
