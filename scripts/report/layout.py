"""What the report's sections, its figures and the printed tables share: groups of models, and names."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from scripts.common.comparison import Metrics, Models


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


def in_order(models: Models) -> list[Mapping[str, Any]]:
    """Return the models in their order, but one under a grammar right after the same model that answers freely."""

    def same(model: Mapping[str, Any]) -> Any:
        options = {name: value for name, value in model["options"].items() if name != "constrained"}
        return model["weights"], options, model["group"]

    placed: dict[str, Mapping[str, Any]] = {}
    for model in (each for each in models if "constrained" not in each["options"]):
        alike = (each for each in models if "constrained" in each["options"] and same(each) == same(model))
        for each in (model, *alike):
            placed.setdefault(each["name"], each)
    return list({**placed, **{each["name"]: each for each in models}}.values())


WHAT = {
    "base": "base",
    "gguf": "your GGUF",
    "endpoint": "behind an API",
    "nearest": "response of the nearest training row",
    "majority": "commonest label",
    "linear": "TF-IDF, logistic regression",
}


def what_is(model: Mapping[str, Any], chosen: Mapping[str, Any] | None = None) -> str:
    """Return what a model is, for a column of a table. `chosen`: {count, choose} of its examples, where the validation
    rows decided.
    """
    options, training = model["options"], model.get("training")
    parts = [f"trained: {training_name(**training)}" if training else WHAT[model["kind"]]]
    if model["merged_into"] == "nf4":
        parts.append("merged into NF4-rounded weights")
    if examples := options.get("examples"):
        picked = {**examples, **(chosen or {})}
        parts.append(f"{picked['count']} {picked['choose']} examples{' (chosen on validation rows)' if chosen else ''}")
    if "system_prompt" in options:
        parts.append("own system prompt")
    if constrained := options.get("constrained"):
        parts.append(f"constrained: {constrained}")
    return ", ".join(parts)


def shown_models(comparison: Mapping[str, Any]) -> list[str]:
    """Return the models whose answers are worth reading beside each other: the one that all are compared with, the
    served one, and the strongest contender.
    """
    served = comparison["served"]
    names = [comparison["first"], served["model"], served["strongest"]]
    return list(dict.fromkeys(name for name in names if name))


def shown_metrics(metrics: Metrics, splits: Sequence[str], headline: str) -> list[str]:
    """Return the headline metric and the others of which any model has a value on any of these splits."""
    known = [by_split[split] for by_split in metrics.values() for split in splits if split in by_split]
    names = dict.fromkeys(name for values in known for name in values if name != headline)
    counted = {name for values in known for name, found in values.items() if found["value"] is not None}
    return [headline, *(name for name in names if name in counted)]


def quant_label(quant: str) -> str:
    """Return the name of a quant for people."""
    return quant.removesuffix("-no-imatrix") + (" without imatrix" if quant.endswith("-no-imatrix") else "")


def training_name(arm: str, seed: str | int, phase: str = "") -> str:
    """Return the name of a training for people; `phase`: the one after which its adapter was taken, if not the last."""
    return f"{arm}, seed {seed}" + (f", after {phase}" if phase else "")
