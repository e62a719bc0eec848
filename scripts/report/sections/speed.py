"""Section on sizes and speed: the files, and how fast the models answered."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from scripts.common.comparison import Models
from scripts.report.layout import in_groups


def sizes(ggufs: Sequence[Mapping[str, Any]], models: Models) -> list[dict[str, Any]]:
    """Return, in groups, each GGUF's path, size and the share of its parameters that each type holds.

    `ggufs`: {model, path, bytes, bits_per_weight, parameters_by_type}.
    """
    rows = []
    for gguf in ggufs:
        total = sum(gguf["parameters_by_type"].values())
        types = [{"type": kind, "share": count / total} for kind, count in gguf["parameters_by_type"].items()]
        kept = {key: gguf[key] for key in ("model", "path", "bytes", "bits_per_weight")}
        rows.append({**kept, "types": types})
    return in_groups(rows, models)


def answering(speeds: Sequence[Mapping[str, Any]], models: Models) -> dict[str, Any]:
    """Return, in groups, how fast each model answered each split that was asked; `speeds`: {model, split, rows, …}.

    Models without tokens (`nearest`, `linear`) have seconds a row; what an endpoint charged is in the currency of its
    price. Where some of its answers were kept from earlier runs, seconds say nothing and are null.
    """
    rows = []
    for speed in speeds:
        if speed["rows"]:
            seconds = None if speed.get("cached") else speed["seconds"]
            each = None if seconds is None else seconds / speed["rows"]
            rows.append({**speed, "seconds": seconds, "seconds_per_row": each, "cost": speed.get("cost")})
    return {"blocks": in_groups(rows, models), "cost": any(row["cost"] is not None for row in rows)}


def fewer_examples(speeds: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return {model, split, rows, count, rows_with_fewer, fewest} where fewer examples were shown than are wanted."""
    return [
        {**{key: speed[key] for key in ("model", "split", "rows")}, **examples}
        for speed in speeds
        if (examples := speed.get("examples")) and examples["rows_with_fewer"]
    ]


def apis(speeds: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return, for each split that a model behind an API answered, what is known of the model, and the cost."""
    return [
        {
            **{key: speed[key] for key in ("model", "split", "rows", "cached", "cost")},
            "url": server["url"],
            "asked_for": server["model"],
            "reported": ", ".join([*server["reported_models"], *server["system_fingerprints"]]) or "–",
            "parameters": ", ".join(f"{name} {json.dumps(value)}" for name, value in server["parameters"].items()),
        }
        for speed in speeds
        if speed["rows"] and (server := speed.get("server"))
    ]
