"""Compare the arms of an experiment over seeds and held-out rows.

In: the plan, and of each training its result, the losses of its held-out rows, its history, and grades of answers, if
some were made. Out: effects.json (every comparison of arms, docs/statistics.md says what each number is), learning
curves, exposures and times as CSV, the same as Markdown tables, and two figures.
"""

import csv
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from scripts.common.errors import GradusError
from scripts.common.experiment import MAIN, variants
from scripts.common.experiment_statistics import Comparison, compare_arms, six_digits
from scripts.common.io import atomic_open, read_json, read_jsonl, write_json
from scripts.common.job import find_job
from scripts.common.logs import logging_to
from scripts.common.statistics import holm
from scripts.experiment.show import draw_curves, draw_forest, tables
from scripts.tasks.table import load_task

LOSS = "loss"


@dataclass(frozen=True)
class Cell:
    """What is compared: a metric on the rows of a split, or of one of its levels, in one variant."""

    variant: str
    metric: str
    split: str
    level: str | None = None


def require_plan(plan: Mapping[str, Any], results: Sequence[Mapping[str, Any]]) -> None:
    """Raise GradusError if a training was made with another plan, or if the arms of a seed differ in their budget: in
    steps, or in tokens by more than the longest row.
    """
    for result in results:
        if result["plan"] != plan["hash"]:
            raise GradusError(
                f"{_name(result)} was trained with plan {result['plan'][:12]}, and this experiment has plan "
                f"{plan['hash'][:12]}. Results of two plans are not mixed: delete the folder of one of them"
            )
    by_seed: dict[tuple[str, int], list[Mapping[str, Any]]] = defaultdict(list)
    for result in results:
        by_seed[result["variant"], result["seed"]].append(result)
    for same in by_seed.values():
        for result in same[1:]:
            first = same[0]
            apart = abs(result["tokens"] - first["tokens"])
            if result["steps"] != first["steps"] or apart > first["longest_row"]:
                raise GradusError(
                    f"{_name(first)} and {_name(result)} had different budgets: {first['steps']} and {result['steps']} "
                    f"steps, {first['tokens']} and {result['tokens']} tokens. A difference would not be one of the "
                    "order. All arms must take the same steps, and the same tokens to within a row"
                )


def _name(result: Mapping[str, Any]) -> str:
    return f"{result['variant']}/{result['arm']}, seed {result['seed']}"


Values = dict[Cell, dict[str, dict[int, dict[str, float]]]]  # {cell: {arm: {seed: {row: value}}}}


def collect(
    results: Sequence[Mapping[str, Any]],
    losses: Sequence[Sequence[Mapping[str, Any]]],
    grades: Mapping[tuple[str, str, int], Sequence[Mapping[str, Any]]],
    headline: str,
) -> Values:
    """Return every value by cell, arm, seed and row: the loss in nats a token, and the headline metric where asked."""
    values: Values = defaultdict(lambda: defaultdict(lambda: defaultdict(dict)))

    def put(result: Mapping[str, Any], metric: str, row: Mapping[str, Any], value: float) -> None:
        for level in (None, row["level"]):
            cell = Cell(result["variant"], metric, row["split"], level)
            values[cell][result["arm"]][result["seed"]][row["id"]] = value

    for result, rows in zip(results, losses, strict=True):
        for row in rows:
            put(result, LOSS, row, row["loss"])
        known = {row["id"]: row for row in rows}
        for marks in grades.get((result["variant"], result["arm"], result["seed"]), ()):
            if headline in marks:
                put(result, headline, known[marks["id"]], marks[headline])
    return values


def reordered(definitions: Mapping[str, Mapping[str, Any]], arm: str) -> list[str]:
    """Return the arms that show the rows of `arm`, each as often, in another order: their definitions differ in `order`
    alone. `order: mixed` shuffles the phases' own rows, whatever else its arm says.
    """

    def rows(name: str) -> dict[str, Any]:
        definition = definitions[name]
        return {} if definition.get("order") == "mixed" else {k: v for k, v in definition.items() if k != "order"}

    return [name for name in definitions if name != arm and rows(name) == rows(arm)]


def compare(
    values: Values,
    experiment: Mapping[str, Any],
    clusters: Mapping[str, str],
    splits: Sequence[str],
    same_rows: Sequence[str] = (),
) -> list[dict[str, Any]]:
    """Return the comparisons of every arm with the control, and of the primary arm with those of `same_rows`; the
    primary comparison comes first. p of all others is corrected together (Holm).
    """
    control, made = experiment["control"], list[tuple[Cell, Comparison]]()

    def primary(cell: Cell, arm: str, other: str) -> bool:
        return cell == Cell(MAIN, LOSS, splits[0]) and (arm, other) == (experiment["primary"], control)

    for cell, table in values.items():
        pairs = [(arm, control) for arm in table if arm != control]
        pairs += [
            (experiment["primary"], other) for other in same_rows if other not in (control, experiment["primary"])
        ]
        for arm, other in pairs:
            if not {arm, other} <= table.keys() or len(table[other]) < 2:
                continue
            rows = next(iter(table[arm].values()))
            # a level of a split whose rows are one unit tells nothing; the primary comparison says so with an error
            units = {clusters.get(row) or row for row in rows}
            if len(units) < 2 and not primary(cell, arm, other):
                continue
            margin = experiment["margin"]
            higher = cell.metric != LOSS
            made.append((cell, compare_arms(table, arm, other, clusters, margin, higher_is_better=higher)))

    p = {
        str(place): found.p
        for place, (cell, found) in enumerate(made)
        if not primary(cell, found.arm, found.control) and found.p is not None
    }
    adjusted = holm(p)
    lines = []
    for place, (cell, found) in enumerate(made):
        found = replace(found, p_holm=adjusted.get(str(place)))
        lines.append({**vars(cell), "primary": primary(cell, found.arm, found.control), **found.to_dict()})
    return sorted(lines, key=lambda line: not line["primary"])


