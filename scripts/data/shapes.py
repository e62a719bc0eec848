"""The shapes of rows, and their conversion to the fields of records.

To add a shape, write a function here and enter it in SHAPES with the fields that it needs. It takes a row, the task's
JSON schema (or None) and the layout of JSON, and returns a list of record fields; it raises Fault for a row that cannot
be used.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from scripts.common.errors import GradusError
from scripts.common.records import SPLITS
from scripts.common.strict_json import check_schema, strict_json

# fields that a row of any shape may have
COMMON = ("checks", "accepted", "group", "split", "augmented", "difficulty", "source")
Fields = list[dict[str, Any]]


@dataclass(frozen=True)
class Layout:
    """How a JSON object is written as a response."""

    order: str = "schema"  # of the keys: the schema's, or the row's own
    compact: bool = False  # no space after commas and colons, which the model would have to write

    def write(self, value: Mapping[str, Any], schema: Mapping[str, Any] | None) -> str:
        """Return an object as JSON. In the schema's order, keys that it does not name come last."""
        if schema and self.order == "schema":
            known = [name for name in schema.get("properties", {}) if name in value]
            value = {name: value[name] for name in [*known, *(name for name in value if name not in known)]}
        separators = (",", ":") if self.compact else (", ", ": ")
        return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=separators)


USUAL = Layout()


class Fault(ValueError):
    """A row that cannot be used: the field and what is wrong."""

    def __init__(self, name: str, reason: str) -> None:
        """`name`: the field; `reason`: what is wrong with it, and how to fix it."""
        super().__init__(reason)
        self.name, self.reason = name, reason


def text_of(row: Mapping[str, Any], name: str, empty: bool = False) -> str:
    """Return a field's text; raise Fault if it is missing, not a string, empty, or has invalid characters."""
    if name not in row:
        raise Fault(name, "missing")
    value = row[name]
    if isinstance(value, dict | list):
        raise Fault(
            name, "an object or list where a text is expected; for JSON answers use the fields input and output"
        )
    if not isinstance(value, str):
        raise Fault(name, "not a text")
    if not empty and not value.strip():
        raise Fault(name, "empty; give it a text or delete the row")
    if "\0" in value:
        raise Fault(name, "holds a NUL character")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise Fault(name, "holds half a surrogate pair, which no UTF-8 text can") from None
    return value


def read_difficulty(value: Any, levels: Sequence[str]) -> int:
    """Return a difficulty as an index into `levels`; a row can have the index or the level's name."""
    if isinstance(value, str) and value in levels:
        return list(levels).index(value)
    if isinstance(value, bool) or value not in range(len(levels)):
        raise Fault("difficulty", f"not 0 to {len(levels) - 1}, and not one of {', '.join(levels)}")
    return int(value)


def common_fields(row: Mapping[str, Any], levels: Sequence[str]) -> dict[str, Any]:
    """Return the fields in COMMON that a row has, after checking them."""
    fields: dict[str, Any] = {name: text_of(row, name, empty=True) for name in ("group", "source") if name in row}
    for name in ("checks", "accepted"):
        if name in row:
            if not isinstance(row[name], list) or not all(isinstance(text, str) and text for text in row[name]):
                raise Fault(name, "not a list of texts")
            fields[name] = row[name]
    if "augmented" in row:
        if not isinstance(row["augmented"], bool):
            raise Fault("augmented", "neither true nor false")
        if row["augmented"] and "split" in row:
            raise Fault("augmented", "an augmented row is only for training, so leave out its split")
        fields["augmented"] = row["augmented"]
    if "split" in row:
        if row["split"] not in SPLITS:
            raise Fault("split", f"not one of {', '.join(SPLITS)}")
        fields["split"] = row["split"]
    if "difficulty" in row:
        fields["difficulty"] = read_difficulty(row["difficulty"], levels)
    return fields


def prompt_response(row: Mapping[str, Any], schema: Mapping[str, Any] | None, layout: Layout) -> Fields:
    """`prompt` and `response`, both strings."""
    return [{"prompt": text_of(row, "prompt"), "response": text_of(row, "response")}]


def instruction(row: Mapping[str, Any], schema: Mapping[str, Any] | None, layout: Layout) -> Fields:
    """`instruction`, `input` (may be empty or missing) and `output`, all strings: the Alpaca format."""
    given = text_of(row, "input", empty=True) if "input" in row else ""
    asked = "\n\n".join(part for part in (text_of(row, "instruction"), given) if part.strip())
    return [{"prompt": asked, "response": text_of(row, "output")}]


