"""Sections on the rows: what went in, and their difficulty."""

from collections.abc import Mapping, Sequence
from typing import Any

from scripts.common.comparison import Models


def went_in(
    converted: Mapping[str, Any] | None,
    ingest: Mapping[str, Any],
    audit: Mapping[str, Any],
    split: Mapping[str, Any],
    package: Mapping[str, Any],
) -> dict[str, Any]:
    """Return what became of the rows on their way, as {label, value}, and the audit's findings."""
    rows: list[tuple[str, Any]] = []
    if converted:
        rows.append((f"read in {package['source']} ({package['license']})", converted["read"]))
        rows.append(("rows made of that", converted["rows"]))
        rows += [(f"left out: {reason}", count) for reason, count in converted["left_out"].items()]
        if "variants" in converted:
            rows.append(("augmented rows made of these, as variants", converted["variants"]))
    rows.append(("records after checking", ingest["records"]))
    rows += [(f"rejected: {reason}", count) for reason, count in ingest["reasons"].items()]
    rows.append(("records with something masked", audit["masked"]["touched"]))
    rows += [(f"left out: {reason}", count) for reason, count in audit["duplicates"]["left_out"].items()]
    rows.append(("left out as near-copies of held-out rows", split["left_out"]))
    apart = split.get("augmented_left_out", 0)
    close = audit["contamination"].get("augmented_left_out", 0)
    if apart:
        rows.append(("augmented rows left out because what they were made from is held out", apart))
    if close:
        rows.append(("augmented rows left out because held-out rows ask nearly the same", close))
    left_out = audit["contamination"]["left_out"]
    rows.append(("held-out rows left out because training asks nearly the same", left_out))
    if "augmented" in audit:
        rows.append(("augmented rows that are trained", audit["augmented"]))
    lost = sum(ingest["reasons"].values()) + sum(audit["duplicates"]["left_out"].values())
    lost += split["left_out"] + apart + left_out + close
    return {
        "kept": ingest["records"],
        "lost": lost,
        "rows": [{"label": label, "value": value} for label, value in rows],
        "findings": [finding["what"] for finding in audit["findings"]],
    }


def difficulty(score: Mapping[str, Any], validity: Mapping[str, Any], models: Models) -> dict[str, Any]:
    """Return what decided difficulty, and how each scorer goes with failures, with length and with the other scorers.

    Models of a group share a column, from the lowest to the highest correlation.
    """
    judged = next(iter(validity["scorers"].values()))["failures"]
    alone = [model["name"] for model in models if not model["group"] and model["name"] in judged]
    groups: dict[str, list[str]] = {}
    for model in models:
        if model["group"]:
            groups.setdefault(model["group"], []).append(model["name"])
    scorers = []
    for name, scorer in validity["scorers"].items():
        failures = scorer["failures"]
        cells = [_correlation(failures[model]) for model in alone]
        cells += [_range([failures[model] for model in members]) for members in groups.values()]
        length = scorer["length"]
        scorers.append(
            {
                "name": name,
                "n": scorer.get("n", validity["rows"]),
                "failures": cells,
                "length": _number(length and length["rho"]),
            }
        )
    names = list(validity["agreement"])
    agreement = [
        {"name": one, "cells": ["·" if other == one else _number(row.get(other)) for other in names]}
        for one, row in validity["agreement"].items()
    ]
    several = len(score["weights"]) > 1
    return {
        "weights": [{"name": name, "weight": weight if several else None} for name, weight in score["weights"].items()],
        "columns": [*alone, *(f"{group} ({len(members)} models)" for group, members in groups.items())],
        "scorers": scorers,
        "names": names,
        "agreement": agreement,
        "warnings": validity["warnings"],
    }


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:g}"


def _correlation(value: Mapping[str, Any] | None) -> str:
    return f"{value['rho']:g} ({value['low']:g} to {value['high']:g})" if value else "–"


def _range(values: Sequence[Mapping[str, Any] | None]) -> str:
    known = [value["rho"] for value in values if value]
    return f"{min(known):g} to {max(known):g}" if known else "–"
