"""What every rule that lets a model answer has in common: which records it asks, what it writes."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from scripts.common.records import Record


@dataclass
class Answer:
    """What the model said: the text, whether it ended by itself, tokens of prompt and answer, if it has any."""

    text: str
    stopped: bool
    prompt_tokens: int | None
    tokens: int | None


def sample(records: Sequence[Record], max_rows: int) -> list[Record]:
    """Return the records that are asked, the same for all models: those with the smallest ids, which are hashes, so a
    fair and stable sample.
    """
    return sorted(records, key=lambda record: record.id)[:max_rows]


def make_rows(asked: Sequence[Record], answers: Sequence[Answer]) -> list[dict[str, Any]]:
    """Return the lines of an answers file."""
    return [{"id": record.id, **asdict(given)} for record, given in zip(asked, answers, strict=True)]


def make_speed(rows: Sequence[dict[str, Any]], seconds: float) -> dict[str, Any]:
    """Return what the report says of how fast these rows were answered; no tokens for a model that has none."""
    prompt_tokens, tokens = (_sum([row[name] for row in rows]) for name in ("prompt_tokens", "tokens"))
    return {
        "rows": len(rows),
        "prompt_tokens": prompt_tokens,
        "tokens": tokens,
        "seconds": round(seconds, 2),
        "tokens_per_s": round(tokens / seconds, 1) if seconds and tokens is not None else None,
    }


def _sum(counts: Sequence[int | None]) -> int | None:
    known = [count for count in counts if count is not None]
    return sum(known) if len(known) == len(counts) else None
