"""Say before training whether it is worth it, from what the cheap alternatives reach on validation rows.

In: metrics and details of every model that is not trained, on `valid`; training and validation rows; the rows with
their links to near-copies. Out: advice.json and advice.html. The rules of the decision are in advice.py.
"""

import logging
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from matplotlib import pyplot
from matplotlib.figure import Figure
from scipy.stats import binomtest

from scripts.common.answers import sample
from scripts.common.html import inline_svg, write_page
from scripts.common.io import read_json, write_json
from scripts.common.job import find_job
from scripts.common.logs import logging_to
from scripts.common.plots import COLORS, save
from scripts.common.records import Record, normal, read_records
from scripts.contenders import advice, linear, nearest
from scripts.contenders.advice import Facts
from scripts.tasks.checks import LABELS, base_of
from scripts.tasks.table import load_task
from scripts.tasks.task import Task

SHARES = (0.1, 0.25, 0.5, 1.0)  # of the training rows, in the learning curve
SIGNIFICANT = 0.05  # largest p at which a gain counts as one

Answer = Callable[[Sequence[Record], Sequence[Record]], Sequence[str]]  # (training rows, asked rows) → answers
Grades = Sequence[float | None]


def grade(task: Task, records: Sequence[Record], texts: Sequence[str]) -> Grades:
    """Return the headline metric of each answer; None for a row that does not count."""
    name = task.headline
    if batch := task.batch.get(name):
        return task.measure_batch(name, batch, records, texts)
    asked = zip(records, texts, strict=True)
    return [task.measure(name, task.metrics[name], record, text, True) for record, text in asked]


def learning_curve(
    task: Task, train: Sequence[Record], asked: Sequence[Record], answer: Answer
) -> list[tuple[int, Grades]]:
    """Return (training rows, grades of the asked rows) for growing sets of training rows, each within the next.

    The sets are those of the smallest ids, which are hashes: fair, and the same in every run.
    """
    sizes = sorted({max(1, round(share * len(train))) for share in SHARES}) if train and asked else []
    return [(size, grade(task, asked, answer(sample(train, size), asked))) for size in sizes]


def mean(grades: Grades) -> dict[str, Any]:
    """Return {value, n, low, high}: the mean over the rows that count, and its 95% interval."""
    counted = [value for value in grades if value is not None]
    if not counted:
        return {"value": None, "n": 0, "low": None, "high": None}
    value = round(sum(counted) / len(counted), 6)
    low, high = advice.interval(value, len(counted))
    return {"value": value, "n": len(counted), "low": low, "high": high}


def find_gain(curve: Sequence[tuple[int, Grades]], constant: float | None) -> tuple[bool | None, dict[str, Any]]:
    """Return whether more rows help, and what all rows gain over a quarter of them: {value, better, worse, p, last}.

    More rows help if all of them answer more validation rows better than worse (the exact sign test, one-sided since
    the question is, has p ≤ 0.05; for a metric of 0 and 1 it is McNemar's) and the last doubling still gained
    (`last` > 0). That one alone would need hundreds of validation rows to stand out from chance. It is not known (None)
    if the curve is incomplete, or if even with all rows the baseline is not clearly better than the best constant
    answer: then it has not learned the task, and says nothing.
    """
    if len(curve) < len(SHARES):
        return None, {}
    # rows that count for all three; a metric of the user's own may leave out a row for its answer
    steps = zip(*(grades for _, grades in curve[-3:]), strict=True)
    counted = [[value for value in row if value is not None] for row in steps]
    rows = [row for row in counted if len(row) == 3]
    if not rows:
        return None, {}
    quarter, half, full = (list(values) for values in zip(*rows, strict=True))
    better = sum(after > before for before, after in zip(quarter, full, strict=True))
    worse = sum(after < before for before, after in zip(quarter, full, strict=True))
    p = float(f"{binomtest(better, better + worse, alternative='greater').pvalue:.3g}") if better + worse else 1.0
    value, last = ((sum(full) - sum(before)) / len(full) for before in (quarter, half))
    gain = {"value": round(value, 6), "better": better, "worse": worse, "p": p, "last": round(last, 6)}
    if constant is not None and mean(full)["low"] <= constant:
        return None, gain
    return p <= SIGNIFICANT and last > 0, gain


