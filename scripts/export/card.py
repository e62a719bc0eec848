"""The model card in the folder for the Hub: its figures and its YAML header."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from scripts.common.html import decimals, percent


def figures(metrics: Mapping[str, Any], comparison: Mapping[str, Any], model: str) -> list[dict[str, Any]]:
    """Return one row per evaluated split and metric: split, n, metric, base, value, raw, interval."""
    first = comparison["first"]
    rows = []
    for split, values in metrics[model].items():
        for name, metric in values.items():
            if not metric["n"]:
                continue
            bounds = comparison["models"].get(model, {}).get(split, {}).get(name, {}).get("interval")
            rows.append(
                {
                    "split": split,
                    "n": metric["n"],
                    "metric": name,
                    "base": percent(metrics[first][split][name]["value"]),
                    "value": percent(metric["value"]),
                    "raw": metric["value"],
                    "interval": f"{percent(bounds[0])} to {percent(bounds[1])}" if bounds else "–",
                }
            )
    return rows


def training_figures(phases: Sequence[Mapping[str, Any]], ledger: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the card says about the training, from the phases' summaries and the exposure ledger. `rows` counts
    each row once, no matter how often or in how many phases it was trained on.
    """
    return {
        "phases": [
            {**phase, "phase": phase_name(phase), "heldout_loss": decimals(phase["heldout_loss"], 3)}
            for phase in phases
        ],
        "preference": [phase for phase in phases if "method" in phase],
        "phase_count": len(phases),
        "device": phases[-1]["device"],
        "rows": ledger["all"]["distinct_rows"],
        "steps": sum(phase["steps"] for phase in phases),
        "tokens": sum(phase["tokens"] for phase in phases),
    }


def phase_name(summary: Mapping[str, Any]) -> str:
    """Return the name of a phase; with its method, if its rows are pairs."""
    return f"{summary['phase']} (pairs, {summary['method']})" if "method" in summary else str(summary["phase"])


def describe_seeds(seeds: int) -> str:
    """Return a sentence on how well the figures of one training generalize to others."""
    if seeds == 1:
        return "They are from one training with one seed; another seed would give different figures."
    return f"They are from one training; the run trained this arm with {seeds} seeds, and its report shows each one."


def write_card(path: Path, template: str | Path, about: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> None:
    """Write the model card: a YAML header that the Hub reads, and text for people."""
    run = about["run"]
    data = ModelCardData(
        license=str(about["base_license"]).lower(),
        library_name="transformers",
        pipeline_tag="text-generation",
        base_model=about["base_name"],
        tags=about["tags"],
        model_name=run,
        eval_results=[
            EvalResult(
                task_type="text-generation",
                dataset_type=run,
                dataset_name=f"{run}, {row['split']} (n = {row['n']})",
                dataset_split=row["split"],
                metric_type=row["metric"],
                metric_value=row["raw"],
            )
            for row in rows
            if row["raw"] is not None
        ],
    )
    ModelCard.from_template(data, template_path=str(template), results=rows, **about).save(path)
