"""`python -m scripts.bench.known_difficulty results/<run>`: what is known of rows that reasoning-gym made.

Prints tables of the `test` rows by task and level: how long they are, how often each model that has answered is right,
and the loss of an experiment's trainings; how every scorer correlates with the true level; and how level and
scorers correlate with what the experiment's models fail at. The answers and losses that exist are shown. docs/results/
has the commands that make them.
"""

import re
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
from scipy.stats import rankdata, spearmanr

from scripts.common.chat import read_contract
from scripts.common.experiment import MAIN
from scripts.common.io import read_jsonl
from scripts.common.records import Record, read_records
from scripts.common.tokens import TokenCounter
from scripts.evaluate.validity import correlation

SPLIT = "test"
Cell = tuple[str, int]  # task, level


def cell(record: Record) -> Cell:
    """Return a row's task, which its source begins with, and its level."""
    assert record.difficulty is not None
    return record.source.split("/")[0], record.difficulty


def ranks_within(values: Sequence[float], groups: Sequence[str]) -> list[float]:
    """Return each value's rank among those of its group, divided by the group's size: from 0 to 1, ties in the middle.

    Their correlation shows what holds inside the groups, whatever the differences between them.
    """
    numbers, places = np.asarray(values, dtype=float), np.asarray(groups)
    ranks = np.empty(len(numbers))
    for group in np.unique(places):
        inside = places == group
        ranks[inside] = (rankdata(numbers[inside]) - 0.5) / inside.sum()
    return ranks.tolist()


@dataclass(frozen=True)
class Correlations:
    """How a scorer goes with the true level, by Spearman's rank correlation; None where either is constant."""

    scorer: str
    n: int
    overall: dict[str, Any] | None  # with its interval
    within: dict[str, Any] | None  # within tasks, likewise
    tasks: dict[str, float | None]  # of each task alone


