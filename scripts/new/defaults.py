"""Defaults of the config, from config/schema.yaml."""

from typing import Any

from scripts.config.check import load_schema


def default(path: str) -> Any:
    """Return the default of a key such as `split.by`, or of all keys of a section such as `split`."""
    part = load_schema()
    for step in path.split("."):
        part = part["properties"][step]
    if "properties" in part:
        return {name: default(f"{path}.{name}") for name in part["properties"]}
    return part["default"]
