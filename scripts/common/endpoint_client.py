"""A client for one model behind an OpenAI-compatible API, which asks nothing twice.

Each reply is kept in a file named after the sha256 of address and request, so that a rerun, or the run after a kill,
asks only for what is missing. Retries are those of the `openai` client: connections that break, timeouts and the
statuses 408, 409, 429 and 5xx, after `Retry-After` (seconds or a date) up to two minutes, else after 0.5 s, doubled
each time up to 8 s.
"""

import asyncio
import json
import logging
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from openai import APIConnectionError, APIStatusError, APITimeoutError, AsyncOpenAI, DefaultAsyncHttpxClient

from scripts.common.endpoints import CACHE, find_key, is_loopback
from scripts.common.errors import GradusError, first_line
from scripts.common.hashing import sha256_json
from scripts.common.io import read_json, write_json
from scripts.common.prompts import Conversation

FOREIGN = ("OPENAI_ORG_ID", "OPENAI_PROJECT_ID", "OPENAI_CUSTOM_HEADERS")
FILTERED = "content_filter"  # Azure's code for a prompt that its filter refuses: no answer, but no fault of the request
LONGEST_WAIT = 120  # seconds that the client waits at most before it tries again
LONGEST = 300  # characters of a server's message that are quoted


@dataclass(frozen=True)
class Reply:
    """What a server answered. What it does not report is None."""

    text: str
    finish_reason: str | None
    prompt_tokens: int | None
    tokens: int | None
    model: str | None  # what the server calls the model, which may be more precise than what was asked for
    system_fingerprint: str | None


def read_reply(body: str) -> Reply:
    """Return the reply in the body of a response; raise GradusError that quotes a body that holds none."""
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        page = " (an HTML page)" if body.lstrip()[:1] == "<" else ""
        raise GradusError(
            f"the answer is not JSON{page}: {_quote(body)}. Check endpoint.url: it usually ends in /v1"
        ) from None
    try:
        choice = value["choices"][0]
        text = choice["message"].get("content") or ""  # null if the model refuses
        usage = value.get("usage") or {}
        reported = [usage.get("prompt_tokens"), usage.get("completion_tokens")]
        if not isinstance(text, str):
            raise TypeError
    except (AttributeError, IndexError, KeyError, TypeError):
        raise GradusError(
            f"the answer is JSON, but no chat completion: {_quote(body)}. Check endpoint.url, or read the server's log"
        ) from None
    prompt_tokens, tokens = (count if type(count) is int else None for count in reported)
    names = (choice.get("finish_reason"), value.get("model"), value.get("system_fingerprint"))
    finish_reason, model, fingerprint = (name if isinstance(name, str) else None for name in names)
    # half of a surrogate pair, which JSON can hold, cannot be written as UTF-8
    whole = text.encode("utf-8", "replace").decode("utf-8")
    return Reply(whole, finish_reason, prompt_tokens, tokens, model, fingerprint)


def _quote(text: str) -> str:
    """Return the beginning of a server's message on one line."""
    line = " ".join(text.split())
    return repr(line if len(line) <= LONGEST else f"{line[:LONGEST]}…")


