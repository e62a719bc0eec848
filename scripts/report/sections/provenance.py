"""Section on where the run comes from: the command that makes it again, and what it starts from."""

from collections.abc import Mapping
from typing import Any


def origin(
    config: Mapping[str, Any], base: Mapping[str, Any], contract: Mapping[str, Any], own_sha256: str | None = None
) -> dict[str, Any]:
    """Return the command, and rows {label, value, code}: base model, data, own questions, chat contract and seed."""
    data = config["data"]
    given = data["files"] or [data["package"]["source"]]
    pinned = None if data["files"] else data["package"]["sha256"]
    rows: list[tuple[str, Any, bool]] = [
        ("base model", base["source"], True),
        ("sha256 of the base", base["sha256"], True),
        ("data", ", ".join(given), True),
        ("sha256 of the data", pinned, True),
        ("your own questions", data["own"], True),
        ("sha256 of your own questions", own_sha256, True),
        ("sha256 of the chat contract", contract["hash"], True),
        ("seed", config["seed"], False),
    ]
    return {
        "command": f"make CONFIG=results/{config['run']}/config.yaml",
        "rows": [{"label": label, "value": value, "code": code} for label, value, code in rows if value is not None],
    }
