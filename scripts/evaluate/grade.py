"""Grade answers against the records that asked for them.

In: answers, records. Out: one line of grades per answer, and {metric: {value, n}}.

A new metric is a function here, entered in METRICS under the tasks that it fits. It takes (record, answer,
stopped) and returns a number from 0 to 1; the metric's value is the mean.
"""

from collections.abc import Callable, Sequence
from typing import Any

from scripts.common.commands import Command, parse_command
from scripts.common.errors import GradusError
from scripts.common.io import read_jsonl, write_json, write_jsonl
from scripts.common.logs import logging_to
from scripts.common.records import Record, read_records
from scripts.evaluate.aws_model import is_valid

Metric = Callable[[Record, str, bool], float]


def _command(text: str) -> Command | None:
    """Return the command of an answer's text, None if it is not one and nothing else."""
    try:
        return parse_command(text)
    except ValueError:
        return None


def exact(record: Record, answer: str, stopped: bool) -> float:
    """1 if the command equals the record's once the shell has split both and option order is ignored."""
    command = _command(answer)
    return float(command is not None and command.normal == parse_command(record.response).normal)


def operation(record: Record, answer: str, stopped: bool) -> float:
    """1 if service and operation are the record's."""
    command = _command(answer)
    return float(command is not None and command.name == parse_command(record.response).name)


def option_f1(record: Record, answer: str, stopped: bool) -> float:
    """F1, the harmonic mean of precision and recall (van Rijsbergen 1979), of the sets of option names.

    1 if neither command has an option; 0 if the operation is not the record's.
    """
    command, reference = _command(answer), parse_command(record.response)
    if command is None or command.name != reference.name:
        return 0.0
    given, wanted = {name for name, _ in command.options}, {name for name, _ in reference.options}
    return 2 * len(given & wanted) / (len(given) + len(wanted)) if given or wanted else 1.0


def valid(record: Record, answer: str, stopped: bool) -> float:
    """1 if botocore's service models know the operation and each of its options, or the option is a global one."""
    command = _command(answer)
    return float(command is not None and is_valid(command))


def text_exact(record: Record, answer: str, stopped: bool) -> float:
    """1 if the answer is the record's response, blanks at both ends ignored."""
    return float(answer.strip() == record.response.strip())


def checks(record: Record, answer: str, stopped: bool) -> float:
    """Share of the record's checks that the answer holds; 1 if it has none."""
    return sum(check in answer for check in record.checks) / len(record.checks) if record.checks else 1.0


def stopped_itself(record: Record, answer: str, stopped: bool) -> float:
    """1 if the model ended its answer itself, 0 if it was cut off at the token limit."""
    return float(stopped)


METRICS: dict[str, dict[str, Metric]] = {
    "command": {
        "exact": exact,
        "operation": operation,
        "option_f1": option_f1,
        "stopped": stopped_itself,
        "valid": valid,
    },
    "qa": {"checks": checks, "exact": text_exact, "stopped": stopped_itself},
    "extract": {"checks": checks, "exact": text_exact, "stopped": stopped_itself},
    "classify": {"exact": text_exact, "stopped": stopped_itself},
}


def grade(
    records: Sequence[Record], answers: Sequence[dict[str, Any]], task: str
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Return each answer's grades and the means with their n; all metrics of the task, in the same order of rows.

    Raises GradusError if an answer belongs to none of the records.
    """
    by_id = {record.id: record for record in records}
    rows: list[dict[str, Any]] = []
    for given in answers:
        record = by_id.get(given["id"])
        if record is None:
            raise GradusError(f"answer {given['id']} belongs to no record of this split; delete the answers, run again")
        grades = {name: metric(record, given["text"], given["stopped"]) for name, metric in METRICS[task].items()}
        rows.append({"id": record.id, **grades})
    means = {
        name: {"value": round(sum(row[name] for row in rows) / len(rows), 6) if rows else None, "n": len(rows)}
        for name in METRICS[task]
    }
    return rows, means


if "snakemake" in globals():
    job = globals()["snakemake"]
    with logging_to(job.log[0]):
        marks, summary = grade(
            list(read_records(job.input.records)), list(read_jsonl(job.input.answers)), job.params.task
        )
        write_jsonl(job.output.grades, marks)
        write_json(job.output.metrics, summary)