class Endpoint:
    """One model behind an API. `settings`: its `endpoint` in the config; `parameters`: a request's other fields."""

    def __init__(self, settings: Mapping[str, Any], parameters: Mapping[str, Any], cache: Path = CACHE) -> None:
        """Take the key from the environment; raise GradusError if it is missing."""
        self.settings, self.parameters, self.cache = settings, dict(parameters), cache
        self.key = find_key(settings)
        # the client's timeout ends with each byte, so a server that trickles would never reach it
        self.patience = (settings["retries"] + 1) * (settings["timeout"] + LONGEST_WAIT)
        for name in FOREIGN:  # the client would send them to any host
            os.environ.pop(name, None)
        self.client = AsyncOpenAI(
            base_url=settings["url"],
            api_key=self.key or "none needed",  # explicit: the client would take OPENAI_API_KEY, meant for another host
            timeout=settings["timeout"],
            max_retries=settings["retries"],
            # a request stays at the address in the config; a proxy of the environment is not for this machine itself
            http_client=DefaultAsyncHttpxClient(follow_redirects=False, trust_env=not is_loopback(settings["url"])),
        )

    def place(self, messages: Conversation) -> Path:
        """Return the file in which the reply to a conversation is kept."""
        request = {"model": self.settings["model"], "messages": messages, **self.parameters}
        return self.cache / f"{sha256_json([self.settings['url'], request])}.json"

    def kept(self, path: Path) -> Reply | None:
        """Return the reply in a file that `place` named; None if there is none, or if it is damaged."""
        if not path.exists():
            return None
        try:
            entry = read_json(path)
            if sha256_json(entry["reply"]) == entry["sha256"]:
                return Reply(**entry["reply"])
        except (GradusError, KeyError, TypeError):
            pass
        logging.warning("%s: damaged; the row is asked again", path)
        return None

    async def ask(self, messages: Conversation) -> Reply:
        """Ask the server, keep its reply, and return it.

        Raises GradusError that says what happened and what to do; it never holds the key.
        """
        try:
            async with asyncio.timeout(self.patience):
                response = await self.client.chat.completions.with_raw_response.create(
                    model=self.settings["model"],
                    messages=messages,  # type: ignore[arg-type]
                    extra_body=self.parameters,
                )
            reply = read_reply(self._mask(response.http_response.text))
        except TimeoutError:
            raise GradusError(f"no whole answer in {self.patience:g} s. Look whether the server works") from None
        except (APIStatusError, APIConnectionError, GradusError) as error:
            if isinstance(error, APIStatusError) and error.code == FILTERED:
                return self._keep(messages, Reply("", FILTERED, None, None, None, None))
            said = str(error) if isinstance(error, GradusError) else self._explain(error)
            raise GradusError(self._mask(said)) from None
        return self._keep(messages, reply)

    def _mask(self, text: str) -> str:
        """Return a text without the key. What is quoted must be masked before it is cut or escaped."""
        return text.replace(self.key, "***") if self.key else text

    def _keep(self, messages: Conversation, reply: Reply) -> Reply:
        fields = asdict(reply)
        write_json(self.place(messages), {"reply": fields, "sha256": sha256_json(fields)})
        return reply

    def _explain(self, error: APIStatusError | APIConnectionError) -> str:
        """Return what happened and what to do."""
        tries = f"{self.settings['retries'] + 1} attempts"
        if isinstance(error, APITimeoutError):
            return (
                f"no answer within {self.settings['timeout']:g} s, in {tries}. "
                "Raise endpoint.timeout, lower endpoint.concurrency, or look whether the server works"
            )
        if isinstance(error, APIConnectionError):
            cause = first_line(error.__cause__ or error)
            return f"no connection, or it broke ({cause}), in {tries}. Check endpoint.url, the network and the server"
        status = f"{error.status_code} {error.response.reason_phrase}".strip()
        said = f"{status}: {_quote(self._mask(_message(error)))}"
        if error.status_code in (401, 403):
            name = self.settings["key_env"]
            advice = (
                f"Check the key in ${name}, and what it may use"
                if name
                else "If it takes a key, name its environment variable in endpoint.key_env"
            )
            return f"the server refuses access ({said}). {advice}"
        if error.status_code == 404:
            return f"not found ({said}). Check endpoint.model, and endpoint.url, which usually ends in /v1"
        if 300 <= error.status_code < 400:
            target = _quote(self._mask(error.response.headers.get("location", "nowhere")))
            return f"the server redirects to {target}. If you trust that address, set endpoint.url to it"
        if error.status_code == 429 or error.status_code >= 500:
            wait = error.response.headers.get("retry-after")
            asked = f", and asks to wait ({wait[:40]})" if wait else ""
            return (
                f"the server cannot answer now ({said}){asked}, after {tries} at most. "
                "Run again later, or lower endpoint.concurrency"
            )
        return (
            f"the server refuses the request ({said}). A field that it does not take can be left out or changed: "
            "endpoint.request: {seed: null}"
        )


def _message(error: APIStatusError) -> str:
    """Return a server's own message: that of its JSON, or the body as it is."""
    body = error.body
    if isinstance(body, Mapping):
        inner = body.get("error", body)
        body = inner.get("message", inner) if isinstance(inner, Mapping) else inner
    return body if isinstance(body, str) else json.dumps(body)
