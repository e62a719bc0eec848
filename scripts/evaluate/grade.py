"""Grade answers against the reference responses of their records.

In: answers, records, the training rows, the JSON schema of extracted objects if there is one. Out: one line of grades
per answer, {metric: {value, n}}, and details: `reference_points`, and what the task adds (a confusion matrix, the
accuracy of each field).

The metrics belong to the task: scripts/tasks. To add one, write a function there and add it to its Task.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from scripts.common.errors import GradusError
from scripts.common.io import read_jsonl, write_json, write_jsonl
from scripts.common.job import find_job
from scripts.common.logs import logging_to
from scripts.common.records import Record, read_records
from scripts.common.strict_json import read_schema
from scripts.tasks.table import load_task
from scripts.tasks.task import Metric, Task, labels_of

CONSTANTS = 5  # responses that are tried as an answer to every row
Grades = list[dict[str, Any]]


def mean(values: Sequence[float | None]) -> dict[str, Any]:
    """Return {value, n}: the mean over the rows that count, and their number."""
    counted = [value for value in values if value is not None]
    return {"value": round(sum(counted) / len(counted), 6) if counted else None, "n": len(counted)}


def grade_rows(
    task: Task, metrics: Mapping[str, Metric], records: Sequence[Record], texts: Sequence[str], ended: Sequence[bool]
) -> tuple[Grades, dict[str, Any]]:
    """Return the grades of one answer per record, and all metrics as {metric: {value, n}}.

    A row has no grade for metrics that do not apply to it.
    """
    asked = list(zip(records, texts, ended, strict=True))
    columns = {name: [task.measure(name, metric, *row) for row in asked] for name, metric in metrics.items()}
    columns |= {name: task.measure_batch(name, batch, records, texts) for name, batch in task.batch.items()}
    rows = [
        {"id": record.id, **{name: values[at] for name, values in columns.items() if values[at] is not None}}
        for at, record in enumerate(records)
    ]
    table = {name: mean(values) for name, values in columns.items()}
    for name, whole in task.whole.items():
        value = task.measure_whole(name, whole, records, texts)
        table[name] = {"value": None if value is None else round(value, 6), "n": len(rows)}
    return rows, dict(sorted(table.items()))


def reference_points(
    task: Task, metrics: Mapping[str, Metric], records: Sequence[Record], trained: Counter[str]
) -> dict[str, dict[str, float | None]]:
    """Return {metric: {chance, constant, ceiling}}; null where something is not defined. `trained`: the responses of
    the training rows.

    - chance: expected value of guessing one of the training rows' labels at random; only for labels.
    - constant: the best value that one and the same answer to every row reaches. The five commonest training responses
      are tried, of equally common ones the first in the training rows.
    - ceiling: value of the references themselves. Below 1, no model can reach 1, or the metric is wrong.
    """
    metrics = {name: metric for name, metric in metrics.items() if name != "stopped"}

    def values(texts: Sequence[str]) -> dict[str, float | None]:
        table = grade_rows(task, metrics, records, texts, [True] * len(records))[1]
        return {name: entry["value"] for name, entry in table.items()}

    ceiling = values([record.response for record in records])
    constants = [values([text] * len(records)) for text, _ in trained.most_common(CONSTANTS)]
    chance = task.chance(labels_of(trained)) if task.chance and trained else {}
    return {
        name: {
            "chance": round(chance[name], 6) if name in chance else None,
            "constant": max((value for row in constants if (value := row[name]) is not None), default=None),
            "ceiling": ceiling[name],
        }
        for name in ceiling
    }


def grade(
    records: Sequence[Record],
    answers: Sequence[dict[str, Any]],
    task: Task,
    schema: Mapping[str, Any] | None = None,
    trained: Counter[str] | None = None,
) -> tuple[Grades, dict[str, Any], dict[str, Any]]:
    """Return each answer's grades, all metrics with their n, and details. Rows are in the order of the answers.

    `trained`: the responses of the training rows. Raises GradusError if an answer belongs to none of the records, or if
    a metric does not return a number from 0 to 1.
    """
    by_id = {record.id: record for record in records}
    asked: list[Record] = []
    for given in answers:
        record = by_id.get(given["id"])
        if record is None:
            raise GradusError(
                f"answer {given['id']} belongs to no record of this split; delete the answers and run again"
            )
        asked.append(record)
    trained = trained or Counter()
    texts = [given["text"] for given in answers]
    metrics = task.row_metrics(schema, labels_of(trained))
    rows, table = grade_rows(task, metrics, asked, texts, [given["stopped"] for given in answers])
    details = task.details(asked, texts) if task.details else {}
    details["reference_points"] = reference_points(task, metrics, asked, trained)
    return rows, table, details


if job := find_job(globals()):
    with logging_to(job.log[0]):
        marks, summary, more = grade(
            list(read_records(job.input.records)),
            list(read_jsonl(job.input.answers)),
            load_task(job.params.task),
            read_schema(job.input.schema) if job.input.get("schema") else None,
            Counter(row["response"] for row in read_jsonl(job.input.trained)),
        )
        write_jsonl(job.output.grades, marks)
        write_json(job.output.metrics, summary)
        write_json(job.output.details, more)
