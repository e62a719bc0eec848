"""Section on what people preferred, without knowing whose the answers are."""

from collections.abc import Mapping
from typing import Any

from scripts.common.comparison import LIMIT


def prefer(found: Mapping[str, Any]) -> str | None:
    """Return the model that raters prefer beyond chance: the interval excludes one half, and p is below 0.05 after
    Holm's correction.
    """
    if found["interval"] is None or found["p_holm"] >= LIMIT:
        return None
    low, high = found["interval"]
    return str(found["a"]) if low > 0.5 else str(found["b"]) if high < 0.5 else None


def rating(found: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the report shows of ratings.json."""
    comparisons = found["comparisons"]
    return {
        "comparisons": [{**row, "preferred": prefer(row)} for row in comparisons],
        "partial": any(row["rated"] < row["pairs"] for row in comparisons),
        "identical": any(row["identical"] for row in comparisons),
        "agreement": found["agreement"],
        "raters": found["raters"],
        "count": len(found["raters"]),
        "passes": found["passes"],
        "warnings": found["warnings"],
    }
