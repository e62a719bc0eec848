"""Draw the report's figures as SVG, the same bytes each time.

In: difficulty counts, loss histories in the order of training, metrics, comparison, quantisations. Out: four SVG files.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib import pyplot
from matplotlib.figure import Figure

from scripts.common.io import read_json, read_jsonl
from scripts.common.job import find_job
from scripts.common.logs import logging_to
from scripts.common.plots import COLOURS, level_colors, save
from scripts.common.records import SPLITS


def draw_difficulty(mix: Mapping[str, Mapping[str, int]], levels: Sequence[str]) -> Figure:
    """Return stacked bars: rows of each level, per split."""
    figure, axes = pyplot.subplots(figsize=(7, 2.6))
    splits = [split for split in SPLITS if split in mix]
    left = [0] * len(splits)
    for level, colour in zip(levels, level_colors(len(levels)), strict=True):
        counts = [mix[split].get(level, 0) for split in splits]
        axes.barh(splits, counts, left=left, color=colour, label=level)
        left = [a + b for a, b in zip(left, counts, strict=True)]
    axes.invert_yaxis()
    axes.set_xlabel("rows")
    axes.legend(frameon=False, ncols=min(len(levels), 3), loc="lower right")
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def smooth(values: Sequence[float], window: int) -> list[float]:
    """Return the mean over each value and up to `window` - 1 before it."""
    return [sum(values[max(0, i - window + 1) : i + 1]) / min(i + 1, window) for i in range(len(values))]


def draw_loss(histories: Mapping[str, Sequence[tuple[str, list[Mapping[str, float]]]]]) -> Figure:
    """Return training and held-out loss over optimizer steps; {training: [(phase, history's lines), …]}."""
    figure, axes = pyplot.subplots(figsize=(7, 3))
    marks = []
    for number, (name, phases) in enumerate(histories.items()):
        start = 0
        by_phase = level_colors(len(phases)) if len(histories) == 1 else [COLOURS[number % len(COLOURS)]] * len(phases)
        for level, (phase, lines) in enumerate(phases):
            losses = [line["loss"] for line in lines]
            colour = by_phase[level]
            steps = range(start + 1, start + len(losses) + 1)
            axes.plot(steps, losses, color=colour, alpha=0.25, linewidth=0.8)
            label = phase if len(histories) == 1 else name if level == 0 else None
            axes.plot(steps, smooth(losses, 20), color=colour, label=label)
            held_out = [
                (start + at, line["heldout_loss"]) for at, line in enumerate(lines, 1) if "heldout_loss" in line
            ]
            places, values = [place for place, _ in held_out], [value for _, value in held_out]
            marks = axes.plot(places, values, "o", color=colour, markeredgecolor="black")
            start += len(losses)
            axes.axvline(start + 0.5, color="#bbbbbb", linewidth=0.6)
    if marks and places:
        marks[0].set_label("held-out")
    axes.set_xlabel("optimizer step")
    axes.set_ylabel("loss per completion token (nats)")
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def draw_metrics(metrics: Mapping[str, Any], comparison: Mapping[str, Any]) -> Figure:
    """Return grouped bars, one panel a split: every metric of every model, with 95 % intervals where they are known."""
    models = list(metrics)
    splits = [split for split in SPLITS if split in metrics[models[0]]]
    figure, panels = pyplot.subplots(1, len(splits), figsize=(3.4 * len(splits), 3), sharey=True, squeeze=False)
    for axes, split in zip(panels[0], splits, strict=True):
        names = list(metrics[models[0]][split])
        for number, model in enumerate(models):
            values = [metrics[model][split][name]["value"] or 0 for name in names]
            places = [i + (number - (len(models) - 1) / 2) * 0.8 / len(models) for i in range(len(names))]
            ranges = [
                comparison["models"].get(model, {}).get(split, {}).get(name, {}).get("interval") for name in names
            ]
            errors = [
                (max(0, v - r[0]), max(0, r[1] - v)) if r else (0, 0) for v, r in zip(values, ranges, strict=True)
            ]
            axes.bar(
                places,
                values,
                0.8 / len(models),
                label=model,
                color="#b0b0b0" if number == 0 else COLOURS[2 + number],
                yerr=list(zip(*errors, strict=True)),
                error_kw={"linewidth": 0.8},
            )
        axes.set_title(f"{split} (n = {metrics[models[0]][split][names[0]]['n']})", fontsize=10)
        axes.set_xticks(range(len(names)), names, rotation=30, ha="right")
        axes.spines[["top", "right"]].set_visible(False)
    panels[0][0].set_ylim(0, 1)
    panels[0][0].legend(frameon=False, loc="lower left", bbox_to_anchor=(0, 1.1), ncols=len(models))
    return figure


def draw_quants(facts: Mapping[str, Any]) -> Figure:
    """Return size against loss: one point a quant, mean KL against bf16 over megabytes."""
    figure, axes = pyplot.subplots(figsize=(7, 3))
    for number, (quant, found) in enumerate((q, f) for q, f in facts["quants"].items() if q != "bf16"):
        served = quant == facts["served"]
        axes.plot(found["bytes"] / 1e6, found["mean_kl"], "o", color=COLOURS[2 if served else 3], ms=9 if served else 6)
        name = quant.removesuffix("-no-imatrix") + (" without imatrix" if quant.endswith("-no-imatrix") else "")
        below = number % 2 == 1
        axes.annotate(
            name + (" (served)" if served else ""),
            (found["bytes"] / 1e6, found["mean_kl"]),
            textcoords="offset points",
            xytext=(8, -11 if below else 6),
            fontsize=9,
        )
    axes.axvline(facts["quants"]["bf16"]["bytes"] / 1e6, color="#bbbbbb", linewidth=0.8, linestyle="--")
    axes.annotate(
        "bf16 ", (facts["quants"]["bf16"]["bytes"] / 1e6, 0), ha="right", xytext=(0, 6), textcoords="offset points"
    )
    axes.axhline(0, color="#bbbbbb", linewidth=0.8)
    axes.set_xlabel("size (MB)")
    axes.set_ylabel("mean KL against bf16 (nats)")
    axes.set_xlim(left=0)
    axes.margins(y=0.2)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def group_histories(paths: Sequence[str]) -> dict[str, list[tuple[str, list[Mapping[str, float]]]]]:
    """Return {"arm-seed": [(phase, lines), …]} of files …/train/<arm>/seed<seed>/<phase>/history.jsonl."""
    groups: dict[str, list[tuple[str, list[Mapping[str, float]]]]] = {}
    for path in paths:
        arm, seed, phase = Path(path).parts[-4:-1]
        groups.setdefault(f"{arm}-{seed.removeprefix('seed')}", []).append((phase, list(read_jsonl(path))))
    return groups


if job := find_job(globals()):
    with logging_to(job.log[0]):
        save(draw_difficulty(read_json(job.input.score)["mix"], job.params.levels), job.output.difficulty)
        save(draw_loss(group_histories(job.input.histories)), job.output.loss)
        save(draw_metrics(read_json(job.input.metrics), read_json(job.input.comparison)), job.output.metrics)
        save(draw_quants(read_json(job.input.quantization)), job.output.quants)
