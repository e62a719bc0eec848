"""What the report's sections, its figures and the printed tables share: groups of models, names, splits with rows."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Models = Sequence[Mapping[str, Any]]  # each what Model.describe() in scripts/common/models.py returns
Metrics = Mapping[str, Mapping[str, Mapping[str, Mapping[str, Any]]]]  # metrics.json


def in_groups(rows: Iterable[Mapping[str, Any]], models: Models) -> list[dict[str, Any]]:
    """Return the rows in blocks {group, rows} by the group of each row's `model`, in the order of the models. The
    group is None for models that are entries of the config by themselves.
    """
    groups = {model["name"]: model["group"] for model in models}
    order = list(dict.fromkeys(groups.values()))
    blocks: dict[str | None, list[Mapping[str, Any]]] = {}
    for row in rows:
        blocks.setdefault(groups.get(row["model"]), []).append(row)
    return [{"group": group, "rows": blocks[group]} for group in sorted(blocks, key=order.index)]


def row_count(values: Mapping[str, Mapping[str, Any]]) -> int:
    """Return how many rows of a split were asked, given its metrics: {metric: {value, n}}."""
    return max((metric["n"] for metric in values.values()), default=0)


def asked_splits(metrics: Metrics, splits: Sequence[str]) -> list[str]:
    """Return those of `splits` of which any row was asked."""
    return [split for split in splits if any(row_count(values.get(split, {})) for values in metrics.values())]


def quant_label(quant: str) -> str:
    """Return the name of a quant for people."""
    return quant.removesuffix("-no-imatrix") + (" without imatrix" if quant.endswith("-no-imatrix") else "")


def training_name(arm: str, seed: str | int) -> str:
    """Return the name of a training for people."""
    return f"{arm}, seed {seed}"