def find_noise(train: Sequence[Record], linked: Iterable[Record], by: str) -> dict[str, Any]:
    """Return how often training rows, but for augmented ones, that ask (nearly) the same have different responses.

    `linked`: records with links to earlier near-copies, by the text `by` (prompt or response). Near-copies by response
    say nothing about disagreement, so then only pairs with the same prompt count.
    """
    known = {record.id: record for record in train if not record.augmented}
    counts = {"same_prompt": 0, "near_copies": 0, "near_copies_that_disagree": 0}
    rows: set[str] = set()
    for record in linked:
        for earlier in record.near:
            first, second = known.get(earlier), known.get(record.id)
            if not (first and second):
                continue
            same_prompt = normal(first.asked) == normal(second.asked)
            if not same_prompt and by != "prompt":
                continue
            # rows with the same prompt and the same response were left out as exact duplicates
            disagree = normal(first.response) != normal(second.response)
            counts["same_prompt"] += same_prompt
            counts["near_copies"] += not same_prompt
            counts["near_copies_that_disagree"] += disagree and not same_prompt
            if disagree:
                rows |= {first.id, second.id}
    return {**counts, "rows": len(rows), "share": round(len(rows) / len(known), 4) if known else None}


def describe(model: Mapping[str, Any]) -> str:
    """Return in words how a model answers."""
    options = model.get("options", {})
    text = {
        "base": "the untuned base",
        "gguf": "your GGUF",
        "nearest": "the response of the most similar training row",
        "majority": "always the commonest label",
        "linear": "TF-IDF and logistic regression, learned from the training rows",
    }[model["kind"]]
    if examples := options.get("examples"):
        text += (
            ", with training rows as examples in its prompt, chosen on these validation rows (so a little flattered)"
            if any(isinstance(value, list) for value in examples.values())
            else f", with {examples['count']} training rows as examples in its prompt ({examples['choose']})"
        )
    if "system_prompt" in options:
        text += ", with a system prompt of its own"
    if "constrained" in options:
        text += ", held to a grammar"
    return text


def advise(
    task: Task,
    models: Sequence[Mapping[str, Any]],
    metrics: Sequence[Mapping[str, Any]],
    points: Mapping[str, Any],
    train: Sequence[Record],
    asked: Sequence[Record],
    answer: Answer,
) -> dict[str, Any]:
    """Return the content of advice.json but for the noise.

    Augmented rows do not count: they are no more examples of the task than the rows that they were made from.
    `models` and `metrics`: the contenders and their {metric: {value, n}} on the rows `asked`; `points`: the reference
    points of the headline metric, {constant, ceiling}.
    """
    constant, ceiling = points.get("constant"), points.get("ceiling")
    augmented = sum(row.augmented for row in train)
    train = [row for row in train if not row.augmented]
    contenders = tuple(
        advice.measured(model["name"], model["kind"], given[task.headline]["value"], given[task.headline]["n"])
        for model, given in zip(models, metrics, strict=True)
    )
    curve = learning_curve(task, train, asked, answer)
    helps, gain = find_gain(curve, constant)
    facts = Facts(len(train), constant, ceiling, contenders, helps)
    decision = advice.decide(advice.find_conditions(facts))
    because, do = advice.explain(decision, facts, task.headline)
    best = advice.find_strongest(contenders)
    left = None if best is None or best.value is None or ceiling is None else round(max(0.0, ceiling - best.value), 6)
    return {
        "advice": decision,
        "because": because,
        "do": do,
        "headline": task.headline,
        "contenders": [asdict(contender) for contender in contenders],
        "strongest": best.model if best else None,
        "constant": constant,
        "ceiling": ceiling,
        "headroom": left,
        "rows": len(train),
        **({"augmented": augmented} if augmented else {}),
        "curve": [{"share": round(size / len(train), 4), "rows": size, **mean(grades)} for size, grades in curve],
        "gain": gain,
        "more_rows_help": helps,
    }


