"""The shapes of rows, and their conversion to the fields of records.

To add a shape, write a function here and enter it in SHAPES with the fields that it needs. It takes a row, the task's
JSON schema (or None) and the layout of JSON, and returns a list of record fields; it raises Fault for a row that cannot
be used.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from scripts.common.errors import GradusError
from scripts.common.records import SPLITS, distinct, normal
from scripts.common.strict_json import check_schema, strict_json

# fields that a row of any shape may have
COMMON = ("checks", "accepted", "rejected", "group", "split", "augmented", "difficulty", "source")
Fields = list[dict[str, Any]]
Write = Callable[[Mapping[str, Any]], str]  # a JSON object as a response


@dataclass(frozen=True)
class Layout:
    """How a JSON object is written as a response."""

    order: str = "schema"  # of the keys: the schema's, or the row's own
    compact: bool = False  # no space after commas and colons, which the model would have to write

    def write(self, value: Mapping[str, Any], schema: Mapping[str, Any] | None = None) -> str:
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


def is_blank(value: Any) -> bool:
    """Return whether a value is null, an empty list, or a text without anything in it."""
    return value is None or value == [] or (isinstance(value, str) and not value.strip())


def rejected_texts(value: Any, write: Write | None = None) -> list[str]:
    """Return a row's rejected answers: a text, or a list of texts; or objects, if `write` says how they are written. An
    empty value, such as an empty cell of a table, is none.
    """
    if is_blank(value):
        return []
    several = isinstance(value, list)
    texts = []
    for number, item in enumerate(value if several else [value]):
        name = f"rejected[{number}]" if several else "rejected"
        texts.append(text_of({name: write(item) if write and isinstance(item, dict) else item}, name))
    return texts


def same_answer(one: str, other: str) -> bool:
    """Return whether two answers are the same, but for whitespace: as texts, or as JSON objects."""
    if normal(one) == normal(other):
        return True
    if not one.lstrip().startswith("{") or not other.lstrip().startswith("{"):
        return False
    try:
        return bool(strict_json(one) == strict_json(other))
    except ValueError:
        return False


def check_rejected(rejected: Sequence[str], response: str, accepted: Sequence[str]) -> list[str]:
    """Return the different ones of a row's rejected answers. Raises Fault if one of them is a right answer."""
    for number, text in enumerate(rejected):
        name = f"rejected[{number}]" if len(rejected) > 1 else "rejected"
        if same_answer(text, response):
            raise Fault(name, "the same as the right answer; correct one of them, or leave the rejected one out")
        if (right := next((n for n, one in enumerate(accepted) if same_answer(text, one)), None)) is not None:
            raise Fault(name, f"the same as accepted[{right}], which is right; leave one of them out")
    return distinct(rejected)


def common_fields(row: Mapping[str, Any], levels: Sequence[str], write: Write | None = None) -> dict[str, Any]:
    """Return the fields in COMMON that a row has, after checking them. `write`: see `rejected_texts`."""
    fields: dict[str, Any] = {name: text_of(row, name, empty=True) for name in ("group", "source") if name in row}
    for name in ("checks", "accepted"):
        if name in row:
            if not isinstance(row[name], list) or not all(isinstance(text, str) and text for text in row[name]):
                raise Fault(name, "not a list of texts")
            fields[name] = row[name]
    if "rejected" in row:
        fields["rejected"] = rejected_texts(row["rejected"], write)
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


def read_turns(row: Mapping[str, Any], name: str) -> list[dict[str, str]]:
    """Return the turns of a field with a conversation, as {role, content}."""
    if name not in row:
        raise Fault(name, "missing")
    turns = row[name]
    if not isinstance(turns, list) or not all(isinstance(turn, dict) for turn in turns):
        raise Fault(name, "not a list of objects with role and content")
    for number, turn in enumerate(turns):
        try:
            text_of(turn, "role"), text_of(turn, "content")
        except Fault as fault:
            raise Fault(f"{name}[{number}].{fault.name}", fault.reason) from None
    return [{"role": turn["role"], "content": turn["content"]} for turn in turns]


def take_system(turns: Sequence[dict[str, str]], name: str) -> tuple[list[dict[str, str]], str | None]:
    """Return a conversation without its system turn, and that turn's content; None if there is none.

    Raises Fault if user and assistant do not take turns. `name`: the field that it comes from.
    """
    talk = list(turns)
    system = talk.pop(0)["content"] if talk and talk[0]["role"] == "system" else None
    for number, turn in enumerate(talk):
        if turn["role"] != ("user", "assistant")[number % 2]:
            raise Fault(name, f"turn {number + 1} is of {turn['role']!r}; user and assistant must take turns")
    return talk, system


