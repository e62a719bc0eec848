"""The record type that all stages after `ingest` exchange, as one JSON object per line."""

import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path
from typing import Any

from scripts.common.hashing import sha256_json
from scripts.common.io import Rows, read_jsonl

OWN = "eval-own"  # the split of the rows of data.own
SPLITS = ("train", "valid", "test", "eval-hard", "eval-unseen", OWN)
AND = " + "  # between the sources of a row that was made from several
RARE = ("accepted", "augmented", "rejected")  # fields that most rows have no use for; their files do without


def normal(text: str) -> str:
    """Return a text in NFC with whitespace collapsed; texts count as the same if this form is equal."""
    return unicodedata.normalize("NFC", " ".join(text.split()))


def distinct(texts: Iterable[str], known: Iterable[str] = ()) -> list[str]:
    """Return the texts that are the same as no earlier one, and as none of `known`."""
    seen = set(map(normal, known))
    found: dict[str, str] = {}
    for text in texts:
        if (key := normal(text)) not in seen:
            found.setdefault(key, text)
    return list(found.values())


def join_sources(sources: Iterable[str]) -> str:
    """Return the `source` of an augmented row that was made from rows of several sources."""
    return AND.join(dict.fromkeys(filter(None, sources)))


def split_sources(source: str) -> list[str]:
    """Return the sources that an augmented row's `source` may name: itself, and each of several."""
    return [source, *(source.split(AND) if AND in source else ())]


@dataclass
class Record:
    """One row. `id` depends only on the normalized content, so reordering does not change it.

    Values that depend on other rows (scores) are kept elsewhere: a record's bytes change only when its row does.
    """

    prompt: str
    response: str
    task: str
    context: list[dict[str, str]] = field(default_factory=list)  # earlier turns, {role, content}, without system turn
    checks: list[str] = field(default_factory=list)  # strings that a correct answer contains
    group: str = ""  # rows of a group belong together: a page, a customer
    thread: str = ""  # the conversation that a turn comes from; its turns share a split
    split: str = ""  # one of SPLITS; empty until the split rule has run
    difficulty: int | None = None  # an index into curriculum.levels; None until the score rule has run
    near: list[str] = field(default_factory=list)  # ids of earlier near-copies; empty once split has run
    source: str = ""  # file and line, or page, where the row comes from
    accepted: list[str] = field(default_factory=list)  # other responses that are as right
    rejected: list[str] = field(default_factory=list)  # wrong responses, for preference tuning
    augmented: bool = False  # made by rules from other rows or a vocabulary: never held out; stands last
    id: str = ""

    def __post_init__(self) -> None:
        if not self.id:
            turns = [[turn["role"], normal(turn["content"])] for turn in self.context]
            content = [self.task, normal(self.prompt), normal(self.response), *([turns] if turns else [])]
            self.id = sha256_json(content)[:16]

    @property
    def asked(self) -> str:
        """Return everything that the model reads before it answers: earlier turns and the prompt."""
        return "\n".join([*(turn["content"] for turn in self.context), self.prompt])

    def to_json(self) -> dict[str, Any]:
        """Return the record as a JSON object."""
        return {name: value for name, value in self.__dict__.items() if value or name not in RARE}

    def versions(self) -> list["Record"]:
        """Return the record with each of its right responses, its own first."""
        return [self, *(replace(self, response=text, accepted=[]) for text in self.accepted)]


def read_records(path: str | Path) -> Iterator[Record]:
    """Yield the records of a JSONL file that a rule wrote."""
    for row in read_jsonl(path):
        row.pop("step", None)
        yield Record(**row)


class StoredRecords(Sequence[Record]):
    """The records of a JSONL file that a rule wrote, read when they are asked for, also by forked processes."""

    def __init__(self, path: str | Path) -> None:
        """Index the offset of each line."""
        self.rows = Rows(path)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, number: Any) -> Any:
        if isinstance(number, slice):
            return [self[n] for n in range(*number.indices(len(self)))]
        return Record(**self.rows[number])


def read_steps(path: str | Path) -> list[list[Record]]:
    """Return the records of a phase's file, one list per optimizer step, in training order."""
    return [
        [Record(**{name: value for name, value in row.items() if name != "step"}) for row in rows]
        for _, rows in groupby(read_jsonl(path), key=lambda row: row["step"])
    ]


def write_steps(steps: Iterable[Iterable[Record]]) -> Iterator[dict[str, Any]]:
    """Yield the JSON objects of a phase's file: each record with the number, from 1, of its optimizer step."""
    for number, rows in enumerate(steps, 1):
        for record in rows:
            yield {"step": number, **record.to_json()}