def arms_of(values: Values) -> Iterator[dict[str, Any]]:
    """Yield the mean and the spread over seeds of each arm."""
    for cell, table in values.items():
        for arm, by_seed in table.items():
            means = [float(np.mean(list(rows.values()))) for rows in by_seed.values()]
            yield {
                **vars(cell),
                "arm": arm,
                "seeds": len(means),
                "items": len(next(iter(by_seed.values()))),
                "value": six_digits(float(np.mean(means))),
                "seed_sd": six_digits(float(np.std(means, ddof=1))) if len(means) > 1 else None,
            }


def curve_lines(
    results: Sequence[Mapping[str, Any]], histories: Sequence[Sequence[Mapping[str, Any]]]
) -> Iterator[dict[str, Any]]:
    """Yield a line for each measurement of the validation loss, of each training."""
    for result, history in zip(results, histories, strict=True):
        for line in history:
            if "heldout_loss" in line:
                named = {key: result[key] for key in ("variant", "arm", "seed")}
                yield {**named, **{key: line[key] for key in ("step", "tokens", "heldout_loss")}}


def exposure_lines(results: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield how many rows of each level each phase of each training saw."""
    for result in results:
        for phase, spent in result["exposures"].items():
            for level, rows in spent["by_difficulty"].items():
                named = {key: result[key] for key in ("variant", "arm", "seed")}
                yield {**named, "phase": phase, "level": level, "rows": rows, "phase_tokens": spent["tokens"]}


def spent_lines(results: Sequence[Mapping[str, Any]], spent: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield the seconds of each training: all other files of the experiment are the same each time it is made."""
    for result, cost in zip(results, spent, strict=True):
        named = {key: result[key] for key in ("variant", "arm", "seed")}
        seconds = {"seconds": cost["this_attempt"], "imports_seconds": cost["imports"], "steps_seconds": cost["steps"]}
        yield {**named, **seconds, "cpu": cost["cpu"]}


def write_csv(path: str | Path, lines: Sequence[Mapping[str, Any]]) -> None:
    """Write lines with the same keys as CSV."""
    with atomic_open(path) as handle:
        writer = csv.DictWriter(handle, list(lines[0]) if lines else [], lineterminator="\n")
        writer.writeheader()
        writer.writerows(lines)


if job := find_job(globals()):
    with logging_to(job.log[0]):
        plan, experiment = read_json(job.input.plan), job.params.experiment
        results = [read_json(path) for path in job.input.results]
        require_plan(plan, results)
        losses = [list(read_jsonl(path)) for path in job.input.losses]
        histories = [list(read_jsonl(path)) for path in job.input.histories]
        answered: dict[tuple[str, str, int], list[Any]] = {}
        for path in job.input.grades:
            arm, seed = Path(path).parts[-3], int(Path(path).parts[-2].removeprefix("seed"))
            answered[MAIN, arm, seed] = list(read_jsonl(path))
        groups = {row["id"]: row["group"] for row in losses[0] if row["group"]}
        headline = job.params.headline or load_task(job.params.task).headline
        values = collect(results, losses, answered, headline)
        asked = [split for split in experiment["splits"] if any(row["split"] == split for row in losses[0])]
        same_rows = reordered(job.params.definitions, experiment["primary"])
        comparisons = compare(values, experiment, groups, asked, same_rows)
        curves, exposures = list(curve_lines(results, histories)), list(exposure_lines(results))
        effects = {
            "plan": plan["hash"],
            "question": experiment["question"],
            "command": job.params.command,
            "control": experiment["control"],
            "primary": next((line for line in comparisons if line["primary"]), None),
            "comparisons": comparisons,
            "arms": list(arms_of(values)),
            "trainings": [
                {key: result[key] for key in ("variant", "arm", "seed", "steps", "tokens", "heldout_loss")}
                for result in results
            ],
            "answered": sorted({seed for _, _, seed in answered}),
            "variants": variants(experiment),
            "left_out": experiment["left_out"],
        }
        write_json(job.output.effects, effects)
        write_csv(job.output.curves, curves)
        write_csv(job.output.exposures, exposures)
        write_csv(job.output.spent, list(spent_lines(results, [read_json(path) for path in job.input.spent])))
        with atomic_open(job.output.tables) as handle:
            handle.write(tables(effects, exposures, job.params.levels))
        draw_forest(comparisons, job.output.forest)
        draw_curves(curves, job.output.figure)
