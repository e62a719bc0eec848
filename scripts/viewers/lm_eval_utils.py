"""The functions of a task for EleutherAI's lm-evaluation-harness; `lm_eval_task.py` copies this file beside the task.

Rows are graded by the project's own metrics, as they are when the harness runs. They are importable if it was started
as `python -m lm_eval` in the project's folder. Otherwise only `text_exact` is there.
"""

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
log = logging.getLogger("gradus")
Grader = Callable[[Any, str, bool], float | None]


def rows(file: str, **_: Any) -> dict[str, Any]:
    """Return {test: the rows} of a JSONL file in this folder; the harness passes the task's other metadata, too."""
    from datasets import Dataset

    lines = (HERE / file).read_text(encoding="utf-8").split("\n")
    return {"test": Dataset.from_list([json.loads(line) for line in lines if line])}


@cache
def graders() -> dict[str, Grader]:
    """Return the project's metrics of single rows, by name; none if the project is not importable."""
    task = json.loads((HERE / "task.json").read_text(encoding="utf-8"))
    try:
        from scripts.tasks.table import load_task
    except ImportError as error:
        log.warning("Gradus: only text_exact is graded (%s); run `python -m lm_eval` in the project's folder", error)
        return {}
    own = load_task(task["task"])
    batches = {name: _one_row(batch) for name, batch in own.batch.items()}
    metrics = {**own.row_metrics(task["schema"], task["labels"]), **batches}
    return {name: metrics[name] for name in task["metrics"]}


def _one_row(batch: Callable[[Sequence[Any], Sequence[str]], Sequence[float | None]]) -> Grader:
    return lambda record, answer, stopped: list(batch([record], [answer]))[0]


def grade(doc: Mapping[str, Any], results: Sequence[str]) -> dict[str, float]:
    """Return the grades of one answer. A metric that does not count for the row, or whose package is missing, is left
    out.
    """
    answer = results[0]
    graded = {"text_exact": float(answer.strip() == doc["response"].strip())}
    for name, metric in list(graders().items()):
        from scripts.common.records import Record
        from scripts.tasks.task import best

        given = {field.name: doc.get(field.name) for field in fields(Record)}
        record = Record(**{name: value for name, value in given.items() if value is not None})
        try:
            value = best(metric(version, answer, True) for version in record.versions())
        except ImportError as error:
            log.warning("Gradus: %s is not graded (%s); install the package that it names", name, error)
            del graders()[name]
            continue
        if value is not None:
            graded[name] = value
    return graded
