"""The built-in tasks, and loading of the user's own. To add a task, add a file to this folder and enter it in TASKS."""

from scripts.common.errors import GradusError
from scripts.common.own_code import is_own, load, stem
from scripts.tasks.aws import COMMAND
from scripts.tasks.checks import load_check
from scripts.tasks.classify import CLASSIFY
from scripts.tasks.extract import EXTRACT
from scripts.tasks.qa import QA
from scripts.tasks.task import Task

TASKS = {task.name: task for task in (QA, EXTRACT, CLASSIFY, COMMAND)}


def load_task(name: str) -> Task:
    """Return the task that `data.task` names: an entry of TASKS, or one defined by a Python file.

    The file defines TASK, a Task; or METRICS, {name: function}, and optionally BASE (a built-in task to extend),
    HEADLINE, BINARY (names of the metrics that are 0 or 1) and CHECK. Raises GradusError if it does not.
    """
    if not is_own(name):
        return TASKS[name]
    module = load(name)
    given = getattr(module, "TASK", None)
    if given is not None and not isinstance(given, Task):
        raise GradusError(f"{name}: TASK is {given!r}; it must be a Task from scripts.tasks.task")
    base = given or TASKS.get(getattr(module, "BASE", ""))
    own = {} if given else getattr(module, "METRICS", {})
    if not isinstance(own, dict) or not all(callable(metric) for metric in own.values()):
        raise GradusError(f"{name}: METRICS is {own!r}; it must be a dict {{name: function}}")
    metrics = {**(base.metrics if base else {}), **own}
    if not metrics:
        raise GradusError(f"{name}: defines neither TASK nor METRICS; see docs/data.md")
    return Task(
        name=stem(name),
        metrics=metrics,
        headline=getattr(module, "HEADLINE", base.headline if base else next(iter(metrics))),
        # a metric of the base that the file redefines is binary only if the file declares it
        binary=frozenset(getattr(module, "BINARY", ())) | ((base.binary if base else frozenset()) - set(own)),
        whole=base.whole if base else {},
        schema_metrics=base.schema_metrics if base else None,
        details=base.details if base else None,
        check=load_check(name),
        file=name,
    )
