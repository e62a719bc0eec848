"""Check what the config says about a judge: its endpoint, and the models and splits that it names."""

from collections.abc import Iterator, Mapping
from typing import Any

from scripts.common.endpoints import check_endpoint
from scripts.common.errors import GradusError
from scripts.common.models import resolve


def check_judge(config: Mapping[str, Any]) -> Iterator[tuple[list[str | int], str]]:
    """Yield (path in the config, what is wrong) for what the schema cannot express about `judge`."""
    judge = config["judge"]
    if judge is None:
        return
    for path, reason in check_endpoint(judge):
        yield ["judge", *path], reason
    for number, split in enumerate(judge["splits"] or []):
        if split not in config["evaluate"]["splits"]:
            yield ["judge", "splits", number], f"no model answers {split}; add it to evaluate.splits, or remove it here"
    try:
        models = resolve(config["models"])
    except GradusError:  # check_models reports it
        return
    named = [("models", number, name) for number, name in enumerate(judge["models"] or [])]
    named += [("pairs", number, name) for number, pair in enumerate(judge["pairs"] or []) for name in pair]
    for key, number, name in named:
        if name not in models:
            yield ["judge", key, number], f"no model {name!r} in models; known models: {', '.join(models)}"