def input_output(row: Mapping[str, Any], schema: Mapping[str, Any] | None, layout: Layout) -> Fields:
    """`input`, a string, and `output`, a JSON object (or a string with one), which becomes the response.

    With a schema, the object must satisfy it. `layout` says how it is written.
    """
    value = row.get("output")
    if isinstance(value, str):
        try:
            value = strict_json(value)
        except ValueError as error:
            raise Fault("output", f"not a JSON object ({error})") from None
    if not isinstance(value, dict):
        raise Fault("output", "missing, or not a JSON object")
    if schema and (wrong := check_schema(value, schema)):
        raise Fault("output", f"not as the schema says, {wrong}")
    return [{"prompt": text_of(row, "input"), "response": layout.write(value, schema)}]


def messages(row: Mapping[str, Any], schema: Mapping[str, Any] | None, layout: Layout) -> Fields:
    """`messages`: an optional system turn, then alternating user and assistant turns. One record per assistant turn.

    Earlier turns are its context. The system turn is returned as `system`; ingest compares it with the config's.
    """
    if "messages" not in row:
        raise Fault("messages", "missing")
    turns = row["messages"]
    if not isinstance(turns, list) or not all(isinstance(turn, dict) for turn in turns):
        raise Fault("messages", "not a list of objects with role and content")
    for number, turn in enumerate(turns):
        try:
            text_of(turn, "role"), text_of(turn, "content")
        except Fault as fault:
            raise Fault(f"messages[{number}].{fault.name}", fault.reason) from None
    talk = [{"role": turn["role"], "content": turn["content"]} for turn in turns]
    system = talk.pop(0)["content"] if talk and talk[0]["role"] == "system" else None
    for number, turn in enumerate(talk):
        if turn["role"] != ("user", "assistant")[number % 2]:
            raise Fault("messages", f"turn {number + 1} is of {turn['role']!r}; user and assistant must take turns")
    if len(talk) < 2:
        raise Fault("messages", "no answer of the assistant")
    return [
        {"prompt": talk[n - 1]["content"], "response": talk[n]["content"], "context": talk[: n - 1], "system": system}
        for n in range(1, len(talk), 2)
    ]


SHAPES: dict[str, tuple[tuple[str, ...], tuple[str, ...], Callable[..., Fields]]] = {
    # name: required fields, optional fields, function
    "messages": (("messages",), (), messages),
    "prompt-response": (("prompt", "response"), (), prompt_response),
    "instruction": (("instruction", "output"), ("input",), instruction),
    "input-output": (("input", "output"), (), input_output),
}


def detect(rows: Sequence[tuple[int, Mapping[str, Any]]], file: str) -> str:
    """Return the shape of a file from its first rows, given as (line, row).

    Raises GradusError if they have no known shape, or different shapes.
    """
    found: dict[str, int] = {}
    for line, row in rows:
        name = next((name for name, (needs, _, _) in SHAPES.items() if set(needs) <= set(row)), None)
        if name:
            found.setdefault(name, line)
    if len(found) == 1:
        return next(iter(found))
    shapes = "; ".join(f"{name}: {', '.join(needs)}" for name, (needs, _, _) in SHAPES.items())
    if not found:
        keys = ", ".join(map(str, rows[0][1])) if rows else "no fields"
        line = rows[0][0] if rows else 1
        raise GradusError(
            f"{file}:{line}: unknown shape of rows (this one has {keys}). Rename fields, or map them in data.columns, "
            f"to match one of: {shapes}"
        )
    places = ", ".join(f"{name} in line {line}" for name, line in found.items())
    raise GradusError(
        f"{file}: rows of different shapes ({places}). Put each shape into a separate file, or set data.shape"
    )


def make_fields(
    row: Mapping[str, Any],
    shape: str,
    schema: Mapping[str, Any] | None,
    ignored: Sequence[str],
    levels: Sequence[str],
    layout: Layout = USUAL,
) -> Fields:
    """Return the record fields of a row with the given shape. Raises Fault."""
    needs, may, function = SHAPES[shape]
    known = {*needs, *may, *COMMON}
    if unknown := sorted(set(row) - known - set(ignored)):
        raise Fault(
            unknown[0], f"no such field; known: {', '.join(sorted(known))}; list it in data.ignore_fields to drop it"
        )
    shared = common_fields(row, levels)
    return [{**fields, **shared} for fields in function(row, schema, layout)]