def messages(row: Mapping[str, Any], schema: Mapping[str, Any] | None, layout: Layout) -> Fields:
    """`messages`: an optional system turn, then alternating user and assistant turns. One record per assistant turn.

    Earlier turns are its context. The system turn is returned as `system`; ingest compares it with the config's.
    """
    talk, system = take_system(read_turns(row, "messages"), "messages")
    if len(talk) < 2:
        raise Fault("messages", "no answer of the assistant")
    return [
        {"prompt": talk[n - 1]["content"], "response": talk[n]["content"], "context": talk[: n - 1], "system": system}
        for n in range(1, len(talk), 2)
    ]


def as_turns(row: Mapping[str, Any], name: str, role: str) -> list[dict[str, str]]:
    """Return the turns of a field with a conversation, or with a text, which is the only turn of a role."""
    given = row.get(name)
    return read_turns(row, name) if isinstance(given, list) else [{"role": role, "content": text_of(row, name)}]


def preference(row: Mapping[str, Any], schema: Mapping[str, Any] | None, layout: Layout) -> Fields:
    """`chosen` and `rejected`, answers to `prompt`; each of the three is a text, or a conversation.

    A conversation in `chosen` and `rejected` may begin with the prompt. Without a field `prompt` it must: what both
    begin with is the prompt then (implicit). `rejected` can also be a list of texts. Turns before the last of the user
    are the context; a system turn is returned as `system`, as by `messages`.
    """
    before = as_turns(row, "prompt", "user") if "prompt" in row else []

    def read(name: str, given: Mapping[str, Any]) -> tuple[list[dict[str, str]], str | None]:
        turns = as_turns(given, name, "assistant")
        if not turns or turns[-1]["role"] != "assistant":
            raise Fault(name, "does not end with an answer of the assistant")
        if not all(turn in turns[:-1] for turn in before):  # it does not hold the prompt
            if turns[0]["role"] != "assistant":
                raise Fault(
                    "prompt", f"not in the conversation in {name}; list prompt in data.ignore_fields to drop it"
                )
            turns = [*before, *turns]
        if turns[-2:-1] == [] or turns[-2]["role"] != "user":
            raise Fault("prompt", f"missing: no turn of the user comes before the answer in {name}")
        return take_system(turns, name)

    given = row.get("rejected")
    texts = given if isinstance(given, list) and all(isinstance(item, str) for item in given) else []
    talk, system = read("chosen", row)
    wrong = [read("rejected", {"rejected": text}) for text in texts]
    if not wrong and not is_blank(given):
        wrong = [read("rejected", row)]
    if any((other[:-1], its_system) != (talk[:-1], system) for other, its_system in wrong):
        raise Fault("rejected", "does not answer the turn that chosen answers: the turns before the answers differ")
    return [
        {
            "prompt": talk[-2]["content"],
            "response": talk[-1]["content"],
            "context": talk[:-2],
            "system": system,
            "rejected": [other[-1]["content"] for other, _ in wrong],
        }
    ]


SHAPES: dict[str, tuple[tuple[str, ...], tuple[str, ...], Callable[..., Fields]]] = {
    # name: required fields, optional fields, function. The first one whose fields are there is taken
    "preference": (("chosen", "rejected"), ("prompt",), preference),
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


def without(row: Mapping[str, Any], names: Sequence[str]) -> Mapping[str, Any]:
    """Return a row without some fields."""
    if row.keys().isdisjoint(names):
        return row
    return {name: value for name, value in row.items() if name not in names}


def make_fields(
    row: Mapping[str, Any],
    shape: str,
    schema: Mapping[str, Any] | None,
    ignored: Sequence[str],
    levels: Sequence[str],
    layout: Layout = USUAL,
) -> Fields:
    """Return the record fields of a row with the given shape. `ignored`: fields to drop. Raises Fault.

    Of a conversation with several answers, `rejected` is about the last.
    """
    needs, may, function = SHAPES[shape]
    row = without(row, ignored)
    known = {*needs, *may, *COMMON}
    if unknown := sorted(set(row) - known):
        raise Fault(
            unknown[0], f"no such field; known: {', '.join(sorted(known))}; list it in data.ignore_fields to drop it"
        )
    write = partial(layout.write, schema=schema) if shape == "input-output" else None
    shared = common_fields(without(row, needs) if "rejected" in needs else row, levels, write)
    rejected = shared.pop("rejected", [])
    made = [{**fields, **shared} for fields in function(row, schema, layout)]
    if rejected := made[-1].get("rejected", rejected):
        made[-1]["rejected"] = check_rejected(rejected, made[-1]["response"], shared.get("accepted", ()))
    return made
