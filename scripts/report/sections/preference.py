"""Section on preference tuning: the pairs, how each phase went, and its model beside the one before it."""

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from scripts.common.comparison import Metrics, Models
from scripts.report.layout import training_name

Speeds = Sequence[Mapping[str, Any]]
LAST = 10  # steps that the last values are means of
FORGOTTEN = 1.4  # times the held-out loss before; what it says of one run: docs/preference.md


def preference(
    phases: Sequence[Mapping[str, Any]],
    last: str,
    models: Models,
    metrics: Metrics,
    headline: str,
    split: str,
    speeds: Speeds,
) -> dict[str, Any] | None:
    """Return {phases, models, metric, split}; None if there is no such phase.

    `phases`: {training: {arm, seed, phase}, after, method, ledger, counts, history, summary, before: the summary of the
    phase that it goes on from} of each; `last`: the last supervised phase; `speeds`: {model, split, rows, tokens, …}.
    Each phase's models come right after those of the supervised phase that it goes on from.
    """
    if not phases:
        return None
    shown: dict[str, dict[str, Any]] = {}
    for phase in phases:
        after, training = phase["after"], phase["training"]
        before = {name: value for name, value in training.items() if name != "phase"}
        before |= {} if after == last else {"phase": after}
        for wanted, role in ((before, after), (training, training["phase"])):
            for model in (model for model in models if model.get("training") == wanted):
                shown.setdefault(model["name"], _compared(model["name"], role, metrics, headline, split, speeds))
    return {
        "phases": [_row(phase) for phase in phases],
        "models": list(shown.values()),
        "metric": headline,
        "split": split,
    }


def _row(phase: Mapping[str, Any]) -> dict[str, Any]:
    """Return how a phase went: its pairs, and means over its last steps."""
    last = phase["history"][-LAST:]
    before, after = (phase[name]["heldout_loss"] for name in ("before", "summary"))
    return {
        "training": training_name(**phase["training"]),
        "method": phase["method"],
        **{name: phase["ledger"][name] for name in ("kept", "own", "sampled", "too_hard", "mean_tokens")},
        **{name: phase["counts"][name] for name in ("rows_asked", "all_right", "all_wrong")},
        **{name: fmean(line[name] for line in last) for name in ("accuracy", "margin", "chosen_reward")},
        "heldout_before": before,
        "heldout_loss": after,
        "forgotten": before is not None and after is not None and after >= FORGOTTEN * before,
    }


def _compared(name: str, role: str, metrics: Metrics, headline: str, split: str, speeds: Speeds) -> dict[str, Any]:
    """Return what a model reaches, and how long its answers are."""
    spent = next(speed for speed in speeds if (speed["model"], speed["split"]) == (name, split))
    value = metrics[name][split][headline]
    tokens = spent["tokens"] / spent["rows"] if spent["rows"] and spent["tokens"] is not None else None
    return {"model": name, "phase": role, "value": value["value"], "n": value["n"], "tokens": tokens}
