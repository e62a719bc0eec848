"""What a task file of the user's own defines, checked as it is loaded: by `ingest`, before anything expensive.

It imports neither Task nor metrics, so that an edited metric of ours does not start a run over with `ingest`.
"""

from collections.abc import Mapping
from types import ModuleType
from typing import Any

from scripts.common.errors import GradusError
from scripts.common.own_code import load

TASK_TYPE = "scripts.tasks.task.Task"
STANDS_ALONE = ("BASE", "METRICS", "BATCH", "CHECK")  # they extend a built-in task; a Task has its own
RESERVED = {"stopped": "every task has that one", "id": "a row's grades have its id under that name"}


def load_own(file: str) -> ModuleType:
    """Run the file of a task and return it as a module. Raises GradusError if what it defines is no task."""
    module = load(file)
    task, metrics, batch, binary = (getattr(module, name, None) for name in ("TASK", "METRICS", "BATCH", "BINARY"))
    if task is not None:
        if not any(f"{kind.__module__}.{kind.__qualname__}" == TASK_TYPE for kind in type(task).__mro__):
            raise GradusError(f"{file}: TASK is {task!r}; it takes a Task of scripts.tasks.task")
        if beside := [name for name in STANDS_ALONE if hasattr(module, name)]:
            raise GradusError(f"{file}: {beside[0]} beside TASK has no effect; put it into the Task, or drop TASK")
        metrics, batch = task.metrics, task.batch
    elif not metrics and not batch and not hasattr(module, "BASE"):
        raise GradusError(f"{file}: defines neither TASK nor METRICS nor BATCH; see docs/data.md")
    for key, given in (("METRICS", metrics), ("BATCH", batch)):
        if given is not None and not _are_metrics(given):
            raise GradusError(f"{file}: {key} is {given!r}; it takes {{name: function}}")
    for name in [*(metrics or ()), *(batch or ()), *(task.whole if task else ())]:
        if name in RESERVED:
            raise GradusError(f"{file}: a metric cannot be called {name!r} ({RESERVED[name]}); rename it")
    if binary is not None and not _are_names(binary):
        raise GradusError(f"{file}: BINARY is {binary!r}; it takes a set of names of metrics, such as {{'exact'}}")
    return module


def _are_metrics(value: Any) -> bool:
    return isinstance(value, Mapping) and all(isinstance(name, str) and callable(part) for name, part in value.items())


def _are_names(value: Any) -> bool:
    return isinstance(value, set | frozenset | list | tuple) and all(isinstance(name, str) for name in value)
