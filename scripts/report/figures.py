"""Draw the report's figures as SVG, the same bytes each time.

In: difficulty counts, loss histories in the order of training, metrics, comparison, quantization. Out: four SVG files.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib import pyplot
from matplotlib.figure import Figure

from scripts.common.comparison import Metrics, Models, asked_splits, row_counts
from scripts.common.io import read_json, read_jsonl
from scripts.common.job import find_job
from scripts.common.logs import logging_to
from scripts.common.plots import COLORS, level_colors, save
from scripts.common.records import SPLITS
from scripts.report.layout import in_order, quant_label, shown_metrics

Training = tuple[str, str]  # arm, seed
FEW = 4  # trainings; of more, only the smoothed loss is drawn
STYLES = ["-", "--", ":", "-."]  # of lines, where there are more arms than colors
ROLES = {"served": COLORS[0], "trained": COLORS[1], "untrained": COLORS[3]}  # what a model's color says
LABELS = 6  # of a legend inside a figure


def draw_difficulty(mix: Mapping[str, Mapping[str, int]], levels: Sequence[str]) -> Figure:
    """Return stacked bars: rows of each level, per split."""
    figure, axes = pyplot.subplots(figsize=(7, 2.6))
    splits = [split for split in SPLITS if split in mix]
    left = [0] * len(splits)
    for level, color in zip(levels, level_colors(len(levels)), strict=True):
        counts = [mix[split].get(level, 0) for split in splits]
        axes.barh(splits, counts, left=left, color=color, label=level)
        left = [a + b for a, b in zip(left, counts, strict=True)]
    axes.invert_yaxis()
    axes.set_xlabel("rows")
    axes.legend(frameon=False, ncols=min(len(levels), 3), loc="lower right")
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def smooth(values: Sequence[float], window: int) -> list[float]:
    """Return the mean over each value and up to `window` - 1 before it."""
    return [sum(values[max(0, i - window + 1) : i + 1]) / min(i + 1, window) for i in range(len(values))]


def draw_loss(histories: Mapping[Training, Sequence[tuple[str, list[Mapping[str, float]]]]]) -> Figure:
    """Return training and held-out loss over optimizer steps, of {training: [(phase, history's lines), …]}.

    One training has a color for each phase, several have one for each arm.
    """
    figure, axes = pyplot.subplots(figsize=(7, 3))
    arms = list(dict.fromkeys(arm for arm, _ in histories))
    labeled: set[str] = set()
    marked, size, width = False, *((6, 1.5) if len(histories) <= FEW else (3, 0.8))
    for (arm, _), phases in histories.items():
        start, number, by_phase = 0, arms.index(arm), level_colors(len(phases))
        for level, (phase, lines) in enumerate(phases):
            losses = [line["loss"] for line in lines]
            color = by_phase[level] if len(histories) == 1 else COLORS[number % len(COLORS)]
            style = "-" if len(histories) == 1 else STYLES[number // len(COLORS) % len(STYLES)]
            steps = range(start + 1, start + len(losses) + 1)
            if len(histories) <= FEW:
                axes.plot(steps, losses, color=color, alpha=0.25, linewidth=0.8)
            label = phase if len(histories) == 1 else arm_label(arm, histories)
            axes.plot(
                steps,
                smooth(losses, 20),
                style,
                color=color,
                linewidth=width,
                label=None if label in labeled else label,
            )
            labeled.add(label)
            held_out = [
                (start + at, line["heldout_loss"]) for at, line in enumerate(lines, 1) if "heldout_loss" in line
            ]
            if held_out:
                axes.plot(*zip(*held_out, strict=True), "o", color=color, markeredgecolor="black", markersize=size)
                marked = True
            start += len(losses)
            if len(histories) <= FEW:
                axes.axvline(start + 0.5, color="#bbbbbb", linewidth=0.6)
    if marked:
        axes.plot([], [], "o", color="white", markeredgecolor="black", label="held-out")
    axes.set_xlabel("optimizer step")
    axes.set_ylabel("loss per completion token (nats)")
    axes.set_ylim(bottom=0)
    axes.spines[["top", "right"]].set_visible(False)
    if len(labeled) <= LABELS:
        axes.legend(frameon=False)
    else:
        axes.legend(frameon=False, ncols=3, loc="upper center", bbox_to_anchor=(0.5, -0.18), fontsize=8)
    return figure


def arm_label(arm: str, trainings: Iterable[Training]) -> str:
    """Return an arm's name, with the number of its seeds where there are several."""
    seeds = sum(name == arm for name, _ in trainings)
    return arm if seeds == 1 else f"{arm} ({seeds} seeds)"


def lines_of(models: Models, metrics: Metrics, comparison: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return what is drawn, {label, color, values: {(split, metric): (value, low, high)}}: a line for each model with
    its 95 % interval; of a group one for each arm, the mean over its seeds with the lowest and the highest. What has no
    value is left out.
    """
    served = comparison["served"]["model"]
    members: dict[tuple[str, ...], list[Mapping[str, Any]]] = {}
    for model in in_order(models):
        key: tuple[str, ...] = (model["group"], model["training"]["arm"]) if model["group"] else (model["name"],)
        members.setdefault(key, []).append(model)
    drawn = []
    for key, alike in members.items():
        names = [model["name"] for model in alike]
        values = {}
        for split, by_metric in metrics[names[0]].items():
            for metric in by_metric:
                known = [value for name in names if (value := metrics[name][split][metric]["value"]) is not None]
                if known:
                    own = comparison["intervals"][names[0]][split][metric] if len(names) == 1 else None
                    values[split, metric] = (sum(known) / len(known), *(own or (min(known), max(known))))
        role = "served" if served in names else "trained" if alike[0]["trained"] else "untrained"
        label = " ".join(key) + (f" ({len(names)} seeds)" if len(names) > 1 else "")
        drawn.append({"label": label, "color": ROLES[role], "values": values})
    return drawn


def draw_metrics(models: Models, metrics: Metrics, comparison: Mapping[str, Any]) -> Figure:
    """Return a panel for each metric of each split that was asked: a line for each model or arm, a point with its
    interval. Splits stand one below the other; the headline metric is on the left.
    """
    lines, headline = lines_of(models, metrics, comparison), comparison["headline"]
    splits = asked_splits(metrics, SPLITS)
    names = shown_metrics(metrics, splits, headline)
    rows, height = max(1, len(splits)), max(1.1, 0.23 * len(lines) + 0.5)
    figure, panels = pyplot.subplots(
        rows, len(names), figsize=(10, rows * height + 0.3), sharex=True, sharey=True, squeeze=False
    )
    for across, split in zip(panels, splits, strict=False):
        for axes, name in zip(across, names, strict=True):
            for place, line in enumerate(lines):
                if (found := line["values"].get((split, name))) is not None:
                    value, low, high = found
                    axes.plot([low, high], [place, place], color=line["color"], linewidth=1.5, alpha=0.6)
                    axes.plot(value, place, "o", color=line["color"], markersize=4)
            axes.set_title(name, fontsize=9)
            axes.grid(axis="x", color="#eeeeee", linewidth=0.8)
            axes.spines[["top", "right", "left"]].set_visible(False)
            axes.tick_params(labelsize=8, length=0)
        across[0].set_ylabel(f"{split}\nn = {row_counts(metrics, split)}", fontsize=9)
    panels[0][0].set_yticks(range(len(lines)), [line["label"] for line in lines])
    panels[0][0].set_ylim(len(lines) - 0.5, -0.5)
    panels[0][0].set_xlim(-0.02, 1.02)
    panels[0][0].set_xticks([0, 0.5, 1], ["0", "50", "100 %"])
    figure.tight_layout()
    return figure


def draw_quants(quantization: Mapping[str, Any]) -> Figure:
    """Return size against loss: one point for each quant, mean KL against bf16 over megabytes."""
    figure, axes = pyplot.subplots(figsize=(7, 3))
    bf16 = quantization["quants"]["bf16"]["bytes"] / 1e6
    for number, (quant, row) in enumerate((q, r) for q, r in quantization["quants"].items() if q != "bf16"):
        served, place = quant == quantization["served"], (row["bytes"] / 1e6, row["mean_kl"])
        axes.plot(*place, "o", color=COLORS[2 if served else 3], ms=9 if served else 6)
        axes.annotate(
            quant_label(quant) + (" (served)" if served else ""),
            place,
            textcoords="offset points",
            xytext=(8, -11 if number % 2 == 1 else 6),
            fontsize=9,
        )
    axes.axvline(bf16, color="#bbbbbb", linewidth=0.8, linestyle="--")
    axes.annotate("bf16 ", (bf16, 0), ha="right", xytext=(0, 6), textcoords="offset points")
    axes.axhline(0, color="#bbbbbb", linewidth=0.8)
    axes.set_xlabel("size (MB)")
    axes.set_ylabel("mean KL against bf16 (nats)")
    axes.set_xlim(left=0)
    axes.margins(y=0.2)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def group_histories(paths: Sequence[str]) -> dict[Training, list[tuple[str, list[Mapping[str, float]]]]]:
    """Return {(arm, seed): [(phase, lines), …]} of files …/train/<arm>/seed<seed>/<phase>/history.jsonl."""
    histories: dict[Training, list[tuple[str, list[Mapping[str, float]]]]] = {}
    for path in paths:
        arm, seed, phase = Path(path).parts[-4:-1]
        histories.setdefault((arm, seed.removeprefix("seed")), []).append((phase, list(read_jsonl(path))))
    return histories


if job := find_job(globals()):
    with logging_to(job.log[0]):
        save(draw_difficulty(read_json(job.input.score)["mix"], job.params.levels), job.output.difficulty)
        save(draw_loss(group_histories(job.input.histories)), job.output.loss)
        metrics, comparison = read_json(job.input.metrics), read_json(job.input.comparison)
        save(draw_metrics(job.params.models, metrics, comparison), job.output.metrics)
        save(draw_quants(read_json(job.input.quantization)), job.output.quants)
