"""Draw the report's figures.

In: difficulty counts, loss histories in the order of training, exposure ledgers, metrics, comparison, quantization;
what was forgotten and an experiment's curves and exposures, if the run has them. Out: of each figure an SVG file and
its Vega-Lite specification, which the report makes interactive.
"""

import csv
from collections.abc import Iterable, Mapping, Sequence
from math import ceil
from pathlib import Path
from typing import Any

import altair as alt

from scripts.common.comparison import Metrics, Models, asked_splits, row_counts
from scripts.common.io import read_json, read_jsonl
from scripts.common.job import find_job
from scripts.common.logs import logging_to
from scripts.common.records import SPLITS
from scripts.report.charts import INK, LEVELS, PANEL, ROLES, WARNING, WIDTH, data, layer, write_figure, zero_line
from scripts.report.layout import in_order, quant_label, shown_metrics

Training = tuple[str, str]  # arm, seed
Histories = Mapping[Training, Sequence[tuple[str, Sequence[Mapping[str, float]]]]]
POINTS = 2000  # of a figure's curves; of more steps, every second, third, … is drawn
SMOOTH = 20  # steps that a point of a curve is the mean of
ALL_SEEDS = "lowest to highest of {} seeds"
NO_DOMAIN = alt.Axis(domain=False, ticks=False)


def draw_difficulty(mix: Mapping[str, Mapping[str, int]], levels: Sequence[str]) -> alt.Chart:
    """Return stacked bars: rows of each level, per split."""
    rows = [
        {"split": split, "level": level, "rows": mix[split].get(level, 0), "order": place}
        for split in SPLITS
        if split in mix
        for place, level in enumerate(levels)
    ]
    height = 26 * len({row["split"] for row in rows})
    return _level_bars(rows, "split", levels, 8).properties(width=WIDTH, height=height)


def _level_bars(rows: Sequence[Mapping[str, Any]], by: str, levels: Sequence[str], ticks: int) -> alt.Chart:
    return (
        alt.Chart(data(rows))
        .mark_bar()
        .encode(
            y=alt.Y(f"{by}:N", sort=None, title=None, axis=NO_DOMAIN),
            x=alt.X("rows:Q", title="rows", axis=alt.Axis(tickCount=ticks)),
            color=alt.Color("level:O", sort=list(levels), title="difficulty", scale=alt.Scale(scheme=LEVELS)),
            order=alt.Order("order:Q"),
            tooltip=[f"{by}:N", "level:N", alt.Tooltip("rows:Q", format=",.0f")],
        )
    )


def exposed(ledgers: Mapping[Training, Mapping[str, Any]], phases: Sequence[str]) -> list[dict[str, Any]]:
    """Return {variant, arm, seed, phase, level, rows} of the trainings of the run's models, of their ledgers."""
    return [
        {"variant": "main", "arm": arm, "seed": seed, "phase": phase, "level": level, "rows": rows}
        for (arm, seed), ledger in ledgers.items()
        for phase in phases
        for level, rows in ledger[phase]["by_difficulty"].items()
    ]


def draw_exposures(exposures: Iterable[Mapping[str, Any]], levels: Sequence[str]) -> alt.FacetChart:
    """Return a panel for each arm: the rows of each level that a phase shows, the mean over the arm's seeds."""
    shown: dict[tuple[str, str, str], list[float]] = {}
    for row in exposures:
        shown.setdefault((_panel(row), row["phase"], row["level"]), []).append(float(row["rows"]))
    rows = [
        {"arm": arm, "phase": phase, "level": level, "rows": sum(counts) / len(counts), "order": levels.index(level)}
        for (arm, phase, level), counts in shown.items()
    ]
    bars = _level_bars(rows, "phase", levels, 3).properties(width=PANEL, height=alt.Step(20))
    arms = list(dict.fromkeys(arm for arm, _, _ in shown))
    return bars.facet(facet=alt.Facet("arm:N", sort=arms, title=None), columns=3)


def _panel(row: Mapping[str, Any]) -> str:
    return str(row["arm"]) if row["variant"] == "main" else f"{row['arm']}, {row['variant']}"


def smooth(values: Sequence[float], window: int) -> list[float]:
    """Return the mean over each value and up to `window` - 1 before it."""
    return [sum(values[max(0, i - window + 1) : i + 1]) / min(i + 1, window) for i in range(len(values))]


