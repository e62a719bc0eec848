"""Read what a judge replies: strictly, because a guess at what it meant would be a judgment of our own."""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from scripts.common.strict_json import strict_json

NOTHING, PROSE, BROKEN, FIELDS, SCALE = "nothing", "prose", "broken JSON", "other fields", "another scale"
# kind of failure: what the judge is told when it is asked again
COMPLAINTS = {
    NOTHING: "it was empty.",
    PROSE: "there was text outside the JSON object.",
    BROKEN: "it was not valid JSON, or was cut off.",
    FIELDS: "it was not an object with exactly the fields that were asked for.",
    SCALE: "a value was not one of those that were asked for.",
}
# kind of question: {field: whether a value is allowed}
ALLOWED: dict[str, dict[str, Callable[[Any], bool]]] = {
    "answer": {
        "reason": lambda value: isinstance(value, str),
        "faithfulness": lambda value: type(value) is int and 1 <= value <= 5,
        "pass": lambda value: isinstance(value, bool),
    },
    "pair": {
        "reason": lambda value: isinstance(value, str),
        "better": lambda value: value in ("A", "B", "tie"),
    },
}


@dataclass(frozen=True)
class Judgment:
    """What a judge said to one question. If `values` is None, none of its replies could be read."""

    values: dict[str, Any] | None
    failures: tuple[str, ...] = ()  # of its unreadable replies, in order: keys of COMPLAINTS
    reply: str | None = None  # the last of these, as it was


def read_judgment(kind: str, text: str) -> dict[str, Any] | str:
    """Return the values of a reply to a question of this kind, or the kind of failure, a key of COMPLAINTS.

    One code fence around the whole object is taken off: many models cannot do without, and nothing is guessed.
    """
    text = text.strip()
    if fenced := re.fullmatch(r"```(?:json)?\s*\n(.*?)\n?\s*```", text, re.DOTALL):
        text = fenced[1].strip()
    if not text:
        return NOTHING
    try:
        value = strict_json(text)
    except ValueError:
        return BROKEN if text[0] in "{[" and not _goes_on(text) else PROSE
    allowed = ALLOWED[kind]
    if not isinstance(value, dict) or set(value) != set(allowed):
        return FIELDS
    if not all(allows(value[field]) for field, allows in allowed.items()):
        return SCALE
    # half of a surrogate pair, which JSON can hold, cannot be written as UTF-8
    return {**value, "reason": value["reason"].encode("utf-8", "replace").decode("utf-8")}


def _goes_on(text: str) -> bool:
    """Return whether a text begins with a whole JSON value, and something follows."""
    try:
        _, end = json.JSONDecoder().raw_decode(text)
    except (ValueError, RecursionError):
        return False
    return end < len(text)
