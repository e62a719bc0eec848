"""The built-in tasks, and loading of the user's own. To add a task, add a file to this folder and enter it in TASKS."""

from collections.abc import Mapping
from dataclasses import replace
from typing import TypeVar

from scripts.common.errors import GradusError
from scripts.common.own_code import is_own, stem
from scripts.tasks.aws import COMMAND
from scripts.tasks.checks import load_check
from scripts.tasks.classify import CLASSIFY
from scripts.tasks.extract import EXTRACT
from scripts.tasks.own import load_own
from scripts.tasks.qa import QA
from scripts.tasks.task import Task

Function = TypeVar("Function")
TASKS = {task.name: task for task in (QA, EXTRACT, CLASSIFY, COMMAND)}


def load_task(name: str, headline: str | None = None) -> Task:
    """Return the task that `data.task` names, an entry of TASKS or one defined by a Python file, with another headline
    if one is given (`evaluate.headline`).

    The file defines TASK, a Task; or METRICS or BATCH, {name: function}, and, as it likes, BASE (a built-in task whose
    metrics it adds to), HEADLINE, BINARY (names of the metrics that are 0 or 1) and CHECK. Raises GradusError if it
    does not (own.py).
    """
    task = _load_own_task(name) if is_own(name) else TASKS[name]
    return replace(task, headline=headline) if headline else task


def _load_own_task(name: str) -> Task:
    module = load_own(name)
    given: Task | None = getattr(module, "TASK", None)
    name_of_base = getattr(module, "BASE", None)
    if name_of_base is not None and name_of_base not in TASKS:
        raise GradusError(f"{name}: BASE: no task {name_of_base!r}; there are: {', '.join(TASKS)}")
    base = TASKS.get(name_of_base or "")
    if given:
        return replace(
            given,
            name=stem(name),
            headline=getattr(module, "HEADLINE", given.headline),
            binary=given.binary | frozenset(getattr(module, "BINARY", ())),
            check=load_check(name),
            file=name,
        )
    own, own_batch = getattr(module, "METRICS", {}), getattr(module, "BATCH", {})
    renewed = {*own, *own_batch}  # these replace the base's metrics of the same names
    metrics = {**_without(renewed, base.metrics if base else {}), **own}
    batch = {**_without(renewed, base.batch if base else {}), **own_batch}
    chance = base.chance if base else None
    return Task(
        name=stem(name),
        metrics=metrics,
        headline=getattr(module, "HEADLINE", base.headline if base else next(iter({**metrics, **batch}))),
        # a metric of the base that the file redefines is binary only if the file declares it
        binary=frozenset(getattr(module, "BINARY", ())) | ((base.binary if base else frozenset()) - renewed),
        batch=batch,
        whole=_without(renewed, base.whole if base else {}),
        schema_metrics=base.schema_metrics if base else None,
        label_metrics=base.label_metrics if base else None,
        chance=chance and (lambda labels: _without(renewed, chance(labels))),
        details=base.details if base else None,
        check=load_check(name),
        file=name,
    )


def _without(names: set[str], metrics: Mapping[str, Function]) -> dict[str, Function]:
    return {name: metric for name, metric in metrics.items() if name not in names}
