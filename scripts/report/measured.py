"""`python -m scripts.report.measured [results/<run>]`: the figures of a finished run, as Markdown.

In: a run's folder. Out, on the terminal: the sections of `SECTIONS`, in their order. `scripts/report/results.py` puts
the same sections into README and docs/.
"""

import csv
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml

from scripts.common.comparison import Metrics, Models, asked_splits, row_count, row_counts
from scripts.common.errors import GradusError
from scripts.common.hashing import ROOT
from scripts.common.html import decimals, general, interval, percent, points
from scripts.common.io import read_json
from scripts.common.models import resolve
from scripts.common.records import SPLITS
from scripts.report.layout import in_order, quant_label, shown_metrics, what_is


def table(head: Sequence[str], rows: Iterable[Sequence[str]], left: int = 1) -> list[str]:
    """Return the lines of a Markdown table. The first `left` columns are text, the others numbers."""
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * left + "--:|" * (len(head) - left)]
    return lines + [f"| {' | '.join(row)} |" for row in rows]


def models_of(run: Path) -> Models:
    """Return the models of a run, as its resolved config names them."""
    config = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))
    return [model.describe() for model in resolve(config["models"]).values()]


def verdict(run: Path) -> list[str]:
    """Return the verdict and its reasons."""
    told = read_json(run / "verdict.json")
    order = [told["order"]["reason"]] if "order" in told else []
    return [line for each in (told["sentence"], *told["reasons"], *order) for line in (each, "")][:-1]


def summary(run: Path) -> list[str]:
    """Return the table of the first split, best model first, with the main metric's intervals, and the verdict. It has
    a column of rows if the models were not all asked the same number.
    """
    models, metrics, comparison = models_of(run), read_json(run / "metrics.json"), read_json(run / "comparison.json")
    split = asked_splits(metrics, SPLITS)[0]
    headline, *others = shown_metrics(metrics, [split], comparison["headline"])
    told = read_json(run / "verdict.json")
    rows = []
    for model in sorted(in_order(models), key=lambda model: -(metrics[model["name"]][split][headline]["value"] or 0)):
        name, values = model["name"], metrics[model["name"]][split]
        bounds = comparison["intervals"][name][split][headline]
        rows.append(
            [f"**{name}**" if name == told["served"] else name, what_is(model)]
            + [percent(values[headline]["value"]), bare(bounds)]
            + [percent(values[metric]["value"]) for metric in others]
            + asked_rows(metrics, split, str(row_count(values)))
        )
    head = [f"{split}, {row_counts(metrics, split)} rows", "what it is", headline, "95% interval", *others]
    head += asked_rows(metrics, split, "n")
    return [*table(head, rows, left=2), "", f"**{told['sentence']}**"]


def asked_rows(metrics: Metrics, split: str, cell: str) -> list[str]:
    """Return the cell of a column of row counts; nothing if all models were asked the same number of rows."""
    return [cell] if len({row_count(values[split]) for values in metrics.values()}) > 1 else []


def bare(bounds: Sequence[float] | None) -> str:
    """Return an interval of shares for a column of its own."""
    return "–" if bounds is None else f"{100 * bounds[0]:.1f} to {100 * bounds[1]:.1f}"


def quality(run: Path, models: Models) -> list[str]:
    """Return the report's first lines; of each split that was asked a table with a row for each model and the intervals
    of its values; below it the served model against each other one.
    """
    return [*verdict(run), "", *splits(run, models)]


def splits(run: Path, models: Models | None = None) -> list[str]:
    """Return the tables of `quality`."""
    models = models_of(run) if models is None else models
    metrics, comparison = read_json(run / "metrics.json"), read_json(run / "comparison.json")
    served, headline = comparison["served"], comparison["headline"]
    lists = [model["name"] for model in models if any(map(_is_list, model["options"].get("examples", {}).values()))]
    chosen = {name: read_json(run / "evaluate" / name / "examples.json") for name in lists}
    lines: list[str] = []
    for split in asked_splits(metrics, SPLITS):
        names = shown_metrics(metrics, [split], headline)
        rows = []
        for model in in_order(models):
            name = model["name"]
            values, bounds = metrics[name][split], comparison["intervals"][name][split]
            cells = [_cell(values[metric]["value"], bounds[metric]) for metric in names]
            n = asked_rows(metrics, split, str(row_count(values)))
            rows.append([name, what_is(model, chosen.get(name)), *cells, *n])
        head = [f"{split} ({row_counts(metrics, split)})", "what it is", *names, *asked_rows(metrics, split, "n")]
        lines += [*table(head, rows, left=2), ""]
        lines += [*against(served, split, headline), *of_ways(comparison["over_seeds"], split), ""]
    return lines[:-1]