def draw_contenders(found: Mapping[str, Any]) -> Figure:
    """Plot each contender's value with its interval, and the reference points."""
    shown = [row for row in found["contenders"] if row["value"] is not None]
    height = 0.36 * len(shown)  # of the axes, in inches
    figure, axes = pyplot.subplots(figsize=(8, 0.9 + height))
    for row, color in ((row, COLORS[0] if row["model"] == found["strongest"] else COLORS[3]) for row in shown):
        axes.barh(row["model"], 100 * row["value"], color=color, height=0.6)
        axes.plot([100 * row["low"], 100 * row["high"]], [row["model"]] * 2, color="#222", linewidth=1.2)
    axes.invert_yaxis()
    for name, style in (("constant", ":"), ("ceiling", "--")):
        if found[name] is not None:
            label = {"constant": "always the same answer", "ceiling": "most that can be reached"}[name]
            axes.axvline(100 * found[name], color="#777", linestyle=style, linewidth=1.2, label=label)
    axes.set_xlim(0, 102)
    axes.set_xlabel(f"{found['headline']} on validation rows, % (line: 95% interval)")
    axes.legend(frameon=False, ncols=2, loc="upper center", bbox_to_anchor=(0.5, -0.45 / height))
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def draw_curve(curve: Sequence[Mapping[str, Any]], headline: str) -> Figure:
    """Plot the learning curve with its intervals."""
    figure, axes = pyplot.subplots(figsize=(8, 2.6))
    curve = [point for point in curve if point["value"] is not None]
    sizes, values = [p["rows"] for p in curve], [100 * p["value"] for p in curve]
    axes.fill_between(
        sizes, [100 * p["low"] for p in curve], [100 * p["high"] for p in curve], color=COLORS[3], alpha=0.15
    )
    axes.plot(sizes, values, color=COLORS[3], marker="o")
    axes.set_xscale("log")
    axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
    axes.minorticks_off()
    axes.set_ylim(0, 102)
    axes.set_xlabel("training rows (each step about doubles them; band: 95% interval)")
    axes.set_ylabel(f"{headline}, %")
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def find_baseline(kind: str, choice: Mapping[str, Any]) -> Answer:
    """Return the baseline of the learning curve, with the settings that the contender of its kind chose, if any."""
    if kind == "linear":
        return partial(linear.fit_answer, setting=dict(choice) or None)
    return partial(nearest.fit_answer, **{key: choice[key] for key in ("similarity",) if key in choice})


if job := find_job(globals()):
    with logging_to(job.log[0]), TemporaryDirectory() as scratch:
        labels = base_of(job.params.task) in LABELS
        rows = list(read_records(job.input.train))
        task = load_task(job.params.task, job.params.headline)
        found = {
            **advise(
                task,
                job.params.models,
                [read_json(path) for path in job.input.metrics],
                read_json(job.input.details[0])["reference_points"][task.headline] if job.input.details else {},
                rows,
                sample(list(read_records(job.input.valid)), job.params.rows),
                find_baseline(job.params.baseline, read_json(job.input.choice) if job.input.get("choice") else {}),
            ),
            "curve_of": job.params.baseline,
            "noise": find_noise(rows, read_records(job.input.linked), job.params.by),
        }
        figures = {"contenders": draw_contenders(found)} if found["strongest"] else {}
        if len(found["curve"]) > 1 and found["curve"][-1]["n"]:
            figures["curve"] = draw_curve(found["curve"], task.headline)
        pictures = {}
        for name, figure in figures.items():
            save(figure, path := Path(scratch) / f"{name}.svg")
            pictures[name] = inline_svg(path)
        page = {
            **found,
            "run": job.params.run,
            "labels": labels,
            "descriptions": {model["name"]: describe(model) for model in job.params.models},
            "figures": pictures,
            "limits": {"enough": advice.ENOUGH, "fewest": advice.FEWEST_ROWS, "few": advice.FEW_ROWS},
        }
        write_json(job.output.advice, found)
        write_page(job.input.template, page, job.output.page)
        told = f"advice: {found['advice']}. {found['because']} {found['do']}"
        logging.info("%s", told)
        print(f"Gradus: {told} ({job.output.page})", file=sys.stderr)
