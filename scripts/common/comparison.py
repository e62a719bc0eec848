"""What metrics.json and comparison.json say of models, for sentences and tables. It imports nothing heavy."""

from collections.abc import Mapping, Sequence
from typing import Any

Models = Sequence[Mapping[str, Any]]  # each what Model.describe() in scripts/common/models.py returns
Metrics = Mapping[str, Mapping[str, Mapping[str, Mapping[str, Any]]]]  # metrics.json

LIMIT = 0.05  # of p

SIMPLER = {
    "linear": "a linear model",
    "nearest": "copying the answer of the nearest training row",
    "majority": "always giving the commonest label",
    "gguf": "your own GGUF",
    "endpoint": "a model behind an API",
}


def row_count(values: Mapping[str, Mapping[str, Any]]) -> int:
    """Return how many rows of a split were asked, given its metrics: {metric: {value, n}}."""
    return max((metric["n"] for metric in values.values()), default=0)


def row_counts(metrics: Metrics, split: str) -> str:
    """Return how many rows of a split the models answered, as a text: one number, or the smallest and the largest."""
    counts = sorted({count for values in metrics.values() if (count := row_count(values.get(split, {})))})
    return str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}" if counts else "0"


def asked_splits(metrics: Metrics, splits: Sequence[str]) -> list[str]:
    """Return those of `splits` of which any row was asked."""
    return [split for split in splits if any(row_count(values.get(split, {})) for values in metrics.values())]


def phrase(model: Mapping[str, Any]) -> str:
    """Return what a model is, for a sentence: "the untuned base with examples in its prompt"."""
    options = model["options"]
    parts = [
        SIMPLER.get(model["kind"]) or ("a tuned model" if model["trained"] else "the untuned base"),
        "with examples in its prompt" if "examples" in options else "",
        "with a system prompt of its own" if "system_prompt" in options else "",
        "under a grammar" if "constrained" in options else "",
    ]
    return " ".join(part for part in parts if part)


def tell_apart(pair: Mapping[str, Any], p: str = "p") -> str:
    """Return whether the served model is `better`, `worse` or `even`, of its comparison with another one.

    It is better or worse if the 95% interval of the difference excludes 0 and p is below 0.05. How much it is better
    does not matter here; the verdict has a margin (scripts/common/verdict.py).
    """
    if pair["n"] == 0 or pair["difference_interval"] is None or pair[p] is None or pair[p] >= LIMIT:
        return "even"
    low, high = pair["difference_interval"]
    return "better" if low > 0 else "worse" if high < 0 else "even"