def _is_list(value: Any) -> bool:
    return isinstance(value, list)


def _cell(value: float | None, bounds: Sequence[float] | None) -> str:
    return percent(value) if bounds is None else f"{percent(value)} ({interval(bounds)})"


def of_ways(over_seeds: Sequence[Mapping[str, Any]], split: str) -> list[str]:
    """Return a line for each way of training that is compared with the first, over seeds and rows."""
    lines = []
    for pair in over_seeds:
        if pair["split"] == split:
            low, high = pair["interval"] or (None, None)
            lines.append(
                f"- {split}, {pair['metric']}, {pair['seeds']} seeds × {pair['items']} rows: {pair['arm']} "
                f"{percent(pair['value'])} against {pair['control']} {percent(pair['control_value'])}, difference "
                f"{points(pair['difference'])} points (95% interval {points(low)} to {points(high)}), "
                f"p = {general(pair['p'])}"
            )
    return lines


def against(served: Mapping[str, Any], split: str, headline: str) -> list[str]:
    """Return a line for each other model: the difference of the served one with its interval, and p."""
    lines = []
    for name, by_split in served["models"].items():
        pair = by_split[split][headline]
        if pair["n"]:
            low, high = pair["difference_interval"] or (None, None)
            only = f"right alone {pair['only_other']} to {pair['only_first']}, " if "only_other" in pair else ""
            lines.append(
                f"- {split}, {headline}: {served['model']} {percent(pair['value'])} against {name} "
                f"{percent(pair['first_value'])}, difference {points(pair['difference'])} points (95% interval "
                f"{points(low)} to {points(high)}), {only}p = {general(pair['p'])}, {general(pair['p_holm'])} after "
                "Holm's correction"
            )
    return lines


def advice(run: Path) -> list[str]:
    """Return the table that the advice before training rests on."""
    told = read_json(run / "advice.json")
    rows = [
        [row["model"], percent(row["value"]), bare(None if row["value"] is None else (row["low"], row["high"]))]
        for row in sorted(told["contenders"], key=lambda row: -(row["value"] or 0))
    ]
    asked = max((row["n"] for row in told["contenders"]), default=0)
    head = [f"validation rows ({asked})", told["headline"], "95% interval"]
    return [f"Advice: *{told['advice']}*, of {told['rows']} training rows. {told['because']}", "", *table(head, rows)]


def difficulty(run: Path) -> list[str]:
    """Return the table of rank correlations between the scorers and the models' failures."""
    found = read_json(run / "validity.json")
    models = list(next(iter(found["scorers"].values()))["failures"])
    if not any(scorer["failures"].get(model) for scorer in found["scorers"].values() for model in models):
        return ["No scorer can be judged: every row has the same difficulty, or fails."]
    rows = [
        [
            name,
            *(
                f"{pair['rho']:.2f} ({pair['low']:.2f} to {pair['high']:.2f})" if pair else "–"
                for pair in (scorer["failures"].get(model) for model in models)
            ),
        ]
        for name, scorer in found["scorers"].items()
    ]
    asked = {
        model: max((pair["n"] for one in found["scorers"].values() if (pair := one["failures"].get(model))), default=0)
        for model in models
    }
    fewer = {model: f"{model} ({n} rows)" if 0 < n < found["rows"] else model for model, n in asked.items()}
    return table([f"rank correlation with failures ({found['rows']} rows)", *fewer.values()], rows)


