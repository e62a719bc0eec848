"""Section on where the run comes from: the command that makes it again, and what it starts from."""

from collections.abc import Mapping
from typing import Any


def origin(config: Mapping[str, Any], base: Mapping[str, Any], contract: Mapping[str, Any]) -> dict[str, Any]:
    """Return the command, and rows {label, value, code}: base model, data, chat contract and seed."""
    data = config["data"]
    given = data["files"] or [data["package"]["source"]]
    pinned = None if data["files"] else data["package"]["sha256"]
    rows: list[tuple[str, Any, bool]] = [
        ("base model", base["source"], True),
        ("sha256 of the base", base["sha256"], True),
        ("data", ", ".join(given), True),
        ("sha256 of the data", pinned, True),
        ("sha256 of the chat contract", contract["hash"], True),
        ("seed", config["seed"], False),
    ]
    return {
        "command": f"make CONFIG=results/{config['run']}/config.yaml",
        "rows": [{"label": label, "value": value, "code": code} for label, value, code in rows if value is not None],
    }
