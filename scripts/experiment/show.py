"""Tables and figures of an experiment."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from matplotlib import pyplot
from scipy.stats import t

from scripts.common.experiment import MAIN
from scripts.common.experiment_statistics import ALPHA
from scripts.common.plots import COLORS, save

Lines = Sequence[Mapping[str, Any]]


def number(value: float | None, places: int = 4, sign: bool = False) -> str:
    """Return a number as a table has it."""
    return "–" if value is None else f"{value:{'+' if sign else ''}.{places}f}"


def interval(bounds: Sequence[float] | None, places: int = 4) -> str:
    """Return an interval as a table has it."""
    return "–" if bounds is None else f"{bounds[0]:+.{places}f} to {bounds[1]:+.{places}f}"


def p_value(value: float | None) -> str:
    """Return a p value with two significant digits."""
    return "–" if value is None else f"{value:.2g}"


def said(line: Mapping[str, Any]) -> str:
    """Return what a comparison shows, in words."""
    if line["interval"] is None:
        return "no spread, so nothing can be said"
    low, high = line["interval"]
    if low <= 0 <= high:
        least = line["minimum_detectable_effect"]
        if line["equivalent"]:
            return "equal within the margin"
        return "not shown" if least is None else f"not shown; 80% power at {least:.3g}"
    better = (line["difference"] > 0) == line["higher_is_better"]
    uncorrected = line["p_holm"] is not None and line["p_holm"] >= ALPHA
    return (
        f"{'better' if better else 'worse'}{', within the margin' if line['equivalent'] else ''}"
        f"{'; not after Holm’s correction' if uncorrected else ''}"
    )


def seen(exposures: Lines, levels: Sequence[str]) -> list[str]:
    """Return the lines of a table: how many rows of each level a training sees, the mean over an arm's seeds."""
    arms: dict[tuple[str, str], dict[int, dict[str, int]]] = defaultdict(lambda: defaultdict(lambda: defaultdict(int)))
    for line in exposures:
        arms[line["variant"], line["arm"]][line["seed"]][line["level"]] += line["rows"]
    lines = [f"| variant | arm | {' | '.join(levels)} |", "|---|---|" + "--:|" * len(levels)]
    for (variant, arm), seeds in arms.items():
        means = (f"{mean(rows[level] for rows in seeds.values()):,.0f}" for level in levels)
        lines.append(f"| {variant} | {arm} | {' | '.join(means)} |")
    return lines


def tables(effects: Mapping[str, Any], exposures: Lines, levels: Sequence[str]) -> str:
    """Return the experiment as Markdown."""
    primary, trainings = effects["primary"], effects["trainings"]
    tokens = [line["tokens"] for line in trainings]
    lines = [
        f"**{effects['question']}**",
        "",
        f"{len(trainings)} trainings of {min(tokens):,} to {max(tokens):,} tokens. "
        f"Plan `{effects['plan'][:12]}`. Command:",
        "",
        f"    {effects['command']}",
        "",
    ]
    if primary:
        lines += [
            f"Primary comparison, named before the first training: {primary['arm']} against {primary['control']}, "
            f"loss on `{primary['split']}` in nats a token: {number(primary['difference'], sign=True)} "
            f"(95% interval {interval(primary['interval'])}; p = {p_value(primary['p'])}; {primary['seeds']} seeds, "
            f"{primary['items']} rows; margin {primary['margin']:g}): **{said(primary)}**.",
            "",
        ]
    if effects["left_out"]:
        lines += [f"Left out of all arms, as a training failed: seeds {', '.join(map(str, effects['left_out']))}.", ""]
    lines += [
        "Rows seen by a training, by level, mean over seeds:",
        "",
        *seen(exposures, levels),
        "",
        f"Differences are of an arm from the control, {effects['control']}, or another. Below 0 the arm is better "
        "where it is a loss, above 0 where it is a share.",
        "",
        "| variant | arm | from | metric | split | level | n | arm's | the other's | difference | 95% interval "
        "| bootstrap | p | p (Holm) | SD of seeds | shows |",
        "|---|---|---|---|---|---|---|--:|--:|--:|---|---|--:|--:|--:|---|",
    ]
    for line in effects["comparisons"]:
        arm = f"**{line['arm']}**" if line["primary"] else line["arm"]
        lines.append(
            f"| {line['variant']} | {arm} | {line['control']} | {line['metric']} | {line['split']} | "
            f"{line['level'] or 'all'} | {line['seeds']} × {line['items']} | {number(line['value'])} | "
            f"{number(line['control_value'])} | {number(line['difference'], sign=True)} | "
            f"{interval(line['interval'])} | {interval(line['bootstrap'])} | "
            f"{p_value(line['p'])} | {p_value(line['p_holm'])} | {number(line['seed_sd'])} | {said(line)} |"
        )
    return "\n".join(lines) + "\n"


def draw_forest(comparisons: Lines, path: str | Path) -> None:
    """Draw each comparison of arms: the difference of the loss on all rows of a split, with its 95% interval."""
    shown = [line for line in comparisons if line["metric"] == "loss" and line["level"] is None]
    figure, axes = pyplot.subplots(figsize=(7, 0.8 + 0.3 * len(shown)))
    for place, line in enumerate(shown):
        color = COLORS[2] if line["primary"] else COLORS[3]
        if line["interval"]:
            axes.plot(line["interval"], [place, place], color=color, linewidth=1.5)
        axes.plot(line["difference"], place, "o", color=color, markersize=5)
    names = [
        f"{'' if line['variant'] == MAIN else line['variant'] + ': '}{line['arm']} − {line['control']}, "
        f"{line['split']} ({line['seeds']} × {line['items']})"
        for line in shown
    ]
    axes.set_yticks(range(len(shown)), names)
    axes.invert_yaxis()
    axes.axvline(0, color="#888888", linewidth=0.8)
    if shown:
        margin = shown[0]["margin"]
        axes.axvspan(-margin, margin, color="#888888", alpha=0.15, linewidth=0)
        axes.set_xlabel("difference of the loss, nats a token (gray: within the margin)")
    axes.spines[["top", "right", "left"]].set_visible(False)
    save(figure, path)


def draw_curves(curves: Lines, path: str | Path) -> None:
    """Draw the validation loss over the tokens, the mean of each arm of `main` with a band: its 95% t interval over
    seeds.
    """
    figure, axes = pyplot.subplots(figsize=(7, 3.2))
    points: dict[str, dict[int, list[tuple[int, float]]]] = defaultdict(lambda: defaultdict(list))
    for line in curves:
        if line["variant"] == MAIN:
            points[line["arm"]][line["step"]].append((line["tokens"], line["heldout_loss"]))
    for place, (arm, by_step) in enumerate(points.items()):
        seeds = max(map(len, by_step.values()))
        whole = [values for _, values in sorted(by_step.items()) if len(values) == seeds]
        tokens = [mean(at for at, _ in values) for values in whole]
        losses = [mean(loss for _, loss in values) for values in whole]
        color = COLORS[place % len(COLORS)]
        axes.plot(tokens, losses, "-" if place < len(COLORS) else "--", color=color, label=arm, linewidth=1.4)
        if seeds > 1:
            half = [float(t.ppf(0.975, seeds - 1)) * stdev(loss for _, loss in values) / seeds**0.5 for values in whole]
            low, high = ([value + sign * width for value, width in zip(losses, half, strict=True)] for sign in (-1, 1))
            axes.fill_between(tokens, low, high, color=color, alpha=0.15, linewidth=0)
    axes.set_xlabel("tokens")
    axes.set_ylabel("validation loss, nats a token")
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    save(figure, path)
