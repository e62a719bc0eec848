"""Sections on what the models answered: the lead, the models side by side, details, examples."""

from collections.abc import Mapping, Sequence
from typing import Any

from scripts.report.layout import Metrics, Models, asked_splits, in_groups, row_count

REASONS = {
    "eval-hard": "no row of test has the hardest level ({hardest})",
    "eval-unseen": "no whole group of rows was held out: the rows have no groups, too few, or split.unseen_share is 0",
}


def lead(models: Models, metrics: Metrics, comparison: Mapping[str, Any], splits: Sequence[str]) -> dict[str, Any]:
    """Return the headline metric on the first split that was asked: of each model by itself, and of a group's arms from
    the lowest to the highest of its seeds. `split` is None if nothing was asked.
    """
    first, headline = comparison["first"], comparison["headline"]
    split = next(iter(asked_splits(metrics, splits)), None)
    untuned = not next(model for model in models if model["name"] == first)["trained"]
    facts: dict[str, Any] = {"first": first, "untuned": untuned, "headline": headline, "split": split}
    if split is None:
        return {**facts, "models": [], "groups": []}
    alone = [m["name"] for m in models if not m["group"] and m["name"] != first]
    facts["first_value"] = metrics[first][split][headline]["value"]
    facts["models"] = [
        {
            "model": model,
            "value": metrics[model][split][headline]["value"],
            "paired": comparison["models"][model][split].get(headline),  # None: no metric of zeros and ones
        }
        for model in alone
    ]
    facts["groups"] = group_lead(models, metrics, split, headline)
    return facts


def group_lead(models: Models, metrics: Metrics, split: str, headline: str) -> list[dict[str, Any]]:
    """Return {group, count, arms: [{arm, seeds, low, high}]} of each group of models."""
    groups: dict[str, dict[str, list[float]]] = {}
    for model in models:
        value = metrics[model["name"]][split][headline]["value"]
        if model["group"] and value is not None:
            groups.setdefault(model["group"], {}).setdefault(model["training"]["arm"], []).append(value)
    return [
        {
            "group": group,
            "count": sum(map(len, arms.values())),
            "arms": [
                {"arm": arm, "seeds": len(values), "low": min(values), "high": max(values)}
                for arm, values in arms.items()
            ],
        }
        for group, arms in groups.items()
    ]


def side_by_side(
    models: Models,
    metrics: Metrics,
    comparison: Mapping[str, Any],
    details: Mapping[tuple[str, str], Mapping[str, Any]],
    score: Mapping[str, Any],
    splits: Sequence[str],
    levels: Sequence[str],
) -> dict[str, Any]:
    """Return the table of each split that was asked, the comparison with the first model below it, and which splits are
    empty and why. `details`: {(model, split): details.json}; what it says of the references' own grades is shown.
    """
    first = comparison["first"]
    tables = []
    asked = asked_splits(metrics, splits)
    for split in asked:
        names = list(metrics[first][split])
        rows = [
            {
                "model": model["name"],
                "values": [metrics[model["name"]][split][name]["value"] for name in names],
                "n": row_count(metrics[model["name"]][split]),
            }
            for model in models
        ]
        points = details.get((first, split), {}).get("reference_points", {})
        tables.append(
            {
                "split": split,
                "metrics": names,
                "columns": len(names) + 2,
                "blocks": in_groups(rows, models),
                "ceiling": [points.get(name, {}).get("ceiling") for name in names] if points else None,
                "against": in_groups(against(models, comparison, split), models),
            }
        )
    mix = {split: sum(counts.values()) for split, counts in score["mix"].items()}
    return {
        "first": first,
        "splits": tables,
        "empty": [
            {"split": split, "reason": REASONS.get(split, "no row is in it").format(hardest=levels[-1])}
            for split in splits
            if split not in asked
        ],
        "test_rows": mix.get("test", 0),
        "test_rows_of_trained_groups": score["rows_whose_group_is_trained"].get("test", 0),
        "hardest": levels[-1] if "eval-hard" in asked else None,
        "unseen": "eval-unseen" in asked,
    }


def against(models: Models, comparison: Mapping[str, Any], split: str) -> list[dict[str, Any]]:
    """Return {model, metrics: [{name, first_right, right, n, interval}]} of each model that is compared."""
    rows = []
    for model in (m["name"] for m in models if m["name"] in comparison["models"]):
        pairs = comparison["models"][model].get(split, {})
        compared = [{"name": name, **pair} for name, pair in pairs.items() if pair["n"]]
        if compared:
            rows.append({"model": model, "metrics": compared})
    return rows


def details_of(
    models: Models, metrics: Metrics, details: Mapping[tuple[str, str], Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Return, in groups, the confusion matrix or the table of fields of each model and split that was asked."""
    rows = []
    for (model, split), detail in details.items():
        if not row_count(metrics[model][split]):
            continue
        row: dict[str, Any] = {"model": model, "split": split}
        if "matrix" in detail:
            counts = [{"label": a, "counts": b} for a, b in zip(detail["labels"], detail["matrix"], strict=True)]
            rows.append({**row, "kind": "matrix", "labels": detail["labels"], "rows": counts})
        elif "fields" in detail:
            fields = [
                {"field": field, **counts, "share": counts["right"] / counts["wanted"]}
                for field, counts in detail["fields"].items()
            ]
            rows.append({**row, "kind": "fields", "fields": fields, "unknown": detail["unknown_fields_invented"]})
    return in_groups(rows, models)


def examples(
    models: Models,
    records: Sequence[Mapping[str, Any]],
    answers: Mapping[str, Sequence[Mapping[str, Any]]],
    grades: Mapping[str, Sequence[Mapping[str, Any]]],
    count: int,
    headline: str,
) -> list[dict[str, Any]]:
    """Return the first `count` asked records with every model's answer and whether it is right by the headline metric.

    The order is that of the ids, which are hashes: nobody chose these rows.
    """
    by_id = {record["id"]: record for record in records}
    marks = {model: {row["id"]: row for row in rows} for model, rows in grades.items()}
    shown = []
    for number, asked in enumerate(next(iter(answers.values()))[:count]):
        record = by_id[asked["id"]]
        answered = [
            {"model": model, "text": rows[number]["text"], "right": marks[model][asked["id"]].get(headline) == 1}
            for model, rows in answers.items()
        ]
        blocks = [
            {**block, "count": len(block["rows"]), "right": sum(row["right"] for row in block["rows"])}
            for block in in_groups(answered, models)
        ]
        shown.append({"prompt": record["prompt"], "response": record["response"], "blocks": blocks})
    return shown
