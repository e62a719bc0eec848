"""The report's tables as CSV and LaTeX files, from the same values as the page.

In CSV, values are as they were computed: shares from 0 to 1, empty cells for what is not known; an interval has two
columns. In LaTeX they are rounded as on the page; a file is one `tabular` with the rules of the package `booktabs`.
"""

import csv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tabulate import tabulate

from scripts.common.html import decimals, general, interval, percent, points
from scripts.common.io import atomic_path

Row = Mapping[str, Any]


def text(value: Any) -> str:
    """Return a value on one line, or a dash for None."""
    named = {None: "–", True: "yes", False: "no"}
    return named[value] if value is None or isinstance(value, bool) else " ".join(str(value).split())


def places(count: int, factor: float = 1) -> Callable[[float | None], str]:
    """Return a function that shows `factor` times a number with `count` decimal places."""
    return lambda value: decimals(None if value is None else factor * value, count)


def point_interval(bounds: Sequence[float] | None) -> str:
    """Return [low, high], differences of two shares, in percentage points, or a dash for None."""
    return "–" if bounds is None else f"{points(bounds[0])} to {points(bounds[1])}"


def number_interval(bounds: Sequence[float] | None) -> str:
    """Return [low, high] with four significant digits, or a dash for None."""
    return "–" if bounds is None else f"{bounds[0]:.4g} to {bounds[1]:.4g}"


@dataclass(frozen=True)
class Column:
    """`name`: its key in the rows, and its name in CSV; `heading` and `show`, of values: for LaTeX. `pair`: the values
    are intervals, [low, high].
    """

    name: str
    heading: str
    show: Callable[[Any], str] = text
    pair: bool = False


@dataclass(frozen=True)
class Table:
    """`caption` says what the rows are."""

    caption: str
    columns: Sequence[Column]
    rows: Sequence[Row]


def as_csv_rows(table: Table) -> list[list[Any]]:
    """Return the header and the rows of a table for a CSV file."""
    header: list[Any] = []
    for column in table.columns:
        header += [f"{column.name}_low", f"{column.name}_high"] if column.pair else [column.name]
    rows = [header]
    for row in table.rows:
        cells: list[Any] = []
        for column in table.columns:
            value = row.get(column.name)
            cells += list(value or (None, None)) if column.pair else [value]
        rows.append(cells)
    return rows


def as_latex(table: Table) -> str:
    """Return a table as LaTeX, its texts escaped."""
    shown = [[column.show(row.get(column.name)) for column in table.columns] for row in table.rows]
    body = tabulate(
        shown,
        [column.heading for column in table.columns],
        tablefmt="latex_booktabs",
        disable_numparse=True,
        colalign=["left" if column.show is text else "right" for column in table.columns] if shown else None,
    )
    # a percent sign begins a comment
    return f"% {' '.join(table.caption.split())}\n% needs \\usepackage{{booktabs}}\n{body}\n"


def write_tables(tables: Mapping[str, Table], folder: Path) -> None:
    """Write a folder with <name>.csv and <name>.tex of each table."""
    with atomic_path(folder) as part:
        part.mkdir()
        for name, table in tables.items():
            with (part / f"{name}.csv").open("w", encoding="utf-8", newline="") as handle:
                csv.writer(handle, lineterminator="\n").writerows(as_csv_rows(table))
            (part / f"{name}.tex").write_text(as_latex(table), encoding="utf-8")


