"""The definition of a task: the metrics that grade its answers, and the check of its rows."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Real
from typing import Any

from scripts.common.errors import GradusError
from scripts.common.own_code import call
from scripts.common.records import Record
from scripts.tasks.checks import Check

# (record, answer, whether the answer ended by itself) → 0 to 1, or None if the row does not count for this metric
Metric = Callable[[Record, str, bool], float | None]
Whole = Callable[[Sequence[Record], Sequence[str]], float]
Details = Callable[[Sequence[Record], Sequence[str]], dict[str, Any]]


def stopped(record: Record, answer: str, stopped: bool) -> float:
    """1 if the model ended its answer, 0 if it was truncated at the token limit."""
    return float(stopped)


def text_exact(record: Record, answer: str, stopped: bool) -> float:
    """1 if the answer equals the record's response, ignoring whitespace at both ends."""
    return float(answer.strip() == record.response.strip())


@dataclass(frozen=True)
class Task:
    """One kind of answers. Tasks are listed in TASKS (table.py), their checks of rows in CHECKS (checks.py)."""

    name: str
    metrics: Mapping[str, Metric]  # a metric's value is the mean over the rows that count for it
    headline: str  # the main metric of a report
    binary: frozenset[str] = frozenset()  # metrics that are 0 or 1; models are compared on them row by row
    whole: Mapping[str, Whole] = field(default_factory=dict)  # computed over all rows of a split at once
    schema_metrics: Callable[[Mapping[str, Any]], Mapping[str, Metric]] | None = None  # if data.schema is given
    details: Details | None = None  # additional results: a confusion matrix, the accuracy of each field
    check: Check | None = None  # only for the user's own tasks; the others are in CHECKS
    file: str = ""  # of the user's own task

    def __post_init__(self) -> None:
        """Reject a headline or binary metric that does not exist."""
        if self.headline not in self.metrics:
            self._refuse("headline", self.headline)
        for name in sorted(self.binary - set(self.metrics)):
            if self.schema_metrics is None:
                self._refuse("binary", name)

    def _refuse(self, what: str, name: str) -> None:
        place, known = self.file or f"task {self.name}", ", ".join(sorted(self.metrics)) or "none"
        raise GradusError(f"{place}: {what}: no row metric {name!r}; known metrics: {known}")

    def row_metrics(self, schema: Mapping[str, Any] | None = None) -> dict[str, Metric]:
        """Return all row metrics, including those of the JSON schema and `stopped`."""
        more = self.schema_metrics(schema) if self.schema_metrics and schema else {}
        return {**self.metrics, **more, "stopped": stopped}

    def is_binary(self, metric: str) -> bool:
        """Return whether a row metric is 0 or 1."""
        return metric in self.binary or metric == "stopped"

    def measure(self, name: str, metric: Metric, record: Record, answer: str, ended: bool) -> float | None:
        """Return a metric's value for one answer. Raises GradusError if it fails, or is not a number from 0 to 1."""
        place = self.file or f"task {self.name}"
        value = call(place, name, metric, record, answer, ended, row=record.source or record.id)
        if value is None:
            return None
        if not isinstance(value, Real) or not 0 <= float(value) <= 1:
            wrong = f"{value!r} is not a number from 0 to 1"
        elif self.is_binary(name) and value not in (0, 1):
            wrong = f"{value!r} is neither 0 nor 1, and the metric is declared binary"
        else:
            return float(value)
        raise GradusError(f"{place}: metric {name} of row {record.source or record.id}: {wrong}")

    def average(self, name: str, answers: Iterable[tuple[Record, str, bool]]) -> dict[str, Any]:
        """Return {value, n} of a row metric: the mean over the rows that count. `answers`: record, text, stopped."""
        values = [self.measure(name, self.metrics[name], *answer) for answer in answers]
        counted = [value for value in values if value is not None]
        return {"value": round(sum(counted) / len(counted), 6) if counted else None, "n": len(counted)}
