"""Sections on training: what each arm was shown, and how it was trained."""

from collections.abc import Mapping, Sequence
from typing import Any

from scripts.report.layout import training_name

FEW = 4  # trainings; of more, the tables show the sums, and each phase is folded away
Training = tuple[str, str]  # arm, seed


def arms(ledgers: Mapping[Training, Mapping[str, Any]], levels: Sequence[str], phases: Sequence[str]) -> dict[str, Any]:
    """Return what each training was shown, by phase and in all, of {training: its exposure ledger}, and how far the
    trainings are apart in steps and tokens; `spread` is None for one training alone.
    """

    def row(name: str, ledger: Mapping[str, Any], phase: str) -> dict[str, Any]:
        counts = [ledger[phase]["by_difficulty"].get(level, 0) for level in levels]
        return {"training": name, "phase": phase, **ledger[phase], "levels": counts}

    trainings: list[dict[str, Any]] = [
        {
            "total": row(training_name(*training), ledger, "all"),
            "phases": [row(training_name(*training), ledger, phase) for phase in phases],
        }
        for training, ledger in ledgers.items()
    ]
    return {
        "levels": list(levels),
        "trainings": trainings,
        "fold": len(trainings) > FEW,
        "spread": spread([training["total"] for training in trainings]) if len(trainings) > 1 else None,
    }


def spread(totals: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the least and most steps and tokens of several trainings, and by how many percent tokens differ."""
    steps, tokens = [row["steps"] for row in totals], [row["tokens"] for row in totals]
    return {
        "steps": {"least": min(steps), "most": max(steps)},
        "tokens": {"least": min(tokens), "most": max(tokens)},
        "percent": 100 * (max(tokens) / min(tokens) - 1),
    }


def training(summaries: Mapping[Training, Sequence[Mapping[str, Any]]]) -> dict[str, Any]:
    """Return each training's phases and sums, of {training: the summaries of its phases}."""
    trainings = []
    for key, phases in summaries.items():
        tokens, seconds = sum(p["tokens"] for p in phases), sum(p["seconds"]["steps"] for p in phases)
        name = training_name(*key)
        total = {
            "training": name,
            "phase": "all",
            "rows": sum(p["rows"] for p in phases),
            "steps": sum(p["steps"] for p in phases),
            "tokens": tokens,
            "heldout_loss": phases[-1]["heldout_loss"],
            "seconds": round(sum(p["seconds"]["all"] for p in phases), 1),
            "tokens_per_s": round(tokens / seconds, 1) if seconds else None,
        }
        rows = [{**p, "training": name, "seconds": p["seconds"]["all"]} for p in phases]
        trainings.append({"total": total, "phases": rows})
    every = [phase for phases in summaries.values() for phase in phases]
    return {
        "trainings": trainings,
        "fold": len(trainings) > FEW,
        "heldout_rows": every[0]["heldout_rows"],
        "devices": sorted({phase["device"] for phase in every}),
    }