def curves_of(histories: Histories) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return points {training, line, step, loss} of the smoothed training loss, and of the held-out loss, of
    {training: [(phase, history's lines), …]}. `line`: the phase of a single training, or the arm of several.
    """
    total = sum(len(lines) for phases in histories.values() for _, lines in phases)
    each = max(1, ceil(total / POINTS))
    trained, held_out = [], []
    for (arm, seed), phases in histories.items():
        start = 0
        for phase, lines in phases:
            line = phase if len(histories) == 1 else arm_label(arm, histories)
            named = {"training": f"{arm}, seed {seed}", "line": line}
            losses = smooth([point["loss"] for point in lines], SMOOTH)
            for at, (loss, point) in enumerate(zip(losses, lines, strict=True), 1):
                if at % each == 0 or at == len(lines):
                    trained.append({**named, "step": start + at, "loss": round(loss, 4)})
                if "heldout_loss" in point:
                    held_out.append({**named, "step": start + at, "loss": round(point["heldout_loss"], 4)})
            start += len(lines)
    return trained, held_out


def draw_loss(histories: Histories) -> alt.LayerChart:
    """Return training and held-out loss over optimizer steps. One training has a color for each phase, several have
    one for each arm; a click in the legend shows one of them.
    """
    trained, held_out = curves_of(histories)
    one = len(histories) == 1
    names = list(dict.fromkeys(row["line"] for row in trained))
    color = alt.Color(
        "line:O" if one else "line:N",
        sort=names,
        title="phase" if one else "arm",
        scale=alt.Scale(scheme=LEVELS) if one else alt.Undefined,
    )
    chosen = alt.selection_point(name="chosen", fields=["line"], bind="legend")
    common: dict[str, Any] = {
        "x": alt.X("step:Q", title="optimizer step"),
        "y": alt.Y("loss:Q", title="loss per answer token (nats)", scale=alt.Scale(zero=False)),
        "color": color,
        "opacity": alt.condition(chosen, alt.value(1), alt.value(0.1)),
        "detail": "training:N",
        "tooltip": ["training:N", "line:N", "step:Q", alt.Tooltip("loss:Q", format=".3f")],
    }
    lines = alt.Chart(data(trained)).mark_line(strokeWidth=2 if one else 1.5).encode(**common).add_params(chosen)
    dots = alt.Chart(data(held_out)).mark_point(filled=True, size=60, stroke=INK, strokeWidth=1).encode(**common)
    return layer(lines, dots).properties(width=WIDTH, height=260)


def arm_label(arm: str, trainings: Iterable[Training]) -> str:
    """Return an arm's name, with the number of its seeds where there are several."""
    seeds = sum(name == arm for name, _ in trainings)
    return arm if seeds == 1 else f"{arm} ({seeds} seeds)"


def bands(curves: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return {variant, arm, step, loss, low, high, seeds}: the mean held-out loss over an arm's seeds at each step,
    with the lowest and the highest.
    """
    found: dict[tuple[str, str, int], list[float]] = {}
    for row in curves:
        found.setdefault((row["variant"], row["arm"], int(row["step"])), []).append(float(row["heldout_loss"]))
    return [
        {
            **{"variant": variant, "arm": arm, "step": step, "seeds": len(losses)},
            **{"loss": round(sum(losses) / len(losses), 4), "low": min(losses), "high": max(losses)},
        }
        for (variant, arm, step), losses in sorted(found.items())
    ]


def draw_curves(curves: Iterable[Mapping[str, Any]]) -> alt.LayerChart | alt.FacetChart:
    """Return held-out loss over steps: a line for each arm's mean over its seeds, in a band from the lowest to the
    highest; a panel for each variant of an experiment.
    """
    rows = bands(curves)
    variants = list(dict.fromkeys(row["variant"] for row in rows))
    chosen = alt.selection_point(name="chosen", fields=["arm"], bind="legend")
    base = alt.Chart().encode(
        x=alt.X("step:Q", title="optimizer step"),
        color=alt.Color("arm:N", sort=None),
        tooltip=["arm:N", "step:Q", "seeds:Q", *(alt.Tooltip(f"{name}:Q", format=".4f") for name in _BOUNDS)],
    )
    band = base.mark_area().encode(
        y=alt.Y("low:Q", title="held-out loss per answer token (nats)", scale=alt.Scale(zero=False)),
        y2="high:Q",
        opacity=alt.condition(chosen, alt.value(0.2), alt.value(0.02)),
    )
    line = base.mark_line(point=True).encode(y="loss:Q", opacity=alt.condition(chosen, alt.value(1), alt.value(0.1)))
    drawn = layer(band.add_params(chosen), line, data=data(rows))
    if len(variants) < 2:
        return drawn.properties(width=WIDTH, height=280)
    return drawn.properties(width=PANEL * 1.4, height=200).facet(
        facet=alt.Facet("variant:N", sort=variants, title=None), columns=2
    )


_BOUNDS = ("loss", "low", "high")


def lines_of(models: Models, metrics: Metrics, comparison: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return what is drawn, {label, role, range, values: {(split, metric): (value, low, high)}}: a line for each model
    with its 95% interval; of a group one for each arm, the mean over its seeds with the lowest and the highest. What
    has no value is left out.
    """
    served = comparison["served"]["model"]
    drawn = []
    for label, alike in arms_and_models(models):
        names = [model["name"] for model in alike]
        values = {}
        for split, by_metric in metrics[names[0]].items():
            for metric in by_metric:
                known = [value for name in names if (value := metrics[name][split][metric]["value"]) is not None]
                if known:
                    own = comparison["intervals"][names[0]][split][metric] if len(names) == 1 else None
                    values[split, metric] = (sum(known) / len(known), *(own or (min(known), max(known))))
        role = "served" if served in names else "trained" if alike[0]["trained"] else "untrained"
        drawn.append({"label": label, "role": role, "range": _range(names), "values": values})
    return drawn


def arms_and_models(models: Models) -> list[tuple[str, list[Mapping[str, Any]]]]:
    """Return models in their order, those of a group's arm together, with a name for people."""
    members: dict[tuple[str, ...], list[Mapping[str, Any]]] = {}
    for model in in_order(models):
        key: tuple[str, ...] = (model["group"], model["training"]["arm"]) if model["group"] else (model["name"],)
        members.setdefault(key, []).append(model)
    return [
        (" ".join(key) + (f" ({len(alike)} seeds)" if len(alike) > 1 else ""), alike) for key, alike in members.items()
    ]


def _range(names: Sequence[str]) -> str:
    return ALL_SEEDS.format(len(names)) if len(names) > 1 else "95% interval"


def draw_metrics(models: Models, metrics: Metrics, comparison: Mapping[str, Any]) -> alt.FacetChart:
    """Return a panel for each metric of each split that was asked: a line for each model or arm, a point with its
    interval. The headline metric comes first.
    """
    lines, headline = lines_of(models, metrics, comparison), comparison["headline"]
    splits = asked_splits(metrics, SPLITS)
    names = shown_metrics(metrics, splits, headline)
    rows = [
        {
            **{"model": line["label"], "role": line["role"], "range": line["range"]},
            **{"panel": f"{name}, {split} (n = {row_counts(metrics, split)})"},
            **dict(zip(("value", "low", "high"), line["values"][split, name], strict=True)),
        }
        for name in names
        for split in splits
        for line in lines
        if (split, name) in line["values"]
    ]
    base = alt.Chart().encode(
        y=alt.Y("model:N", sort=[line["label"] for line in lines], title=None, axis=NO_DOMAIN),
        color=_roles(),
        tooltip=["model:N", *_shares("value", "low", "high"), "range:N"],
    )
    span = base.mark_rule(strokeWidth=2, opacity=0.6).encode(
        x=alt.X("low:Q", title=None, axis=alt.Axis(format="%", tickCount=3)), x2="high:Q"
    )
    point = base.mark_point(filled=True, size=50, opacity=1).encode(x="value:Q")
    drawn = layer(span, point, data=data(rows)).properties(width=PANEL, height=alt.Step(18))
    panels = list(dict.fromkeys(row["panel"] for row in rows))
    return drawn.facet(facet=alt.Facet("panel:N", sort=panels, title=None), columns=3)


def _roles() -> alt.Color:
    return alt.Color(
        "role:N", title=None, scale=alt.Scale(domain=list(ROLES), range=list(ROLES.values())), sort=list(ROLES)
    )


def _shares(*names: str) -> list[alt.Tooltip]:
    return [alt.Tooltip(f"{name}:Q", format=".1%") for name in names]


def differences(models: Models, comparison: Mapping[str, Any], splits: Sequence[str]) -> list[dict[str, Any]]:
    """Return {model, role, split, difference, low, high, n, served, other, range}: how far the served model is ahead of
    each other one by the headline metric, in points of percent. Of an arm of a group, the mean over its seeds, with the
    lowest and the highest difference.
    """
    served, headline = comparison["served"], comparison["headline"]
    rows = []
    for label, alike in arms_and_models(models):
        for split in splits:
            found = [served["models"].get(model["name"], {}).get(split, {}).get(headline) for model in alike]
            pairs = [pair for pair in found if pair and pair["n"]]
            if not pairs:
                continue
            ahead = [pair["difference"] for pair in pairs]
            one = pairs[0]["difference_interval"] or (ahead[0], ahead[0])
            low, high = one if len(alike) == 1 else (min(ahead), max(ahead))
            starred = label + (" *" if alike[0]["name"] == served["strongest"] else "")
            rows.append(
                {
                    **{
                        "model": starred,
                        "split": split,
                        "n": pairs[0]["n"],
                        "range": _range([m["name"] for m in alike]),
                    },
                    "role": "trained" if alike[0]["trained"] else "untrained",
                    "served": pairs[0]["value"],
                    "other": sum(pair["first_value"] for pair in pairs) / len(pairs),
                    **{"difference": 100 * sum(ahead) / len(ahead), "low": 100 * low, "high": 100 * high},
                }
            )
    return rows


def draw_forest(models: Models, metrics: Metrics, comparison: Mapping[str, Any]) -> alt.LayerChart:
    """Return a forest plot: how far the served model is ahead of each other one by the headline metric, with the
    interval, on each split that was asked; right of 0 it is better.
    """
    splits = asked_splits(metrics, SPLITS)
    rows = differences(models, comparison, splits)
    names = list(dict.fromkeys(row["model"] for row in rows))
    base = alt.Chart(data(rows)).encode(
        y=alt.Y("model:N", sort=names, title=None, axis=alt.Axis(domain=False, ticks=False, grid=True)),
        yOffset=alt.YOffset("split:N", sort=splits),
        color=alt.Color("split:N", sort=splits, title="split", scale=alt.Scale(range=list(_SPLIT_COLORS))),
        tooltip=[
            alt.Tooltip("model:N", title="against"),
            *("split:N", "n:Q"),
            *_shares("served", "other"),
            *(alt.Tooltip(f"{name}:Q", format="+.1f") for name in ("difference", "low", "high")),
            "range:N",
        ],
    )
    served = comparison["served"]["model"]
    x = alt.X("low:Q", title=f"difference in points; right of 0: {served} is better")
    span = base.mark_rule(strokeWidth=2.5).encode(x=x, x2="high:Q")
    point = base.mark_point(filled=True, size=90, opacity=1).encode(
        x="difference:Q", shape=alt.Shape("split:N", sort=splits, legend=None)
    )
    height = (18 * len(splits) + 10) * max(1, len(names))
    return layer(zero_line(), span, point).properties(width=WIDTH, height=height)


_SPLIT_COLORS = ("#457b9d", "#c77b0a", "#8d6aa8", "#4a8a3f")  # as many as SPLITS


def draw_quants(quantization: Mapping[str, Any]) -> alt.LayerChart:
    """Return size against loss: one point for each quant, mean KL against bf16 over megabytes."""
    rows = [
        {
            "quant": quant_label(quant) + (" (served)" if quant == quantization["served"] else ""),
            **{"role": "served" if quant == quantization["served"] else "other", "low": number % 2 == 1},
            **{"megabytes": row["bytes"] / 1e6, "kl": row["mean_kl"] or 0},  # bf16 is the reference itself
        }
        for number, (quant, row) in enumerate(quantization["quants"].items())
    ]
    room = 1.3 * max(row["megabytes"] for row in rows)  # for the names right of the points
    base = alt.Chart(data(rows)).encode(
        x=alt.X("megabytes:Q", title="size (MB)", scale=alt.Scale(domain=[0, room], nice=False)),
        y=alt.Y("kl:Q", title="mean KL against bf16 (nats)"),
        tooltip=["quant:N", alt.Tooltip("megabytes:Q", format=".0f"), alt.Tooltip("kl:Q", format=".5f")],
    )
    colors = alt.Scale(domain=["served", "other"], range=[ROLES["served"], ROLES["untrained"]])
    points = base.mark_point(filled=True, size=90, opacity=1).encode(
        color=alt.Color("role:N", scale=colors, legend=None)
    )
    label: dict[str, Any] = {"color": INK, "fontSize": 12, "align": "left", "dx": 9}
    high = base.mark_text(dy=-7, **label).encode(text="quant:N").transform_filter("!datum.low")
    low = base.mark_text(dy=7, **label).encode(text="quant:N").transform_filter("datum.low")
    return layer(points, high, low).properties(width=WIDTH, height=240)


def draw_forgetting(found: Mapping[str, Any], served: str) -> alt.LayerChart:
    """Return how many more of the questions outside the task the served model answers than the base, by kind, with the
    interval; left of 0 it has lost something. `found`: forgetting.json.
    """
    measured = found["models"].get(served, {"kinds": {}, "overall": None})
    pairs = [(kind, found["kinds"][kind]["counts"], pair) for kind, pair in measured["kinds"].items()]
    if measured["overall"]:
        pairs.append(("all that count", True, measured["overall"]))
    rows = [
        {
            "kind": kind if counts else f"{kind} (does not count)",
            **{"n": pair["n"], "base": pair["base_value"], "model": pair["value"], "change": 100 * pair["difference"]},
            **dict(zip(("low", "high"), (100 * bound for bound in pair["difference_interval"]), strict=True)),
            "outcome": "dropped" if pair["dropped"] else "within the limits" if counts else "does not count",
        }
        for kind, counts, pair in pairs
    ]
    outcomes = {"dropped": WARNING, "within the limits": ROLES["served"], "does not count": "#888888"}
    base = alt.Chart(data(rows)).encode(
        y=alt.Y("kind:N", sort=None, title=None, axis=alt.Axis(domain=False, ticks=False, grid=True)),
        color=alt.Color("outcome:N", title=None, scale=alt.Scale(domain=list(outcomes), range=list(outcomes.values()))),
        tooltip=["kind:N", "n:Q", *_shares("base", "model"), *(f"{name}:Q" for name in ("change", "low", "high"))],
    )
    x = alt.X("low:Q", title="change in points; left of 0: lost")
    span = base.mark_rule(strokeWidth=2.5).encode(x=x, x2="high:Q")
    point = base.mark_point(filled=True, size=90, opacity=1).encode(
        x="change:Q", shape=alt.Shape("outcome:N", legend=None)
    )
    return layer(zero_line(), span, point).properties(width=WIDTH, height=26 * max(1, len(rows)))


def group_histories(paths: Sequence[str]) -> dict[Training, list[tuple[str, list[Mapping[str, float]]]]]:
    """Return {(arm, seed): [(phase, lines), …]} of files …/train/<arm>/seed<seed>/<phase>/history.jsonl."""
    histories: dict[Training, list[tuple[str, list[Mapping[str, float]]]]] = {}
    for path in paths:
        arm, seed, phase = Path(path).parts[-4:-1]
        histories.setdefault((arm, seed.removeprefix("seed")), []).append((phase, list(read_jsonl(path))))
    return histories


def group_ledgers(paths: Sequence[str]) -> dict[Training, Mapping[str, Any]]:
    """Return {(arm, seed): ledger} of files …/curriculum/<arm>/seed<seed>/ledger.json."""
    return {(Path(path).parts[-3], Path(path).parts[-2].removeprefix("seed")): read_json(path) for path in paths}


def read_table(path: str | Path) -> list[dict[str, str]]:
    """Return the rows of a CSV file."""
    with open(path, encoding="utf-8", newline="") as handle:
        return list(csv.DictReader(handle))


if job := find_job(globals()):
    with logging_to(job.log[0]):
        levels, models = job.params.levels, job.params.models
        metrics, comparison = read_json(job.input.metrics), read_json(job.input.comparison)
        charts = {
            "forest": draw_forest(models, metrics, comparison),
            "metrics": draw_metrics(models, metrics, comparison),
            "loss": draw_loss(group_histories(job.input.histories)),
            "exposures": draw_exposures(exposed(group_ledgers(job.input.ledgers), job.params.phases), levels),
            "quants": draw_quants(read_json(job.input.quantization)),
            "difficulty": draw_difficulty(read_json(job.input.score)["mix"], levels),
        }
        if job.input.forgetting:
            forgetting = read_json(job.input.forgetting)
            charts["forgetting"] = draw_forgetting(forgetting, comparison["served"]["model"])
        if job.input.experiment:
            curves, exposures = map(read_table, job.input.experiment)
            charts["experiment"] = draw_curves(curves)
            charts["experiment-exposures"] = draw_exposures(exposures, levels)
        for name, chart in charts.items():
            write_figure(chart, Path(job.output[0]).parent, name)
