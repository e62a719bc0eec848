"""The one record type that passes from `ingest` on, one JSON object a line."""

import unicodedata
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from scripts.common.hashing import sha256_json
from scripts.common.io import read_jsonl

TASKS = ("qa", "extract", "classify", "command")
SPLITS = ("train", "valid", "test", "eval-hard", "eval-unseen")
LEVELS = ("easy", "medium", "hard")


@dataclass
class Record:
    """One row. `id` is a function of the normalised content alone, so it survives any reordering."""

    prompt: str
    response: str
    task: str
    checks: list[str] = field(default_factory=list)  # strings that a right answer holds
    group: str = ""  # rows of one group share a split
    split: str = ""  # one of SPLITS; empty until the split rule has run
    difficulty: int | None = None  # 0, 1, 2; None until the score rule has run
    scores: dict[str, float] = field(default_factory=dict)  # what each scorer said
    source: str = ""  # file and line, or page, that the row comes from
    id: str = ""

    def __post_init__(self) -> None:
        if not self.id:
            normal = [unicodedata.normalize("NFC", " ".join(text.split())) for text in (self.prompt, self.response)]
            self.id = sha256_json([self.task, *normal])[:16]

    def to_json(self) -> dict[str, Any]:
        """Return the record as a JSON object."""
        return asdict(self)


def read_records(path: str | Path) -> Iterator[Record]:
    """Yield the records of a JSONL file that a rule wrote."""
    for row in read_jsonl(path):
        yield Record(**row)
