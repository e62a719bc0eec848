"""Sections on what the models answered: the lead, the models side by side, details."""

from collections.abc import Mapping, Sequence
from typing import Any

from scripts.common.comparison import Metrics, Models, asked_splits, row_count, tell_apart
from scripts.common.records import OWN
from scripts.report.layout import in_groups, in_order, shown_metrics, what_is

POINTS = {
    "chance": "chance",
    "constant": "the best constant answer",
    "ceiling": "the references themselves",
}
REASONS = {
    "eval-hard": "no row of test has the hardest level ({hardest})",
    "eval-own": "no rows of your own were given: data.own",
    "eval-unseen": "no whole group of rows was held out: the rows have no groups, too few, or split.unseen_share is 0",
}


def lead(told: Mapping[str, Any], models: Models, metrics: Metrics) -> dict[str, Any]:
    """Return the first lines: verdict.json (`told`), and of each group of models its arms from the lowest to the
    highest of their seeds, by the headline metric on the first split that was asked.
    """
    groups = group_lead(models, metrics, told["split"], told["primary_metric"]) if told["split"] else []
    return {**told, "groups": groups}


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
    chosen: Mapping[str, Mapping[str, Any]],
    score: Mapping[str, Any],
    splits: Sequence[str],
    levels: Sequence[str],
) -> dict[str, Any]:
    """Return the table of each split that was asked, the served model against each other one below it, and which splits
    are empty and why. `details`: {(model, split): details.json}; its reference points are rows of notes. `chosen`:
    {model: examples.json}.
    """
    first, served, headline = comparison["first"], comparison["served"]["model"], comparison["headline"]
    ordered = in_order(models)
    tables = []
    asked = asked_splits(metrics, splits)
    for split in asked:
        names = shown_metrics(metrics, [split], headline)
        rows = [
            {
                "model": model["name"],
                "what": what_is(model, chosen.get(model["name"])),
                "served": model["name"] == served,
                "cells": [
                    {
                        "value": metrics[model["name"]][split][name]["value"],
                        "interval": comparison["intervals"][model["name"]][split][name],
                    }
                    for name in names
                ],
                "n": row_count(metrics[model["name"]][split]),
            }
            for model in ordered
        ]
        pairs = against(ordered, comparison["served"]["models"], split, headline)
        tables.append(
            {
                "split": split,
                "metrics": names,
                "columns": len(names) + 3,
                "blocks": in_groups(rows, models),
                "points": reference_points(details.get((first, split), {}), names),
                "against": in_groups(pairs, models),
                "hang": any("units" in row for row in pairs),  # rows with each other
                "over_seeds": [row for row in comparison["over_seeds"] if row["split"] == split],
                "more": in_groups(against_first(ordered, comparison, split), models),
            }
        )
    mix = {split: sum(counts.values()) for split, counts in score["mix"].items()}
    return {
        "first": first,
        "served": served,
        "strongest": comparison["served"]["strongest"],
        "headline": headline,
        "splits": tables,
        "choices": [{"model": model, "tried": found["tried"]} for model, found in chosen.items()],
        "empty": [
            {"split": split, "reason": REASONS.get(split, "no row is in it").format(hardest=levels[-1])}
            for split in splits
            if split not in asked
        ],
        "test_rows": mix.get("test", 0),
        "groups": bool(score["rows_whose_group_is_trained"].get("train")),  # whether rows have groups at all
        "test_rows_of_trained_groups": score["rows_whose_group_is_trained"].get("test", 0),
        "hardest": levels[-1] if "eval-hard" in asked else None,
        "unseen": "eval-unseen" in asked,
        "own": OWN in asked,
    }


def reference_points(detail: Mapping[str, Any], metrics: Sequence[str]) -> list[dict[str, Any]]:
    """Return {label, values} of chance, the best constant answer and the references' own grades, where any is known."""
    found = detail.get("reference_points", {})
    rows = [
        {"label": label, "values": [found.get(metric, {}).get(point) for metric in metrics]}
        for point, label in POINTS.items()
    ]
    return [row for row in rows if any(value is not None for value in row["values"])]


def against(models: Models, pairs: Mapping[str, Any], split: str, headline: str) -> list[dict[str, Any]]:
    """Return the served model's comparison with each other model, by the headline metric."""
    rows = []
    for model in models:
        pair = pairs.get(model["name"], {}).get(split, {}).get(headline)
        if pair and pair["n"]:
            corrected = tell_apart(pair, "p_holm")
            rows.append({"model": model["name"], **pair, "outcome": corrected})
    return rows


def against_first(models: Models, comparison: Mapping[str, Any], split: str) -> list[dict[str, Any]]:
    """Return {model, metrics} of each model that is compared with the first one: every metric's name and comparison."""
    rows = []
    for model in (m["name"] for m in models if m["name"] in comparison["models"]):
        pairs = comparison["models"][model].get(split, {})
        compared = [{"name": name, **pair} for name, pair in pairs.items() if pair["n"]]
        if compared:
            rows.append({"model": model, "metrics": compared})
    return rows


def details_of(
    shown: Sequence[str], metrics: Metrics, details: Mapping[tuple[str, str], Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Return the confusion matrix or the table of fields of these models, on each split that was asked."""
    rows = []
    for (model, split), detail in details.items():
        if model not in shown or not row_count(metrics[model][split]):
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
    return rows
