"""Task `extract`: a text and a JSON object with the information in it."""

import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from scripts.common.records import Record
from scripts.common.strict_json import check_schema, strict_json
from scripts.tasks.task import Metric, Task


def _object(text: str) -> dict[str, Any] | None:
    """Parse a text that is one JSON object and nothing else; None if it is not."""
    try:
        value = strict_json(text.strip())
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def valid_json(record: Record, answer: str, stopped: bool) -> float:
    """1 if the answer is one JSON object (RFC 8259, keys unique) and nothing else."""
    return float(_object(answer) is not None)


def valid_schema(schema: Mapping[str, Any]) -> Metric:
    """Return the metric that is 1 if the answer is a JSON object that satisfies `schema` (JSON Schema 2020-12)."""

    def metric(record: Record, answer: str, stopped: bool) -> float:
        value = _object(answer)
        return float(value is not None and not check_schema(value, schema))

    return metric


def same(left: Any, right: Any) -> bool:
    """Return whether two JSON values are equal: 1 equals 1.0, but not true or "1"; the order of keys is ignored."""
    return json.dumps(left, sort_keys=True) == json.dumps(right, sort_keys=True) or (
        not isinstance(left, bool) and not isinstance(right, bool) and isinstance(left, int | float) and left == right
    )


def json_exact(record: Record, answer: str, stopped: bool) -> float:
    """1 if the answer equals the record's JSON object, ignoring the order of keys (exact match)."""
    value = _object(answer)
    return float(value is not None and same(value, strict_json(record.response)))


def fields(record: Record, answer: str, stopped: bool) -> float:
    """Share of correct fields among all fields of record and answer (the Jaccard index of their key-value pairs,
    counted by key): a field that is missing, invented or has another value is wrong.
    """
    value, wanted = _object(answer), strict_json(record.response)
    if value is None:
        return 0.0
    right = sum(name in value and same(value[name], wanted[name]) for name in wanted)
    return right / len(set(value) | set(wanted)) if value or wanted else 1.0


def by_field(records: Sequence[Record], answers: Sequence[str]) -> dict[str, Any]:
    """Return {field: {wanted, right, invented}}: rows with the field, correct answers among these, and answers with the
    field where the row has none.
    """
    found: dict[str, Counter[str]] = defaultdict(Counter)
    for record, answer in zip(records, answers, strict=True):
        wanted, given = strict_json(record.response), _object(answer) or {}
        for name, value in wanted.items():
            found[name]["wanted"] += 1
            found[name]["right"] += name in given and same(given[name], value)
        for name in set(given) - set(wanted):
            found[name]["invented"] += 1
    # a model can invent any number of fields: list only those of the rows, and count the others together
    known = {name: counts for name, counts in found.items() if counts["wanted"]}
    unknown = sum(counts["invented"] for name, counts in found.items() if name not in known)
    table = {name: {key: counts[key] for key in ("wanted", "right", "invented")} for name, counts in known.items()}
    return {"fields": dict(sorted(table.items())), "unknown_fields_invented": unknown}


EXTRACT = Task(
    name="extract",
    metrics={"exact": json_exact, "fields": fields, "valid_json": valid_json},
    headline="exact",
    binary=frozenset({"exact", "valid_json", "valid_schema"}),
    schema_metrics=lambda schema: {"valid_schema": valid_schema(schema)},
    details=by_field,
)