def rho(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Return Spearman's rank correlation; None if either is constant."""
    constant = len(set(first)) < 2 or len(set(second)) < 2
    return None if constant else float(spearmanr(first, second).statistic)


def correlations(rows: Sequence[Record], scores: Mapping[str, Mapping[str, float]]) -> Iterator[Correlations]:
    """Yield how each scorer goes with the level. `scores`: {id: {scorer: value}}."""
    for name in sorted({name for values in scores.values() for name in values}):
        has = [row for row in rows if name in scores.get(row.id, {})]
        values, levels = [scores[row.id][name] for row in has], [float(cell(row)[1]) for row in has]
        tasks = [cell(row)[0] for row in has]
        each = {}
        for task in sorted(set(tasks)):
            inside = [place for place, own in enumerate(tasks) if own == task]
            each[task] = rho([values[place] for place in inside], [levels[place] for place in inside])
        within = correlation(ranks_within(values, tasks), ranks_within(levels, tasks))
        yield Correlations(name, len(has), correlation(values, levels), within, each)


def right(record: Record, answer: str) -> tuple[bool, bool]:
    """Return whether an answer equals the row's response, and whether it contains it as whole words."""
    inside = re.search(rf"(?<![\w-]){re.escape(record.response)}(?!\w)", answer)
    return answer.strip() == record.response.strip(), inside is not None


def by_cell(rows: Sequence[Record], values: Mapping[str, float]) -> dict[Cell, float]:
    """Return the mean value of each task and level, of {id: value}."""
    found: dict[Cell, list[float]] = {}
    for row in rows:
        if row.id in values:
            found.setdefault(cell(row), []).append(values[row.id])
    return {place: mean(numbers) for place, numbers in found.items()}


def columns(run: Path, rows: Sequence[Record]) -> dict[str, dict[str, float]]:
    """Return {column: {id: value}} of the table by task and level: tokens, the base's loss, each model's answers."""
    found: dict[str, dict[str, float]] = {}
    counter = TokenCounter(run / "tokenizer", read_contract(run / "data/chat_contract.json"))
    found["tokens"] = {row.id: float(sum(both)) for row, both in zip(rows, counter.count(rows), strict=True)}
    losses = run / "train/base_loss.jsonl"
    if losses.exists():
        found["base's loss"] = {line["id"]: line["loss"] for line in read_jsonl(losses)}
    by_id = {row.id: row for row in rows}
    for path in sorted(run.glob(f"evaluate/*/*/{SPLIT}.answers.jsonl")):
        marks = {line["id"]: right(by_id[line["id"]], line["text"]) for line in read_jsonl(path)}
        model = f"{path.parts[-3]} {path.parts[-2]} ({len(marks)} rows)"
        found[f"{model}: right"] = {key: float(exact) for key, (exact, _) in marks.items()}
        found[f"{model}: contained"] = {key: float(inside) for key, (_, inside) in marks.items()}
    for arm in sorted({path.parent.name for path in run.glob(f"experiment/{MAIN}/*/seed*")}):
        found[f"{arm}: loss"] = over_trainings(run, arm, "losses", "loss")
        found[f"{arm}: right"] = over_trainings(run, arm, "grades", "exact")
    return {name: values for name, values in found.items() if values}


def failures(
    rows: Sequence[Record], scores: Mapping[str, Mapping[str, float]], outcomes: Mapping[str, Mapping[str, float]]
) -> Iterator[list[str]]:
    """Yield a line for the true level and each scorer: its correlation with each outcome within tasks. `outcomes`:
    {name: {id: value}}, larger if a row went worse.
    """
    levels = {row.id: float(cell(row)[1]) for row in rows}
    scorers = sorted({name for values in scores.values() for name in values})
    tables = {name: {key: values[name] for key, values in scores.items() if name in values} for name in scorers}
    for name, values in {"true level": levels, **tables}.items():
        line = [name]
        for outcome in outcomes.values():
            has = [row for row in rows if row.id in values and row.id in outcome]
            tasks = [cell(row)[0] for row in has]
            pairs = ([found[row.id] for row in has] for found in (values, outcome))
            line.append(with_interval(correlation(*(ranks_within(each, tasks) for each in pairs))))
        yield line


def over_trainings(run: Path, arm: str, file: str, field: str) -> dict[str, float]:
    """Return {id: mean of a field over the trainings of an experiment}, of an arm or, for `*`, of all; no variants."""
    found: dict[str, list[float]] = {}
    for path in sorted(run.glob(f"experiment/{MAIN}/{arm}/seed*/{file}.jsonl")):
        for line in read_jsonl(path):
            if line.get("split", SPLIT) == SPLIT and field in line:
                found.setdefault(line["id"], []).append(line[field])
    return {key: mean(values) for key, values in found.items()}


def table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown; the first column holds names, the others numbers."""
    rows = [head, ["---", *["--:"] * (len(head) - 1)], *lines]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def decimal(value: float | None) -> str:
    """Return a number as text."""
    return "–" if value is None else f"{value:.2f}"


def with_interval(value: Mapping[str, Any] | None) -> str:
    """Return a correlation and its 95% interval as text."""
    return "–" if value is None else f"{value['rho']:.2f} ({value['low']:.2f} to {value['high']:.2f})"


def main(arguments: Sequence[str]) -> None:
    """Print the tables of a run's folder."""
    if len(arguments) != 1 or not (run := Path(arguments[0])).is_dir():
        raise SystemExit("usage: python -m scripts.bench.known_difficulty results/<run>")
    rows = list(read_records(run / f"curriculum/{SPLIT}.jsonl"))
    found = {name: by_cell(rows, values) for name, values in columns(run, rows).items()}
    sizes = Counter(map(cell, rows))
    lines = [
        [f"{place[0]}, level {place[1]}", str(sizes[place]), *(decimal(values.get(place)) for values in found.values())]
        for place in sorted(sizes)
    ]
    print(table(["task", "n", *found], lines), end="\n\n")
    scores = {line["id"]: line["scores"] for line in read_jsonl(run / "curriculum/scores.jsonl")}
    tasks = sorted({task for task, _ in sizes})
    lines = [
        [
            one.scorer,
            str(one.n),
            with_interval(one.overall),
            with_interval(one.within),
            *map(decimal, one.tasks.values()),
        ]
        for one in correlations(rows, scores)
    ]
    print(table(["scorer", "n", "all rows", "within tasks", *tasks], lines))
    wrong = {key: 1 - share for key, share in over_trainings(run, "*", "grades", "exact").items()}
    outcomes = {"loss after training": over_trainings(run, "*", "losses", "loss"), "wrong after training": wrong}
    if outcomes := {name: values for name, values in outcomes.items() if values}:
        print("\n" + table(["within tasks, correlation with", *outcomes], list(failures(rows, scores, outcomes))))


if __name__ == "__main__":
    main(sys.argv[1:])
