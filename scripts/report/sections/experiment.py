"""Section on an experiment: its primary comparison, in a sentence. experiment/experiment.md has all of them."""

from collections.abc import Mapping
from typing import Any

from scripts.common.html import decimals, general, points

LOSS = "loss"  # the metric in nats a token; others are shares
NO_PRIMARY = "It has no primary comparison: fewer than two rows of its split were measured, or not the primary arm."


def experiment(effects: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return {lead, plan} of effects.json; None if the run has no experiment."""
    if effects is None:
        return None
    found = effects["primary"]
    if found is None:
        return {"plan": effects["plan"], "lead": NO_PRIMARY}

    def number(value: float | None) -> str:
        return decimals(value, 4, sign=True) if found["metric"] == LOSS else f"{points(value)} points"

    low, high = found["interval"] or (None, None)
    unit = " in nats per answer token" if found["metric"] == LOSS else ""
    return {
        "plan": effects["plan"],
        "lead": (
            f"{found['arm']} minus {found['control']}, {found['metric']} on {found['split']}{unit}: "
            f"{number(found['difference'])} (95% interval {number(low)} to {number(high)}, p = {general(found['p'])}; "
            f"{found['seeds']} paired seeds, {found['items']} rows; "
            f"{'higher' if found['higher_is_better'] else 'lower'} is better)."
        ),
    }
