"""A task whose answers are right or wrong: an answer counts if it equals the row's response."""

from typing import Any


def exact(record: Any, answer: str, stopped: bool) -> float:
    """1 if the answer equals the response, ignoring whitespace at both ends."""
    return float(answer.strip() == record.response.strip())


METRICS = {"exact": exact}
BINARY = {"exact"}
