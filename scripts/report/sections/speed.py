"""Section on sizes and speed: the files, and how fast the models answered."""

from collections.abc import Mapping, Sequence
from typing import Any

from scripts.report.layout import Models, in_groups


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
