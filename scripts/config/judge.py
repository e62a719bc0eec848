"""Check what the config says about a judge: its endpoint, and the models and splits that it names."""

from collections.abc import Iterator, Mapping
from typing import Any

from scripts.common.endpoints import check_endpoint
from scripts.config.compared import check_compared


def check_judge(config: Mapping[str, Any]) -> Iterator[tuple[list[str | int], str]]:
    """Yield (path in the config, what is wrong) for what the schema cannot express about `judge`."""
    judge = config["judge"]
    if judge is None:
        return
    for path, reason in check_endpoint(judge):
        yield ["judge", *path], reason
    yield from check_compared(config, "judge")
