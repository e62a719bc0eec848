"""Grade answers against the records that asked for them.

In: answers, records, the JSON schema of extracted objects if there is one. Out: one line of grades per answer,
{metric: {value, n}}, and details: a confusion matrix, or the accuracy of each field.

A new metric is a function here, entered in METRICS under the tasks that it fits. It takes (record, answer,
stopped) and returns a number from 0 to 1; the metric's value is the mean. What is no mean over rows is in WHOLE.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from scripts.common.commands import Command, parse_command
from scripts.common.errors import GradusError
from scripts.common.io import read_jsonl, write_json, write_jsonl
from scripts.common.job import find_job
from scripts.common.logs import logging_to
from scripts.common.records import Record, read_records
from scripts.common.strict_json import check_schema, read_schema, strict_json
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


def _object(text: str) -> dict[str, Any] | None:
    """Return the JSON object that a text is, and nothing else around it; None if it is none."""
    try:
        value = strict_json(text.strip())
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def valid_json(record: Record, answer: str, stopped: bool) -> float:
    """1 if the answer is one JSON object (RFC 8259, keys unique) and nothing else."""
    return float(_object(answer) is not None)


def valid_schema(schema: Mapping[str, Any]) -> Metric:
    """Return the metric that is 1 if the answer is a JSON object that satisfies `schema` (JSON Schema 2020-12)."""

    def metric(record: Record, answer: str, stopped: bool) -> float:
        value = _object(answer)
        return float(value is not None and not check_schema(value, schema))

    return metric


def same(one: Any, other: Any) -> bool:
    """Say whether two JSON values are equal: 1 is 1.0, but neither true nor "1"; the order of keys is no matter."""
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True) or (
        not isinstance(one, bool) and not isinstance(other, bool) and isinstance(one, int | float) and one == other
    )


def json_exact(record: Record, answer: str, stopped: bool) -> float:
    """1 if the answer is the record's JSON object, whatever the order of keys (exact match)."""
    value = _object(answer)
    return float(value is not None and same(value, strict_json(record.response)))


def fields(record: Record, answer: str, stopped: bool) -> float:
    """Share of fields that are right, of all that record or answer have (the Jaccard index of their key-value pairs,
    counted by key): a field left out, invented or of another value is wrong.
    """
    value, wanted = _object(answer), strict_json(record.response)
    if value is None:
        return 0.0
    right = sum(name in value and same(value[name], wanted[name]) for name in wanted)
    return right / len(set(value) | set(wanted)) if value or wanted else 1.0


def accuracy(record: Record, answer: str, stopped: bool) -> float:
    """1 if the answer is the record's label, blanks at both ends ignored."""
    return float(answer.strip() == record.response.strip())


def macro_f1(records: Sequence[Record], answers: Sequence[str]) -> float:
    """Mean over the labels of each label's F1 (Sokolova and Lapalme 2009, table 3, M-averaged), by scikit-learn.

    An answer that is no label is a miss for the label that was wanted.
    """
    from sklearn.metrics import f1_score

    wanted = [record.response.strip() for record in records]
    given = [answer.strip() for answer in answers]
    return float(f1_score(wanted, given, labels=sorted(set(wanted)), average="macro", zero_division=0))


def confusion(records: Sequence[Record], answers: Sequence[str]) -> dict[str, Any]:
    """Return {labels, matrix}: how often each label (row) was answered as each (column); the last column, "(other)",
    is whatever no row of the split wants.
    """
    labels = sorted({record.response.strip() for record in records})
    counts = {label: Counter[str]() for label in labels}
    for record, answer in zip(records, answers, strict=True):
        given = answer.strip()
        counts[record.response.strip()][given if given in counts else "(other)"] += 1
    return {"labels": labels, "matrix": [[counts[row][column] for column in [*labels, "(other)"]] for row in labels]}


def by_field(records: Sequence[Record], answers: Sequence[str]) -> dict[str, Any]:
    """Return {field: {wanted, right, invented}}: rows that have it, of these right, and answers that have it wrongly
    where the row has none.
    """
    found: dict[str, Counter[str]] = defaultdict(Counter)
    for record, answer in zip(records, answers, strict=True):
        wanted, given = strict_json(record.response), _object(answer) or {}
        for name, value in wanted.items():
            found[name]["wanted"] += 1
            found[name]["right"] += name in given and same(given[name], value)
        for name in set(given) - set(wanted):
            found[name]["invented"] += 1
    # fields that a model invents are as many as it likes: those of the rows only, the others together
    known = {name: counts for name, counts in found.items() if counts["wanted"]}
    unknown = sum(counts["invented"] for name, counts in found.items() if name not in known)
    table = {name: {key: counts[key] for key in ("wanted", "right", "invented")} for name, counts in known.items()}
    return {"fields": dict(sorted(table.items())), "unknown_fields_invented": unknown}


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
    "extract": {"exact": json_exact, "fields": fields, "stopped": stopped_itself, "valid_json": valid_json},
    "classify": {"accuracy": accuracy, "stopped": stopped_itself},
}
# what is computed over all rows of a split at once
WHOLE: dict[str, dict[str, Callable[[Sequence[Record], Sequence[str]], float]]] = {"classify": {"macro_f1": macro_f1}}
DETAILS: dict[str, Callable[[Sequence[Record], Sequence[str]], dict[str, Any]]] = {
    "classify": confusion,
    "extract": by_field,
}


def grade(
    records: Sequence[Record], answers: Sequence[dict[str, Any]], task: str, schema: Mapping[str, Any] | None = None
) -> tuple[list[dict[str, Any]], dict[str, Any], dict[str, Any]]:
    """Return each answer's grades, all metrics with their n, and the task's details; rows in the order of answers.

    Raises GradusError if an answer belongs to none of the records.
    """
    by_id = {record.id: record for record in records}
    metrics = {**METRICS[task], **({"valid_schema": valid_schema(schema)} if schema else {})}
    rows: list[dict[str, Any]] = []
    asked: list[Record] = []
    for given in answers:
        record = by_id.get(given["id"])
        if record is None:
            raise GradusError(f"answer {given['id']} belongs to no record of this split; delete the answers, run again")
        asked.append(record)
        rows.append(
            {
                "id": record.id,
                **{name: metric(record, given["text"], given["stopped"]) for name, metric in metrics.items()},
            }
        )
    texts = [given["text"] for given in answers]
    values = {name: sum(row[name] for row in rows) / len(rows) if rows else None for name in metrics}
    values |= {name: whole(asked, texts) if rows else None for name, whole in WHOLE.get(task, {}).items()}
    table = {
        name: {"value": None if value is None else round(value, 6), "n": len(rows)}
        for name, value in sorted(values.items())
    }
    return rows, table, DETAILS[task](asked, texts) if task in DETAILS else {}


if job := find_job(globals()):
    with logging_to(job.log[0]):
        marks, summary, more = grade(
            list(read_records(job.input.records)),
            list(read_jsonl(job.input.answers)),
            job.params.task,
            read_schema(job.input.schema) if job.input.get("schema") else None,
        )
        write_jsonl(job.output.grades, marks)
        write_json(job.output.metrics, summary)
        write_json(job.output.details, more)
