"""Sections on whether what was trained is what is served: gates, merge, quants, stopping, tokens, prompts."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from scripts.common.comparison import Metrics, Models
from scripts.report.layout import in_groups, quant_label

Checked = Mapping[str, Mapping[str, Any]]  # what each check measured, by the check's name


def gates(listed: Sequence[Mapping[str, Any]], models: Models) -> dict[str, Any]:
    """Return how many gates passed, failed and were not measured, and a row for each. Where all models of a group
    pass a gate, they share the row; it has the worst of their values.
    """
    groups = {model["name"]: model["group"] for model in models}
    rows: list[dict[str, Any]] = []
    shared: dict[tuple[str, str], dict[str, Any]] = {}
    for gate in listed:
        model = gate["check"].rpartition("/")[0]
        group = groups.get(model)
        row = {**gate, "model": model or None, "models": 1}
        if not group or not gate["passed"]:
            rows.append(row)
        elif (key := (group, gate["name"])) in shared:
            worst = max if gate["bound"] == "at most" else min
            together = shared[key]
            together["models"] += 1
            together["value"] = worst(together["value"], gate["value"])
            together["model"] = f"{group} ({together['models']} models)"
        else:
            shared[key] = row
            rows.append(row)
    results = Counter(gate["passed"] for gate in listed)
    return {
        "rows": rows,
        "shared": any(row["models"] > 1 for row in rows),
        "count": len(listed),
        "passed": results[True],
        "failed": results[False],
        "skipped": results[None],
    }


def merges(checked: Checked, models: Models) -> list[dict[str, Any]]:
    """Return, in groups, how far each merged model is from its live adapter, and from what it was trained with."""
    labels = {
        "live_against_merged": "base + live adapter → merged",
        "trained_against_merged": "weights it was trained with + adapter → merged",
    }
    rows = [
        {"model": check.removesuffix("/merge"), "compared": label, **measured[key]}
        for check, measured in checked.items()
        if check.endswith("/merge")
        for key, label in labels.items()
    ]
    return in_groups(rows, models)


def merge_deltas(metrics: Metrics, pairs: Sequence[Sequence[str]]) -> list[dict[str, Any]]:
    """Return {split, metric, n, bf16, nf4, delta} of each pair of models that differ in what they are merged into."""
    rows = []
    for plain, rounded in pairs:
        for split, values in metrics[plain].items():
            for name, metric in values.items():
                nf4 = metrics[rounded][split][name]["value"]
                if metric["value"] is not None and nf4 is not None:
                    row = {"models": f"{plain}, {rounded}", "split": split, "metric": name, "n": metric["n"]}
                    rows.append({**row, "bf16": metric["value"], "nf4": nf4, "delta": nf4 - metric["value"]})
    return rows


def quants(model: str, measured: Mapping[str, Any], speed: Mapping[str, Any]) -> dict[str, Any]:
    """Return the quants of the served model side by side, with their speed, and the tensors that the served quant
    stores as other types.
    """
    served = measured["quants"][measured["served"]]
    return {
        "model": model,
        "metric": measured["metric"],
        "binary": measured["binary"],
        "split": measured["split"],
        "served": measured["served"],
        "tokens": served["tokens"],
        "n": served["n"],
        "threads": speed["threads"],
        "gpu": speed["gpu"],
        "rows": [
            {"label": quant_label(quant), "served": quant == measured["served"], **row, "speed": speed["quants"][quant]}
            for quant, row in measured["quants"].items()
        ],
        "fallbacks": fallbacks(served["fallbacks"]),
    }


def fallbacks(types: Mapping[str, str]) -> dict[str, Any] | None:
    """Return how many tensors are stored as which type, of {tensor: type}; None if there are none."""
    if not types:
        return None
    counts = sorted(Counter(types.values()).items())
    return {
        "count": len(types),
        "by_type": [{"type": name, "count": count} for name, count in counts],
        "tensors": [{"name": name, "type": kind} for name, kind in types.items()],
    }


def stopping(checked: Checked, models: Models) -> list[dict[str, Any]]:
    """Return, in groups, the share of answers that ended by themselves, where any row was asked."""
    shares = [{**row, "quant": quant_label(row["quant"])} for row in checked["stopping"]["shares"] if row["n"]]
    return in_groups(shares, models)