def forgetting(run: Path) -> list[str]:
    """Return the table of what the models still know outside the task."""
    found = read_json(run / "forgetting.json")
    if f"results/{run.name}/forgetting.json" not in read_json(run / "manifest.json")["artifacts"]:
        raise GradusError(f"{run}/forgetting.json is left from an earlier run; this one has not asked")
    rows = []
    for name, model in found["models"].items():
        of = f"{name}: " if len(found["models"]) > 1 else ""
        for kind, pair in model["kinds"].items():
            base = found["kinds"][kind]
            left_out = "" if base["counts"] else " (left out: the base hardly beats chance)"
            holm = "" if pair["p_holm"] is None else general(pair["p_holm"])
            difference = f"{points(pair['difference'])}{in_points(pair['difference_interval'])}"
            values = [str(pair["n"]), percent(base["value"]), percent(base["chance"]), percent(pair["value"])]
            rows.append([f"{of}{kind}{left_out}", *values, difference, holm])
        if pair := model["overall"]:
            difference = f"{points(pair['difference'])}{in_points(pair['difference_interval'])}"
            shares = [str(pair["n"]), percent(pair["base_value"]), "", percent(pair["value"])]
            rows.append([f"{of}all that count", *shares, difference, ""])
        text = model["perplexity"]
        ratio = f"times {text['ratio']:.2f} ({text['ratio_interval'][0]:.2f} to {text['ratio_interval'][1]:.2f})"
        numbers = ["", f"{text['base_value']:.1f}", "", f"{text['value']:.1f}"]
        rows.append([f"{of}perplexity of general text", *numbers, ratio, ""])
    head = ["outside the task", "questions", "base", "chance", "after training", "difference in points, 95% interval"]
    return table([*head, "p (Holm)"], rows)


def in_points(bounds: Sequence[float] | None) -> str:
    """Return an interval in points, in brackets; nothing if there is none."""
    return "" if bounds is None else f" ({points(bounds[0])} to {points(bounds[1])})"


def training(run: Path) -> list[str]:
    """Return the table of the phases of each training."""
    summaries = [(path.parts[-4:-1], read_json(path)) for path in run.glob("train/*/*/*/summary.json")]
    if not summaries:
        raise GradusError(f"{run}/train: no phase has been trained")
    rows = []
    for (arm, seed, phase), s in sorted(summaries, key=lambda each: (each[0][:2], each[1]["tokens"], each[0])):
        seconds = s["seconds"]
        rows.append(
            [f"{arm}, {seed.replace('seed', 'seed ')}", phase, str(s["rows"]), f"{s['tokens']:,}"]
            + [str(seconds["steps"]), str(s["tokens_per_s"]), decimals(s["heldout_loss"], 3)]
            + [str(seconds[part]) for part in ("imports", "tokenization", "model")]
        )
    head = ["training", "phase", "rows", "tokens", "seconds", "tokens/s", "held-out loss after it"]
    return table([*head, "imports (s)", "tokenization (s)", "model (s)"], rows, left=2)


def answering(run: Path) -> list[str]:
    """Return the table of what answering took, one row for each model, form and split."""
    rows, notes = [], []
    for path in sorted(run.glob("evaluate/*/*/*.speed.json")):
        s, split = read_json(path), path.name.removesuffix(".speed.json")
        if not s["rows"]:
            continue
        name, form = path.parts[-3], path.parts[-2]
        tokens = "–" if s["tokens"] is None else f"{s['tokens']:,}"
        rows.append(
            [name, form, split, str(s["rows"]), tokens, str(s["seconds"]), f"{s['seconds'] / s['rows']:.3f}"]
            + [general(s["tokens_per_s"]), general(s.get("cost"))]
        )
        examples = s.get("examples", {})
        if fewer := examples.get("rows_with_fewer", 0):
            notes.append(f"- {name}, {split}: {fewer} rows after fewer than {examples['count']} examples")
    if not rows:
        raise GradusError(f"{run}/evaluate: no model has answered")
    head = ["answers of", "form", "split", "answers", "tokens", "seconds", "seconds a row", "tokens/s", "cost"]
    lines = table(head, rows, left=3)
    return [*lines, "", *notes] if notes else lines


