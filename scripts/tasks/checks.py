"""Checks of a row's response for its task. `ingest` applies them to every row, before any expensive step.

A check takes (record, the JSON schema or None) and returns what is wrong, or None. Checks are separate from the tasks'
metrics, so that an edited metric reruns only grading, not `ingest`.
"""

from collections.abc import Callable, Mapping
from typing import Any

from scripts.common.errors import GradusError
from scripts.common.own_code import call, is_own, load, outline
from scripts.common.records import Record
from scripts.common.strict_json import check_schema, strict_json
from scripts.tasks.aws_commands import parse_command

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
    """Return the built-in task: the task itself, or the one that the user's own file extends; empty if none."""
    return str(outline(task).constants.get("BASE") or "") if is_own(task) else task


def load_check(task: str) -> Check | None:
    """Return the check of a task's rows: that of a built-in task, or a file's TASK, BASE and CHECK combined."""
    if not is_own(task):
        return CHECKS.get(task)
    module = load(task)
    own = module.TASK.check if hasattr(module, "TASK") else getattr(module, "CHECK", None)
    base = CHECKS.get(base_of(task))

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
