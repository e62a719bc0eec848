"""Strict JSON parsing, and JSON schemas."""

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from scripts.common.errors import GradusError
from scripts.common.validation import Draft202012Validator, SchemaError, best_match


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"duplicate key {next(name for name in names if names.count(name) > 1)!r}")
    return value


def _no_number(name: str) -> Any:
    raise ValueError(f"{name} is not valid JSON; write null or omit the field")


def strict_json(text: str) -> Any:
    """Return the value of a JSON text. Raises ValueError also for duplicate keys, NaN and Infinity."""
    try:
        return json.loads(text, object_pairs_hook=_unique, parse_constant=_no_number)
    except RecursionError:
        raise ValueError("nested too deeply") from None


@cache
def _validator(schema: str) -> Draft202012Validator:
    return Draft202012Validator(json.loads(schema))


def read_schema(path: str | Path) -> dict[str, Any]:
    """Return a JSON schema (2020-12) from a file; raise GradusError if it is not valid."""
    try:
        schema = strict_json(Path(path).read_text(encoding="utf-8"))
        Draft202012Validator.check_schema(schema)
    except (ValueError, SchemaError) as error:
        reason = error.message if isinstance(error, SchemaError) else error
        raise GradusError(f"{path}: not a valid JSON schema ({reason}); correct it, or change data.schema") from None
    if not isinstance(schema, dict):
        raise GradusError(f"{path}: not a JSON schema for objects; correct it, or change data.schema")
    return schema


def check_schema(value: Any, schema: Mapping[str, Any]) -> str:
    """Return where and why a JSON value violates the schema; empty if it does not."""
    error = best_match(_validator(json.dumps(schema)).iter_errors(value))
    return f"at {error.json_path}: {error.message}" if error else ""
