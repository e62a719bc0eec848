"""JSON as strictly as a file that others must read has to be, and JSON schemas."""

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from scripts.common.errors import GradusError
from scripts.common.validation import Draft202012Validator, SchemaError, best_match


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"key {next(name for name in names if names.count(name) > 1)!r} stands there twice")
    return found


def _no_number(name: str) -> Any:
    raise ValueError(f"{name} is no JSON value; write null or leave the field out")


def strict_json(text: str) -> Any:
    """Return the value of a JSON text. Raises ValueError for what others let pass: duplicate keys, NaN, Infinity."""
    try:
        return json.loads(text, object_pairs_hook=_unique, parse_constant=_no_number)
    except RecursionError:
        raise ValueError("nested too deeply") from None


@cache
def _validator(schema: str) -> Draft202012Validator:
    return Draft202012Validator(json.loads(schema))


def read_schema(path: str | Path) -> dict[str, Any]:
    """Return a JSON schema (2020-12) from a file; raise GradusError if it is none."""
    try:
        schema = strict_json(Path(path).read_text(encoding="utf-8"))
        Draft202012Validator.check_schema(schema)
    except (ValueError, SchemaError) as error:
        reason = error.message if isinstance(error, SchemaError) else error
        raise GradusError(f"{path}: not a JSON schema ({reason}); data.schema names it") from None
    if not isinstance(schema, dict):
        raise GradusError(f"{path}: not a JSON schema of objects; data.schema names it")
    return schema


def check_schema(value: Any, schema: Mapping[str, Any]) -> str:
    """Return what in a JSON value is not as the schema says; empty if nothing."""
    error = best_match(_validator(json.dumps(schema)).iter_errors(value))
    return f"at {error.json_path}: {error.message}" if error else ""
