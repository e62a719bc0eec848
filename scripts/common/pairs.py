"""Pairs for preference tuning: a prompt with an answer that is right and one that is not. One JSON object per line."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path
from typing import Any

from scripts.common.hashing import sha256_json
from scripts.common.io import read_jsonl, write_jsonl
from scripts.common.records import Record

# of a line, those that are not the record's
PAIR_FIELDS = ("step", "rejected", "origin", "other", "reference", "difficulty")


@dataclass(frozen=True)
class Pair:
    """One pair. A line of its file is the record's with these fields."""

    record: Record  # the training row; its response is the right answer, which need not be the row's own
    rejected: str  # the wrong answer
    # where the answers come from: {"made": "own"}, or {"made": "sampled", "gguf_sha256", "chosen", "rejected"}, where
    # each answer is {"sample": its number, "value": its grade}, and "stopped": false if it was cut off
    origin: dict[str, Any] = field(default_factory=dict)
    other: str | None = None  # an answer to another prompt, by which KTO measures how far the model went
    # log-probabilities of the right, the wrong and the other answer under the reference, in nats: sums over tokens
    reference: tuple[float, ...] | None = None
    difficulty: float | None = None  # how much better the reference likes the wrong answer, in nats per token

    @property
    def cut_off(self) -> bool:
        """Return whether the wrong answer is one that the model did not end."""
        return not self.origin.get("rejected", {}).get("stopped", True)

    @property
    def key(self) -> str:
        """Return a hash of the pair's texts."""
        return sha256_json([self.record.id, self.record.response, self.rejected])[:16]

    def to_json(self) -> dict[str, Any]:
        """Return the pair as a JSON object; its `difficulty` is the pair's, not the level of the record."""
        more: dict[str, Any] = {"rejected": self.rejected, "origin": self.origin}
        if self.reference is not None:
            more |= {"reference": list(self.reference), "difficulty": self.difficulty}
            more |= {"other": self.other} if self.other is not None else {}
        return {**replace(self.record, rejected=[], accepted=[], difficulty=None).to_json(), **more}


def read_pair(row: dict[str, Any]) -> Pair:
    """Return the pair of a line."""
    record = Record(**{name: value for name, value in row.items() if name not in PAIR_FIELDS})
    reference = tuple(map(float, row["reference"])) if "reference" in row else None
    return Pair(record, row["rejected"], row["origin"], row.get("other"), reference, row.get("difficulty"))


def read_pairs(path: str | Path) -> Iterator[Pair]:
    """Yield the pairs of a file."""
    yield from map(read_pair, read_jsonl(path))


def write_pairs(path: str | Path, pairs: Iterable[Pair]) -> None:
    """Write a file of pairs."""
    write_jsonl(path, (pair.to_json() for pair in pairs))


def read_pair_steps(path: str | Path) -> list[list[Pair]]:
    """Return the pairs of a phase's file, one list per optimizer step, in training order."""
    return [list(map(read_pair, rows)) for _, rows in groupby(read_jsonl(path), key=lambda row: row["step"])]


def write_pair_steps(steps: Iterable[Sequence[Pair]]) -> Iterator[dict[str, Any]]:
    """Yield the JSON objects of a phase's file: each pair with the number, from 1, of its optimizer step."""
    for number, pairs in enumerate(steps, 1):
        for pair in pairs:
            yield {"step": number, **pair.to_json()}
