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
# (records, their answers) → one such value for each row
Batch = Callable[[Sequence[Record], Sequence[str]], Sequence[float | None]]
Whole = Callable[[Sequence[Record], Sequence[str]], float]
Details = Callable[[Sequence[Record], Sequence[str]], dict[str, Any]]


def stopped(record: Record, answer: str, stopped: bool) -> float:
    """1 if the model ended its answer, 0 if it was truncated at the token limit."""
    return float(stopped)


def text_exact(record: Record, answer: str, stopped: bool) -> float:
    """1 if the answer equals the record's response, ignoring whitespace at both ends."""
    return float(answer.strip() == record.response.strip())


def best(values: Iterable[float | None]) -> float | None:
    """Return the largest value; None if none counts."""
    return max((value for value in values if value is not None), default=None)


def labels_of(responses: Iterable[str]) -> list[str]:
    """Return the different training responses, sorted: the labels that `label_metrics` and `chance` take."""
    return sorted({response.strip() for response in responses})


@dataclass(frozen=True)
class Task:
    """One kind of answers. Tasks are listed in TASKS (table.py), their checks of rows in CHECKS (checks.py)."""

    name: str
    metrics: Mapping[str, Metric]  # a metric's value is the mean over the rows that count for it
    headline: str  # the main metric of a report
    binary: frozenset[str] = frozenset()  # metrics that are 0 or 1; models are compared on them row by row
    batch: Mapping[str, Batch] = field(default_factory=dict)  # like `metrics`, for many rows at once: a neural network
    whole: Mapping[str, Whole] = field(default_factory=dict)  # one value for all rows of a split
    schema_metrics: Callable[[Mapping[str, Any]], Mapping[str, Metric]] | None = None  # if data.schema is given
    # metrics that need the labels of the training rows, and what guessing one of these labels at random reaches
    label_metrics: Callable[[Sequence[str]], Mapping[str, Metric]] | None = None
    chance: Callable[[Sequence[str]], Mapping[str, float]] | None = None
    details: Details | None = None  # additional results: a confusion matrix, the accuracy of each field
    check: Check | None = None  # only for the user's own tasks; the others are in CHECKS
    file: str = ""  # of the user's own task

    def __post_init__(self) -> None:
        """Reject a headline or binary metric that does not exist, and two metrics of one name."""
        for name in sorted(set(self.metrics) & set(self.batch)):
            raise GradusError(f"{self._place}: two metrics are called {name!r}; rename one")
        if self.headline not in self.row_names:
            self._refuse("headline", self.headline)
        for name in sorted(self.binary.difference(self.row_names)):
            if self.schema_metrics is None and self.label_metrics is None:
                self._refuse("binary", name)

    @property
    def row_names(self) -> list[str]:
        """Return the names of the metrics that every row has by itself, sorted."""
        return sorted({*self.metrics, *self.batch})

    @property
    def _place(self) -> str:
        return self.file or f"task {self.name}"

    def _refuse(self, what: str, name: str) -> None:
        known = ", ".join(self.row_names) or "none"
        raise GradusError(f"{self._place}: {what}: no row metric {name!r}; known metrics: {known}")

    def row_metrics(self, schema: Mapping[str, Any] | None = None, labels: Sequence[str] = ()) -> dict[str, Metric]:
        """Return the metrics that take one row, including those of the JSON schema, of the labels, and `stopped`."""
        by_schema = self.schema_metrics(schema) if self.schema_metrics and schema else {}
        by_labels = self.label_metrics(labels) if self.label_metrics else {}
        # the user's own metric replaces ours of the same name
        return {**by_schema, **by_labels, **self.metrics, "stopped": stopped}

    def is_binary(self, metric: str) -> bool:
        """Return whether a row metric is 0 or 1."""
        return metric in self.binary or metric == "stopped"

    def measure(self, name: str, metric: Metric, record: Record, answer: str, ended: bool) -> float | None:
        """Return a metric's value for one answer: the best over the record's right responses (as SQuAD does, Rajpurkar
        et al. 2016). Raises GradusError if it fails, or is not a number from 0 to 1.
        """
        values = [call(self._place, name, metric, one, answer, ended, row=_row(record)) for one in record.versions()]
        return best(self._checked(name, value, f" of row {_row(record)}") for value in values)

    def measure_batch(
        self, name: str, batch: Batch, records: Sequence[Record], answers: Sequence[str]
    ) -> list[float | None]:
        """Return a batch metric's value for each answer; see `measure`."""
        asked = [(at, version) for at, record in enumerate(records) for version in record.versions()]
        versions, texts = [version for _, version in asked], [answers[at] for at, _ in asked]
        given = call(self._place, name, lambda: list(batch(versions, texts))) if records else []
        if len(given) != len(asked):
            wrong = f"{len(given)} values for {len(asked)} rows; it must return one for each row"
            raise GradusError(f"{self._place}: metric {name}: {wrong}")
        values: list[list[float | None]] = [[] for _ in records]
        for (at, version), value in zip(asked, given, strict=True):
            values[at].append(self._checked(name, value, f" of row {_row(version)}"))
        return [best(found) for found in values]

    def measure_whole(self, name: str, whole: Whole, records: Sequence[Record], answers: Sequence[str]) -> float | None:
        """Return the value of a metric over all rows; None without rows. See `measure`."""
        return self._checked(name, call(self._place, name, whole, records, answers), "") if records else None

    def _checked(self, name: str, value: Any, place: str) -> float | None:
        if value is None:
            return None
        if not isinstance(value, Real) or not 0 <= float(value) <= 1:  # NaN is neither
            wrong = f"{value!r} is not a number from 0 to 1"
        elif self.is_binary(name) and value not in (0, 1):
            wrong = f"{value!r} is neither 0 nor 1, and the metric is declared binary"
        else:
            return float(value)
        raise GradusError(f"{self._place}: metric {name}{place}: {wrong}")

    def grade(
        self,
        name: str,
        records: Sequence[Record],
        answers: Sequence[str],
        ended: Sequence[bool],
        schema: Mapping[str, Any] | None = None,
        labels: Sequence[str] = (),
    ) -> list[float | None]:
        """Return a row metric's value for each answer; see `measure`. Raises GradusError if there is no such metric."""
        if name in self.batch:
            return self.measure_batch(name, self.batch[name], records, answers)
        metrics = self.row_metrics(schema, labels)
        if name not in metrics:
            known = ", ".join(sorted({*metrics, *self.batch}))
            raise GradusError(f"{self._place}: no metric {name!r} of a row; known metrics: {known}")
        rows = zip(records, answers, ended, strict=True)
        return [self.measure(name, metrics[name], *row) for row in rows]

    def average(self, name: str, answers: Iterable[tuple[Record, str, bool]]) -> dict[str, Any]:
        """Return {value, n} of a row metric: the mean over the rows that count. `answers`: record, text, stopped."""
        given = list(answers)
        if name in self.batch:
            values = self.measure_batch(name, self.batch[name], [row[0] for row in given], [row[1] for row in given])
        else:
            values = [self.measure(name, self.metrics[name], *answer) for answer in given]
        counted = [value for value in values if value is not None]
        return {"value": round(sum(counted) / len(counted), 6) if counted else None, "n": len(counted)}


def _row(record: Record) -> str:
    return record.source or record.id