def fidelity(run: Path) -> list[str]:
    """Return what happened to the model on its way to the served file: gates, merge, GGUF, serving."""
    gates = read_json(run / "fidelity.json")["gates"]
    passed = sum(gate["passed"] is True for gate in gates)
    skipped = sum(gate["passed"] is None for gate in gates)
    lines = [f"- gates: {passed} of {len(gates)} passed" + (f", {skipped} not measured" if skipped else "")]
    models = sorted({gate["check"].rpartition("/")[0] for gate in gates} - {""})
    for path in (path for model in models if (path := run / "fidelity" / model / "merge.json").is_file()):
        measured = read_json(path)
        live, seen = measured["live_against_merged"], measured["trained_against_merged"]
        lines.append(
            f"- merge of {path.parts[-2]}, {live['tokens']} tokens: mean KL {live['mean_kl']:.6f} (largest "
            f"{live['max_kl']:.4f}) from base + live adapter, {seen['mean_kl']:.4f} (largest {seen['max_kl']:.2f}) "
            "from the weights it was trained with"
        )
    for path in (run / "fidelity" / model / "gguf.json" for model in models):
        measured = read_json(path)
        lines.append(
            f"- GGUF of {path.parts[-2]}: mean KL {measured['transformers_against_llama_cpp']['mean_kl']:.6f} from "
            f"transformers; {len(measured['differing'])} of {measured['texts']} texts tokenized differently"
        )
    serving, template = (read_json(run / "fidelity" / f"{name}.json") for name in ("serving", "template"))
    lines.append(
        f"- served: {serving['same']} of {serving['asked']} answers as in the evaluation, {serving['same_by_default']} "
        "with the server's default penalty on repeated tokens"
    )
    lines.append(
        f"- prompts: {template['conversations']} conversations the same from transformers and llama.cpp, "
        f"{template['go_conversations']} from Go"
    )
    return lines


def quants(run: Path) -> list[str]:
    """Return a table of the quants for each model that has several."""
    speeds = read_json(run / "fidelity/speed.json")["quants"]
    lines: list[str] = []
    for path in sorted(run.glob("fidelity/*/quantization.json")):
        lines += [*quant_table(path.parts[-2], read_json(path), speeds), ""]
    return lines[:-1]


def quant_table(model: str, measured: Mapping[str, Any], speeds: Mapping[str, Any]) -> list[str]:
    """Return the table of a model's quants."""
    headline = f"{measured['metric']}, {measured['split']} ({measured['quants'][measured['served']]['n']})"
    columns = [f"quant of {model}", "MB", "bits a weight", "perplexity", "mean KL", "same first choice", headline]
    columns += ["right → wrong", "wrong → right"] if measured["binary"] else ["rows worse", "rows better"]
    rows = [
        [
            quant_label(quant) + (" (served)" if quant == measured["served"] else ""),
            *(f"{q['bytes'] / 1e6:.0f}", str(q["bits_per_weight"]), f"{q['perplexity']:.4f}", f"{q['mean_kl']:.5f}"),
            *(percent(q["top1_agreement"]), percent(q["value"]), str(q["worse"]), str(q["better"])),
            *(percent(q["stopped"]), *(f"{value:.0f}" for value in speeds[quant].values())),
        ]
        for quant, q in measured["quants"].items()
    ]
    return table([*columns, "stopped", "prompt tokens/s", "answer tokens/s"], rows)


def resources(run: Path) -> list[str]:
    """Return the table of the rules whose jobs took more than a second: seconds in all, largest memory of a job."""
    seconds: dict[str, float] = defaultdict(float)
    memory: dict[str, float] = defaultdict(float)
    jobs: dict[str, int] = defaultdict(int)
    for path in sorted(run.glob("benchmarks/*.tsv")):
        rule = path.stem.partition("-")[0]
        for line in csv.DictReader(path.open(encoding="utf-8"), delimiter="\t"):
            seconds[rule] += float(line["s"])
            memory[rule] = max(memory[rule], float(line["max_rss"]) if line["max_rss"] not in ("-", "NA") else 0)
            jobs[rule] += 1
    lines = []
    if (run / "train" / "estimate.json").is_file():
        estimated = read_json(run / "train" / "estimate.json")
        parts = ", ".join(f"{name} {size / 2**30:.2f}" for name, size in estimated["bytes"].items())
        lines += [
            f"Memory of training (GiB): estimated {estimated['memory_gib']} ({parts}), "
            f"measured {memory['train_phase'] / 1024:.2f}",
            "",
        ]
    rows = [
        [rule, str(jobs[rule]), f"{taken:.0f}", f"{memory[rule] / 1024:.2f}"]
        for rule, taken in seconds.items()
        if taken > 1 or rule == "train_phase"
    ]
    return lines + table(["rule", "jobs", "seconds in all", "peak memory of one (GiB)"], rows)


