"""Check the models and splits whose answers a judge or raters are to see."""

from collections.abc import Iterator, Mapping
from typing import Any

from scripts.common.errors import GradusError
from scripts.common.models import resolve


def check_compared(config: Mapping[str, Any], section: str) -> Iterator[tuple[list[str | int], str]]:
    """Yield (path in the config, what is wrong) of `splits`, `models` and `pairs` in a section, `judge` or `rating`."""
    given = config[section]
    for number, split in enumerate(given["splits"] or []):
        if split not in config["evaluate"]["splits"]:
            yield [section, "splits", number], f"no model answers {split}; add it to evaluate.splits, or remove it here"
    pairs = given["pairs"] or []
    for number, pair in enumerate(pairs):
        if pair[::-1] in pairs[:number]:
            yield [section, "pairs", number], f"{pair[1]} and {pair[0]} are compared already; remove one of the two"
    try:
        models = resolve(config["models"])
    except GradusError:  # check_models reports it
        return
    named = [("models", number, name) for number, name in enumerate(given.get("models") or [])]
    named += [("pairs", number, name) for number, pair in enumerate(pairs) for name in pair]
    for key, number, name in named:
        if name not in models:
            yield [section, key, number], f"no model {name!r} in models; known models: {', '.join(models)}"
