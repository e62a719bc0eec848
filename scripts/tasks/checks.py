"""Checks of a row's response for its task. `ingest` applies them to every row, before any expensive step.

A check takes (record, the JSON schema or None) and returns what is wrong, or None. Checks are separate from the tasks'
metrics, so that an edited metric reruns only grading, not `ingest`.
"""

from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

from scripts.common.errors import GradusError
from scripts.common.own_code import call, is_own
from scripts.common.records import Record
from scripts.common.strict_json import check_schema, strict_json
from scripts.tasks.aws_commands import parse_command
from scripts.tasks.own import load_own

Check = Callable[[Record, Mapping[str, Any] | None], str | None]

LABELS = ("classify",)  # tasks whose answers are labels, of which there must be at least two


def json_object(record: Record, schema: Mapping[str, Any] | None) -> str | None:
    """Task `extract`: one JSON object, which satisfies the schema if there is one."""
    try:
        value = strict_json(record.response)
    except ValueError as error:
        return f"not a JSON object, which data.task extract takes ({error})"
    if not isinstance(value, dict):
        return f"not a JSON object, which data.task extract takes (it is of type {type(value).__name__})"
    if schema and (wrong := check_schema(value, schema)):
        return f"not as the schema says, {wrong}"
    return None


def aws_command(record: Record, schema: Mapping[str, Any] | None) -> str | None:
    """Task `command`: one `aws …` command."""
    try:
        parse_command(record.response)
    except ValueError as error:
        return f"not one aws command, which data.task command takes ({error})"
    return None


CHECKS: dict[str, Check] = {"extract": json_object, "command": aws_command}


def base_of(task: str) -> str:
    """Return the built-in task whose rows a task has: itself, or BASE or TASK's name in a file of the user's own."""
    return _base(load_own(task)) if is_own(task) else task


def _base(module: ModuleType) -> str:
    task = getattr(module, "TASK", None)
    return str(getattr(module, "BASE", "") if task is None else task.name)


def load_check(task: str) -> Check | None:
    """Return the check of a task's rows: of a built-in one, or what a file and the task that it extends ask, together.

    Raises GradusError if the file defines no task.
    """
    if not is_own(task):
        return CHECKS.get(task)
    module = load_own(task)
    given = getattr(module, "TASK", None)
    own = getattr(module, "CHECK", None) if given is None else given.check
    base = CHECKS.get(_base(module))

    def check(record: Record, schema: Mapping[str, Any] | None) -> str | None:
        wrong = base(record, schema) if base else None
        if wrong or own is None:
            return wrong
        wrong = call(task, "CHECK", own, record, schema, row=record.source)
        if wrong is not None and not isinstance(wrong, str):
            raise GradusError(
                f"{task}: CHECK returned {wrong!r}; it must return what is wrong with a row as a string, or None"
            )
        return wrong or None

    return check