def about(run: Path) -> list[str]:
    """Return when, where and from which code the run was made, and how long its jobs ran."""
    manifest = read_json(run / "manifest.json")
    spans = []
    for name, made in manifest["artifacts"].items():
        if name.startswith(f"results/{run.name}/") and made.get("started") and made.get("seconds"):
            start = datetime.fromisoformat(made["started"]).timestamp()
            spans.append((start, start + made["seconds"]))
    git, cpu = manifest["git"], manifest["cpu"]
    code = f"commit {git['commit'][:7]}" if git["commit"] else "no commit known"
    code += " with changes" if git["dirty"] else ""
    return [
        f"Run of {manifest['made'][:10]}, {code}, on {cpu['cores']} cores ({cpu['name']}), device "
        f"{manifest['fingerprint']['device']}; its jobs took {busy(spans) / 60:.0f} minutes."
    ]


def experiment(run: Path) -> list[str]:
    """Return an experiment's comparisons, and how long its trainings took."""
    tables = (run / "experiment/experiment.md").read_text(encoding="utf-8").rstrip("\n")
    with open(run / "experiment/spent.csv", encoding="utf-8", newline="") as handle:
        spent = list(csv.DictReader(handle))
    took = sum(float(line["seconds"]) for line in spent) / 60
    where = " and ".join(sorted({line["cpu"] for line in spent}))
    return [*tables.splitlines(), "", f"The trainings took {took:.0f} minutes, added up, on: {where}."]


def busy(spans: Iterable[tuple[float, float]]) -> float:
    """Return for how many seconds at least one of these spans (start, end) lasted."""
    total, end = 0.0, float("-inf")
    for start, stop in sorted(spans):
        total += max(0.0, stop - max(start, end))
        end = max(end, stop)
    return total


SECTIONS: dict[str, Callable[[Path], list[str]]] = {
    "summary": summary,
    "verdict": verdict,
    "models": splits,
    "advice": advice,
    "forgetting": forgetting,
    "difficulty": difficulty,
    "fidelity": fidelity,
    "quants": quants,
    "training": training,
    "answering": answering,
    "resources": resources,
    "about": about,
    "experiment": experiment,
}


def made(what: Callable[[Path], list[str]], run: Path) -> list[str]:
    """Return what a function finds in a run. Raises GradusError that says what the run lacks."""
    try:
        return what(run)
    except FileNotFoundError as error:
        raise GradusError(f"{error.filename} is missing: the run has not made it") from None
    except KeyError as error:
        raise GradusError(
            f"a file of {run} is from another version of Gradus: it has no {error}; run it again"
        ) from None


def main() -> None:
    """Print everything that is there; say on standard error what is not. Exits with 1 if the run is not finished."""
    default = yaml.safe_load((ROOT / "config" / "config.yaml").read_text(encoding="utf-8"))["run"]
    run = Path(sys.argv[1] if len(sys.argv) > 1 else f"results/{default}")
    if not run.is_dir():
        sys.exit(f"Gradus: no run in {run}; run `make` first, or name another folder")
    for name, what in SECTIONS.items():
        if name == "summary":  # its figures are in the sections below
            continue
        if name == "experiment" and not (run / "experiment").is_dir():
            continue
        try:
            print("\n".join(made(what, run)), end="\n\n")
        except GradusError as error:
            print(f"Gradus: no {name}: {error}", file=sys.stderr)
    sys.exit(0 if (run / "metrics.json").is_file() else 1)


if __name__ == "__main__":
    main()