def from_blocks(blocks: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows of groups of models, each with its `group`."""
    return [{**row, "group": block["group"]} for block in blocks for row in block["rows"]]


def side_by_side(models: Mapping[str, Any]) -> dict[str, Table]:
    """Return the models side by side, and the served one against each other one, for each split."""
    tables, headline = {}, models["headline"]
    for found in models["splits"]:
        split, names = found["split"], found["metrics"]
        metrics = [
            column
            for name in names
            for column in (Column(name, name, percent), Column(f"{name}_interval", "95% interval", interval, True))
        ]
        rows = []
        for row in from_blocks(found["blocks"]):
            cells = dict(zip(names, row["cells"], strict=True))
            values = {name: cell["value"] for name, cell in cells.items()}
            rows.append({**row, **values, **{f"{name}_interval": cell["interval"] for name, cell in cells.items()}})
        rows += [{"model": p["label"], **dict(zip(names, p["values"], strict=True))} for p in found["points"]]
        tables[f"models-{split}"] = Table(
            f"The models side by side on {split}, and reference points that are no models.",
            [
                Column("model", "model"),
                Column("what", "what it is"),
                Column("group", "group"),
                *metrics,
                Column("n", "n"),
            ],
            rows,
        )
        if found["more"]:
            every = [
                {**row, **pair, "group": block["group"], "metric": pair["name"]}
                for block in found["more"]
                for row in block["rows"]
                for pair in row["metrics"]
            ]
            tables[f"against-first-{split}"] = Table(
                f"Each model against {models['first']} on {split}, by every metric, on the rows that both answered.",
                [
                    Column("model", "model"),
                    Column("group", "group"),
                    Column("metric", "metric"),
                    Column("first_value", models["first"], percent),
                    Column("value", "the model", percent),
                    Column("interval", "95% interval", interval, True),
                    Column("difference", "difference, points", points),
                    Column("difference_interval", "95% interval", point_interval, True),
                    Column("p", "p", general),
                    Column("n", "n"),
                ],
                every,
            )
        if found["over_seeds"]:
            tables[f"over-seeds-{split}"] = Table(
                f"Ways of training against each other on {split}, by {headline}, paired by seed and row.",
                [
                    Column("arm", "way"),
                    Column("control", "against"),
                    Column("seeds", "seeds"),
                    Column("items", "rows"),
                    Column("control_value", "the other", percent),
                    Column("value", "the way", percent),
                    Column("difference", "difference, points", points),
                    Column("interval", "95% interval", point_interval, True),
                    Column("p", "p", general),
                    Column("seed_sd", "seed SD", places(4)),
                ],
                found["over_seeds"],
            )
        if found["against"]:
            tables[f"against-{split}"] = Table(
                f"{models['served']} against each other model on {split}, by {headline}.",
                [
                    Column("model", "against"),
                    Column("group", "group"),
                    Column("first_value", "the other", percent),
                    Column("value", models["served"], percent),
                    Column("difference", "difference, points", points),
                    Column("difference_interval", "95% interval", point_interval, True),
                    Column("only_first", "only the other right"),
                    Column("only_other", f"only {models['served']} right"),
                    Column("p", "p", general),
                    Column("p_holm", "p (Holm)", general),
                    Column("n", "n"),
                    Column("outcome", f"{models['served']} is"),
                ],
                from_blocks(found["against"]),
            )
    return tables


def fidelity(gates: Mapping[str, Any], quants: Mapping[str, Any]) -> dict[str, Table]:
    """Return the gates, and the quants of the served model."""
    shown = [{**row, "quant": row["label"], **row["speed"]} for row in quants["rows"]]
    worse, better = ("right to wrong", "wrong to right") if quants["binary"] else ("rows worse", "rows better")
    return {
        "gates": Table(
            "Is the served model the trained model? What each gate measured, and what it demands.",
            [
                Column("step", "step"),
                Column("name", "gate"),
                Column("meaning", "what it says"),
                Column("model", "model"),
                Column("value", "measured", general),
                Column("bound", "required"),
                Column("threshold", "threshold", general),
                Column("passed", "passed"),
                Column("skipped", "why not measured"),
            ],
            gates["rows"],
        ),
        "quants": Table(
            f"Quantizations of {quants['model']}; {quants['metric']} on {quants['split']}, n = {quants['n']}.",
            [
                Column("quant", "quant"),
                Column("served", "served"),
                Column("bytes", "MB", places(0, 1e-6)),
                Column("bits_per_weight", "bits a weight", general),
                Column("perplexity", "perplexity", places(4)),
                Column("mean_kl", "mean KL", places(5)),
                Column("top1_agreement", "same first choice", percent),
                Column("value", quants["metric"], percent),
                Column("delta", "against bf16", points),
                Column("worse", worse),
                Column("better", better),
                Column("stopped", "stopped", percent),
                Column("prompt_tokens_per_s", "prompt tokens/s", places(0)),
                Column("tokens_per_s", "answer tokens/s", places(0)),
            ],
            shown,
        ),
    }


def forgetting(outside: Mapping[str, Any]) -> dict[str, Table]:
    """Return what the models still know outside the task: questions, and perplexity."""
    rows = from_blocks(outside["blocks"])
    return {
        "forgetting": Table(
            f"Questions outside the task: each model against {outside['base']}.",
            [
                Column("model", "model"),
                Column("what", "what"),
                Column("counts", "counts"),
                Column("n", "n"),
                Column("base_value", outside["base"], percent),
                Column("value", "right", percent),
                Column("interval", "95% interval", interval, True),
                Column("difference", "difference, points", points),
                Column("difference_interval", "95% interval", point_interval, True),
                Column("only_base", f"only {outside['base']} right"),
                Column("only_model", "only the model right"),
                Column("p", "p", general),
                Column("p_holm", "p (Holm)", general),
            ],
            [{"model": row["model"], **pair} for row in rows for pair in row["pairs"]],
        ),
        "forgetting-perplexity": Table(
            f"Perplexity on general text: each model against {outside['base']}.",
            [
                Column("model", "model"),
                Column("base_value", outside["base"], places(2)),
                Column("value", "perplexity", places(2)),
                Column("ratio", "ratio", places(3)),
                Column("ratio_interval", "95% interval", number_interval, True),
            ],
            [{"model": row["model"], **row["perplexity"]} for row in rows],
        ),
    }


def cost(found: Mapping[str, Any]) -> dict[str, Table]:
    """Return what the stages took, and each job."""
    memory = Column("peak_gib", "peak memory, GiB", places(2))
    return {
        "cost": Table(
            "What each stage took.",
            [
                Column("stage", "stage"),
                Column("jobs", "jobs"),
                Column("minutes", "minutes", places(1)),
                Column("busy_minutes", "minutes at work", places(1)),
                Column("cpu_minutes", "processor minutes", places(1)),
                memory,
                Column("wh", "Wh", places(2)),
            ],
            found["stages"],
        ),
        "cost-jobs": Table(
            f"What each job took; starts are in seconds after {found['began']}.",
            [
                Column("stage", "stage"),
                Column("rule", "rule"),
                Column("job", "job"),
                Column("start", "start, s", places(1)),
                Column("seconds", "seconds", places(1)),
                Column("cpu_seconds", "processor seconds", places(1)),
                memory,
                Column("wh", "Wh", places(3)),
            ],
            found["jobs"],
        ),
    }


def experiment(effects: Mapping[str, Any]) -> dict[str, Table]:
    """Return the comparisons of an experiment, the primary one first, if there is one, and the means of its arms."""
    number = places(4)
    primary = [{**effects["primary"], "primary": True}] if effects["primary"] else []
    rows = [*primary, *(found for found in effects["comparisons"] if not found.get("primary"))]
    where = [Column("metric", "metric"), Column("split", "split"), Column("level", "level")]
    counts = [Column("seeds", "seeds"), Column("items", "rows")]
    return {
        "experiment-comparisons": Table(
            f"Comparisons of arms, paired by seed and row; the plan's hash is {effects['plan']}.",
            [
                Column("primary", "primary"),
                Column("variant", "variant"),
                Column("arm", "arm"),
                Column("control", "control"),
                *where,
                *counts,
                Column("value", "arm's mean", number),
                Column("control_value", "control's mean", number),
                Column("difference", "difference", number),
                Column("interval", "95% interval", number_interval, True),
                Column("p", "p", general),
                Column("p_holm", "p (Holm)", general),
                Column("margin", "margin", general),
                Column("equivalent", "equivalent"),
                Column("seed_sd", "seed SD", number),
                Column("minimum_detectable_effect", "detectable", number),
                Column("seeds_needed", "seeds needed"),
                Column("items_needed", "rows needed"),
            ],
            rows,
        ),
        "experiment-arms": Table(
            "Mean of each arm over seeds and rows.",
            [
                Column("variant", "variant"),
                Column("arm", "arm"),
                *where,
                *counts,
                Column("value", "mean", number),
                Column("seed_sd", "seed SD", number),
            ],
            effects["arms"],
        ),
    }


def details(shown: Sequence[Row]) -> dict[str, Table]:
    """Return the right answers by field, or the confusion matrix, one row for each pair of labels."""
    where = [Column("model", "model"), Column("split", "split")]
    fields = [{**table, **row} for table in shown if table["kind"] == "fields" for row in table["fields"]]
    pairs = [
        {**table, "label": row["label"], "answered": answered, "count": count}
        for table in shown
        if table["kind"] == "matrix"
        for row in table["rows"]
        for answered, count in zip([*table["labels"], "(other)"], row["counts"], strict=True)
    ]
    tables = {}
    if fields:
        counts = [Column("wanted", "wanted"), Column("right", "right"), Column("share", "share right", percent)]
        columns = [*where, Column("field", "field"), *counts, Column("invented", "invented")]
        tables["fields"] = Table("Right answers by field.", columns, fields)
    if pairs:
        columns = [*where, Column("label", "right label"), Column("answered", "answered"), Column("count", "rows")]
        tables["confusion"] = Table("Answered label by right label.", columns, pairs)
    return tables


def shipping(merges: Sequence[Row], stopping: Sequence[Row]) -> dict[str, Table]:
    """Return what merging changed, and how many answers ended by themselves."""
    return {
        "merges": Table(
            "How far each merged model is from its live adapter, and from what it was trained with; KL in nats.",
            [
                Column("model", "model"),
                Column("compared", "compared"),
                Column("tokens", "answer tokens"),
                Column("mean_kl", "mean KL", places(6)),
                Column("p99_kl", "99% of tokens", places(4)),
                Column("max_kl", "largest", places(4)),
                Column("top1_agreement", "same first choice", percent),
                Column("reference_perplexity", "perplexity before", places(4)),
                Column("perplexity", "perplexity after", places(4)),
            ],
            from_blocks(merges),
        ),
        "stopping": Table(
            "Answers that ended by themselves.",
            [
                Column("model", "model"),
                Column("quant", "quant"),
                Column("split", "split"),
                Column("n", "answers"),
                Column("share", "ended by themselves", percent),
            ],
            from_blocks(stopping),
        ),
    }


def trainings(arms: Mapping[str, Any], training: Mapping[str, Any]) -> dict[str, Table]:
    """Return what each training was shown by phase, and how each phase went; phase `all`: the sums."""

    def by_phase(found: Mapping[str, Any]) -> list[dict[str, Any]]:
        return [row for each in found["trainings"] for row in (*each["phases"], each["total"])]

    named = [Column("training", "training"), Column("phase", "phase"), Column("rows", "rows")]
    levels = arms["levels"]
    return {
        "exposures": Table(
            "What each training was shown.",
            [
                *named,
                Column("distinct_rows", "distinct rows"),
                Column("steps", "steps"),
                Column("tokens", "tokens"),
                *(Column(f"level {level}", level) for level in levels),
            ],
            [
                {**row, **{f"level {name}": n for name, n in zip(levels, row["levels"], strict=True)}}
                for row in by_phase(arms)
            ],
        ),
        "training": Table(
            "How each training went.",
            [
                *named,
                Column("steps", "steps"),
                Column("tokens", "tokens"),
                Column("heldout_loss", "held-out loss", places(4)),
                Column("seconds", "seconds", places(1)),
                Column("tokens_per_s", "tokens/s", places(1)),
            ],
            by_phase(training),
        ),
    }


def preference(found: Mapping[str, Any]) -> dict[str, Table]:
    """Return the models before and after preference tuning, and how its phases went."""
    return {
        "preference_models": Table(
            f"Models before and after preference tuning, on {found['split']}.",
            [
                Column("model", "model"),
                Column("phase", "after"),
                Column("value", found["metric"], percent),
                Column("n", "n"),
                Column("tokens", "tokens an answer", places(1)),
            ],
            found["models"],
        ),
        "preference": Table(
            "How each phase of preference tuning went.",
            [
                Column("training", "training"),
                Column("method", "method"),
                Column("kept", "pairs"),
                Column("own", "own pairs"),
                Column("sampled", "pairs from the model"),
                Column("too_hard", "too hard"),
                Column("rows_asked", "rows asked"),
                Column("all_right", "all answers right"),
                Column("all_wrong", "all wrong"),
                Column("chosen_tokens", "tokens of right answers", places(1)),
                Column("rejected_tokens", "tokens of wrong answers", places(1)),
                Column("accuracy", "right answer ahead", percent),
                Column("margin", "margin", places(3)),
                Column("chosen_reward", "reward of right answers", places(3)),
                Column("heldout_before", "held-out loss before", places(4)),
                Column("heldout_loss", "held-out loss", places(4)),
            ],
            [
                {**row, **{f"{name}_tokens": count for name, count in row["mean_tokens"].items()}}
                for row in found["phases"]
            ],
        ),
    }


def rows_in(data: Mapping[str, Any], difficulty: Mapping[str, Any]) -> dict[str, Table]:
    """Return what became of the rows, and how the scorers of difficulty go with failures, as the page words it."""
    names = [f"failures of {name}" for name in difficulty["columns"]]
    return {
        "rows": Table("What became of the rows.", [Column("label", "rows"), Column("value", "count")], data["rows"]),
        "scorers": Table(
            "Rank correlation of each scorer with failures, and with length.",
            [
                Column("name", "scorer"),
                Column("n", "n"),
                *(Column(name, name) for name in names),
                Column("length", "length"),
            ],
            [{**row, **dict(zip(names, row["failures"], strict=True))} for row in difficulty["scorers"]],
        ),
    }


def speed(sizes: Sequence[Row], answering: Mapping[str, Any], apis: Sequence[Row]) -> dict[str, Table]:
    """Return the files' sizes, how fast models answered, and what is known of models behind an API."""
    tables = {
        "sizes": Table(
            "Sizes of the files.",
            [
                Column("model", "model"),
                Column("path", "file"),
                Column("bytes", "MB", places(0, 1e-6)),
                Column("bits_per_weight", "bits a weight", general),
            ],
            from_blocks(sizes),
        ),
        "answering": Table(
            "Speed of answering.",
            [
                Column("model", "model"),
                Column("split", "split"),
                Column("rows", "rows"),
                Column("prompt_tokens", "prompt tokens"),
                Column("tokens", "answer tokens"),
                Column("seconds", "seconds", general),
                Column("seconds_per_row", "seconds a row", places(3)),
                Column("tokens_per_s", "answer tokens/s", general),
                Column("cost", "cost", general),
            ],
            from_blocks(answering["blocks"]),
        ),
    }
    if apis:
        tables["apis"] = Table(
            "Models behind an API.",
            [
                Column("model", "model"),
                Column("split", "split"),
                Column("url", "address"),
                Column("asked_for", "model's name"),
                Column("reported", "what the server calls it"),
                Column("parameters", "parameters"),
                Column("cached", "kept answers"),
                Column("rows", "rows"),
                Column("cost", "cost", general),
            ],
            apis,
        )
    return tables


def judged(found: Mapping[str, Any]) -> dict[str, Table]:
    """Return what a judge said of answers, and of pairs of answers."""
    answers = [
        {**row, "share": row["pass"]["value"], "share_interval": row["pass"]["interval"]}
        for row in from_blocks(found["blocks"])
    ]
    return {
        "judge-answers": Table(
            f"Answers judged by {found['name']}: an opinion, not a measurement.",
            [
                Column("model", "model"),
                Column("split", "split"),
                Column("faithfulness", "faithfulness, 1 to 5", places(2)),
                Column("faithfulness_interval", "95% interval", number_interval, True),
                Column("share", "pass", percent),
                Column("share_interval", "95% interval", interval, True),
                Column("n", "n"),
                Column("unread", "unreadable"),
            ],
            answers,
        ),
        "judge-pairs": Table(
            f"Pairs of answers judged by {found['name']}: an opinion, not a measurement.",
            [
                Column("a", "the first"),
                Column("b", "the second"),
                Column("split", "split"),
                Column("wins", "better"),
                Column("ties", "tie"),
                Column("losses", "worse"),
                Column("win_rate", "win rate of the first", percent),
                Column("interval", "95% interval", interval, True),
                Column("p", "p", general),
                Column("p_holm", "p (Holm)", general),
                Column("inconsistent", "depends on the order"),
                Column("left_out", "left out"),
            ],
            found["pairs"],
        ),
    }


def rated(found: Mapping[str, Any]) -> dict[str, Table]:
    """Return what people preferred, and which answers they accept."""
    share = [Column("share", "share", percent), Column("interval", "95% interval", interval, True)]
    return {
        "rating-pairs": Table(
            "What people prefer, without knowing whose the answers are; a tie is half.",
            [
                Column("a", "a"),
                Column("b", "b"),
                Column("split", "split"),
                *share,
                Column("a_preferred", "a better"),
                Column("ties", "tie"),
                Column("b_preferred", "b better"),
                Column("n", "pairs"),
                Column("p", "p", general),
                Column("p_holm", "p (Holm)", general),
                Column("preferred", "preferred"),
            ],
            found["comparisons"],
        ),
        "rating-accepted": Table(
            "Answers that people accept.",
            [Column("model", "model"), Column("split", "split"), *share, Column("n", "n")],
            found["passes"],
        ),
    }


def all_tables(page: Mapping[str, Any], effects: Mapping[str, Any] | None = None) -> dict[str, Table]:
    """Return {name: table} of the report. `page`: what its template prints; `effects`: an experiment's effects.json."""
    return {
        **side_by_side(page["models"]),
        **fidelity(page["gates"], page["quants"]),
        **details(page["details"]),
        **shipping(page["merges"], page["stopping"]),
        **(forgetting(page["outside"]) if page["outside"] else {}),
        **trainings(page["arms"], page["training"]),
        **(preference(page["preference"]) if page["preference"] else {}),
        **rows_in(page["data"], page["difficulty"]),
        **speed(page["sizes"], page["answering"], page["apis"]),
        **(judged(page["judge"]) if page["judge"] else {}),
        **(rated(page["rating"]) if page["rating"] else {}),
        **cost(page["cost"]),
        **(experiment(effects) if effects else {}),
    }
