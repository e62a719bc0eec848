"""Section on what the models still know outside the task."""

from collections.abc import Mapping
from typing import Any

from scripts.report.layout import Models, in_groups

LEVELS = ("easy", "medium", "hard")  # JSON has them in the order of the alphabet


def in_levels(kind: Mapping[str, Any]) -> list[str]:
    """Return the levels of a kind's questions, the easiest first."""
    return sorted(kind["levels"], key=LEVELS.index)


def outside(found: Mapping[str, Any] | None, models: Models) -> dict[str, Any] | None:
    """Return the base's shares by kind, each model's beside them, in groups, and the text; None if nothing was
    measured. `found`: forgetting.json.
    """
    if found is None:
        return None
    kinds = [
        {"kind": name, **kind, "levels": [{"level": level, **kind["levels"][level]} for level in in_levels(kind)]}
        for name, kind in found["kinds"].items()
    ]
    rows = []
    for name, measured in found["models"].items():
        pairs = [
            {"what": kind, "counts": found["kinds"][kind]["counts"], **pair} for kind, pair in measured["kinds"].items()
        ]
        if measured["overall"]:
            pairs.append({"what": "all that count", "counts": True, "p_holm": None, **measured["overall"]})
        rows.append({"model": name, "pairs": pairs, "perplexity": measured["perplexity"]})
    return {
        "base": found["base"],
        "kinds": kinds,
        "left_out": [kind["kind"] for kind in kinds if not kind["counts"]],
        "none_counts": not any(kind["counts"] for kind in kinds),
        "questions": sum(kind["n"] for kind in kinds),
        "kind_count": len(kinds),
        "blocks": in_groups(rows, models),
        "text": found["text"],
        "limits": found["limits"],
    }
