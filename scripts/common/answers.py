"""What every rule that lets a model answer has in common: which records it asks, what it writes."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from scripts.common.errors import GradusError
from scripts.common.records import Record, read_records


@dataclass
class Answer:
    """What the model said: the text, whether it ended by itself, tokens of the prompt and of the answer, if known."""

    text: str
    stopped: bool
    prompt_tokens: int | None
    tokens: int | None


def sample(records: Sequence[Record], max_rows: int) -> list[Record]:
    """Return the records that are asked, the same for all models: those with the smallest ids, which are hashes, so a
    fair and stable sample.
    """
    return sorted(records, key=lambda record: record.id)[:max_rows]


def read_training(path: str | Path) -> list[Record]:
    """Return the training rows; raise GradusError if there are none."""
    if rows := list(read_records(path)):
        return rows
    raise GradusError(
        f"{path}: there are no training rows, so there is nothing to learn from. All rows are held out: lower "
        "split.valid_share, split.test_share and split.unseen_share, correct the splits that the rows name, or add rows"
    )


def make_rows(asked: Sequence[Record], answers: Sequence[Answer]) -> list[dict[str, Any]]:
    """Return the lines of an answers file."""
    return [{"id": record.id, **asdict(given)} for record, given in zip(asked, answers, strict=True)]


def make_speed(rows: Sequence[dict[str, Any]], seconds: float) -> dict[str, Any]:
    """Return what the report says of how fast these rows were answered; None for what is not known of each row."""

    def total(field: str) -> int | None:
        counts = [row[field] for row in rows]
        return None if None in counts else sum(counts)

    tokens = total("tokens")
    return {
        "rows": len(rows),
        "prompt_tokens": total("prompt_tokens"),
        "tokens": tokens,
        "seconds": round(seconds, 2),
        "tokens_per_s": round(tokens / seconds, 1) if tokens is not None and seconds else None,
    }
