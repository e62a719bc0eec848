"""Task `qa`: a question and its answer, both free text."""

from scripts.common.records import Record
from scripts.tasks.task import Task, text_exact


def checks_present(record: Record, answer: str, stopped: bool) -> float | None:
    """Share of the record's checks that the answer contains; a record without checks does not count."""
    return sum(check in answer for check in record.checks) / len(record.checks) if record.checks else None


QA = Task(
    name="qa",
    metrics={"checks_present": checks_present, "exact": text_exact},
    headline="exact",
    binary=frozenset({"exact"}),
)
