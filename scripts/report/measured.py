"""`python -m scripts.report.measured [results/<run>]`: the figures of README and docs/results.md, as Markdown.

In: a finished run's folder. Out, on the terminal: the verdict, each model's metrics with intervals, the served model
against each other one, fidelity, speeds, time and memory.
"""

import csv
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from scripts.common.comparison import Models, asked_splits, row_count
from scripts.common.html import general, interval, percent, points
from scripts.common.io import read_json
from scripts.common.models import resolve
from scripts.common.records import SPLITS
from scripts.report.layout import in_order, quant_label, shown_metrics, what_is


def quality(run: Path, models: Models) -> list[str]:
    """Return the verdict; of each split that was asked a table with a row for each model and the intervals of its
    values; below it the served model against each other one.
    """
    metrics, comparison = read_json(run / "metrics.json"), read_json(run / "comparison.json")
    told = read_json(run / "verdict.json")
    lines = [told["sentence"], *told["reasons"], told["order"]["reason"]]
    served, headline = comparison["served"], comparison["headline"]
    lists = [model["name"] for model in models if any(map(_is_list, model["options"].get("examples", {}).values()))]
    chosen = {name: read_json(run / "evaluate" / name / "examples.json") for name in lists}
    for split in asked_splits(metrics, SPLITS):
        names = shown_metrics(metrics, [split], headline)
        rows = row_count(metrics[comparison["first"]][split])
        lines += ["", f"| {split} ({rows}) | what it is | {' | '.join(names)} |", "|---|---|" + "--:|" * len(names)]
        for model in in_order(models):
            name = model["name"]
            cells = [
                _cell(metrics[name][split][metric]["value"], comparison["intervals"][name][split][metric])
                for metric in names
            ]
            lines.append(f"| {name} | {what_is(model, chosen.get(name))} | {' | '.join(cells)} |")
        lines += ["", *against(served, split, headline)]
    return lines


def _is_list(value: Any) -> bool:
    return isinstance(value, list)


def _cell(value: float | None, bounds: Sequence[float] | None) -> str:
    return percent(value) if bounds is None else f"{percent(value)} ({interval(bounds)})"


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
                f"{percent(pair['first_value'])}, difference {points(pair['difference'])} points (95 % interval "
                f"{points(low)} to {points(high)}), {only}p = {general(pair['p'])}, {general(pair['p_holm'])} after "
                "Holm's correction"
            )
    return lines


def speed(run: Path) -> list[str]:
    """Return lines on the speed of training and answering."""
    lines = []
    for path in sorted(run.glob("train/*/*/*/summary.json")):
        s = read_json(path)
        loss = f", held-out loss after it {s['heldout_loss']:.3f}" if s["heldout_loss"] is not None else ""
        lines.append(
            f"- training {s['phase']}: {s['rows']} rows, {s['tokens']} tokens in {s['seconds']['steps']} s, "
            f"{s['tokens_per_s']} tokens/s{loss}; start-up: imports {s['seconds']['imports']} s, "
            f"tokenization {s['seconds']['tokenization']} s, model {s['seconds']['model']} s"
        )
    for path in sorted(run.glob("evaluate/*/*/*.speed.json")):
        s = read_json(path)
        split = path.name.removesuffix(".speed.json")
        if s["rows"]:
            tokens = f", {s['tokens']} tokens" if s["tokens"] is not None else ""
            pace = f", {s['tokens_per_s']} tokens/s" if s["tokens_per_s"] is not None else ""
            cost = f", cost {s['cost']}" if s.get("cost") is not None else ""
            fewer = s.get("examples", {}).get("rows_with_fewer", 0)
            shown = f", {fewer} of them after fewer than {s['examples']['count']} examples" if fewer else ""
            lines.append(
                f"- answering {path.parts[-3]} ({path.parts[-2]}) {split}: {s['rows']} answers{tokens} in "
                f"{s['seconds']} s ({s['seconds'] / s['rows']:.3f} s a row){pace}{cost}{shown}"
            )
    return lines


def fidelity(run: Path) -> list[str]:
    """Return what happened to the model on its way to the served file: gates, merge, quants, serving."""
    if not (run / "fidelity.json").is_file():
        return []
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
    for path in sorted(run.glob("fidelity/*/quantization.json")):
        lines += ["", *quants(path.parts[-2], read_json(path), read_json(run / "fidelity/speed.json")["quants"])]
    return lines


def quants(model: str, measured: Mapping[str, Any], speeds: Mapping[str, Any]) -> list[str]:
    """Return the table of a model's quants."""
    headline = f"{measured['metric']}, {measured['split']} ({measured['quants'][measured['served']]['n']})"
    columns = [f"quant of {model}", "MB", "bits a weight", "perplexity", "mean KL", "same first choice", headline]
    columns += ["right → wrong", "wrong → right"] if measured["binary"] else ["rows worse", "rows better"]
    columns += ["stopped", "prompt tokens/s", "answer tokens/s"]
    lines = [f"| {' | '.join(columns)} |", "|---|" + "--:|" * 11]
    for quant, q in measured["quants"].items():
        cells = [
            quant_label(quant) + (" (served)" if quant == measured["served"] else ""),
            *(f"{q['bytes'] / 1e6:.0f}", str(q["bits_per_weight"]), f"{q['perplexity']:.4f}", f"{q['mean_kl']:.5f}"),
            *(percent(q["top1_agreement"]), percent(q["value"]), str(q["worse"]), str(q["better"])),
            *(percent(q["stopped"]), *(f"{value:.0f}" for value in speeds[quant].values())),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def resources(run: Path) -> list[str]:
    """Return the table of each rule's jobs: seconds in all, and the largest resident memory of one."""
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
    lines += ["| rule | jobs | seconds in all | peak memory of one (GiB) |", "|---|--:|--:|--:|"]
    lines += [f"| {rule} | {jobs[rule]} | {seconds[rule]:.0f} | {memory[rule] / 1024:.2f} |" for rule in seconds]
    return lines


def main() -> None:
    """Print everything."""
    run = Path(sys.argv[1] if len(sys.argv) > 1 else "results/aws-cli")
    if not (run / "verdict.json").is_file():
        sys.exit(f"Gradus: no finished run in {run}; run `make` first, or name another folder")
    config = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))
    models = [model.describe() for model in resolve(config["models"]).values()]
    print("\n".join([*quality(run, models), "", *fidelity(run), "", *speed(run), "", *resources(run)]))


if __name__ == "__main__":
    main()
