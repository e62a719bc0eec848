"""config/schema.yaml: every key of the config, and the defaults. Needs no package but PyYAML."""

from functools import cache
from typing import Any

from scripts.common.hashing import ROOT
from scripts.config.reading import load_yaml

SCHEMA = ROOT / "config" / "schema.yaml"


@cache
def load_schema() -> dict[str, Any]:
    """Return config/schema.yaml."""
    schema: dict[str, Any] = load_yaml(SCHEMA)
    return schema


def default(path: str) -> Any:
    """Return the default of a key such as `split.by`, or of all keys of a section such as `split`."""
    part = load_schema()
    for step in path.split("."):
        part = part["properties"][step]
    if "properties" in part:
        return {name: default(f"{path}.{name}") for name in part["properties"]}
    return part["default"]
