"""Grade answers against the reference responses of their records.

In: answers, records, the JSON schema of extracted objects if there is one. Out: one line of grades per answer,
{metric: {value, n}}, and details: `ceiling`, and what the task adds (a confusion matrix, the accuracy of each field).

The metrics belong to the task: scripts/tasks. To add one, write a function there and add it to its Task.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from scripts.common.errors import GradusError
from scripts.common.io import read_jsonl, write_json, write_jsonl
from scripts.common.job import find_job
from scripts.common.logs import logging_to
from scripts.common.records import Record, read_records
from scripts.common.strict_json import read_schema
from scripts.tasks.table import load_task
from scripts.tasks.task import Metric, Task


def mean(values: Sequence[float | None]) -> dict[str, Any]:
    """Return {value, n}: the mean over the rows that count, and their number."""
    counted = [value for value in values if value is not None]
    return {"value": round(sum(counted) / len(counted), 6) if counted else None, "n": len(counted)}


def find_ceiling(records: Sequence[Record], task: Task, metrics: Mapping[str, Metric]) -> dict[str, float | None]:
    """Return each metric's value for the references. Below 1, no model can reach 1, or the metric is wrong."""
    return {
        name: mean([task.measure(name, metric, record, record.response, True) for record in records])["value"]
        for name, metric in metrics.items()
    }


def grade(
    records: Sequence[Record], answers: Sequence[dict[str, Any]], task: Task, schema: Mapping[str, Any] | None = None
) -> tuple[list[dict[str, Any]], dict[str, Any], dict[str, Any]]:
    """Return each answer's grades, all metrics with their n, and details. Rows are in the order of the answers.

    A row has no grade for metrics that do not apply to it. Raises GradusError if an answer belongs to none of the
    records, or if a metric does not return a number from 0 to 1.
    """
    by_id = {record.id: record for record in records}
    metrics = task.row_metrics(schema)
    rows: list[dict[str, Any]] = []
    asked: list[Record] = []
    for given in answers:
        record = by_id.get(given["id"])
        if record is None:
            raise GradusError(
                f"answer {given['id']} belongs to no record of this split; delete the answers and run again"
            )
        asked.append(record)
        values = {
            name: task.measure(name, metric, record, given["text"], given["stopped"])
            for name, metric in metrics.items()
        }
        rows.append({"id": record.id, **{name: value for name, value in values.items() if value is not None}})
    texts = [given["text"] for given in answers]
    table = {name: mean([row.get(name) for row in rows]) for name in metrics}
    for name, whole in task.whole.items():
        table[name] = {"value": round(whole(asked, texts), 6) if rows else None, "n": len(rows)}
    details = task.details(asked, texts) if task.details else {}
    details["ceiling"] = find_ceiling(asked, task, {name: m for name, m in metrics.items() if name != "stopped"})
    return rows, dict(sorted(table.items())), details


if job := find_job(globals()):
    with logging_to(job.log[0]):
        marks, summary, more = grade(
            list(read_records(job.input.records)),
            list(read_jsonl(job.input.answers)),
            load_task(job.params.task),
            read_schema(job.input.schema) if job.input.get("schema") else None,
        )
        write_jsonl(job.output.grades, marks)
        write_json(job.output.metrics, summary)
        write_json(job.output.details, more)
