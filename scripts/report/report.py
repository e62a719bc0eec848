"""Write the report.

In: what every stage counted and measured, answers, figures, GGUFs, the templates. Out: one HTML file that needs nothing
else (figures, all answers and the scripts that show them are inside), and its tables as CSV and LaTeX. What the page
says is computed here and in sections/, a function for each section; the templates, one for each section, only print it.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import vl_convert
from markupsafe import Markup

from scripts.common.gguf_info import read_gguf
from scripts.common.html import inline_svg, write_page
from scripts.common.io import read_json, read_jsonl
from scripts.common.job import find_job
from scripts.common.logs import logging_to
from scripts.common.sources import content_sha256
from scripts.report.layout import shown_models
from scripts.report.sections.answers import all_answers
from scripts.report.sections.cost import cost
from scripts.report.sections.data import difficulty, went_in
from scripts.report.sections.evaluation import details_of, lead, side_by_side
from scripts.report.sections.experiment import experiment
from scripts.report.sections.fidelity import gates, merge_deltas, merges, quants, stopping
from scripts.report.sections.forgetting import outside
from scripts.report.sections.judge import opinion
from scripts.report.sections.preference import preference
from scripts.report.sections.provenance import origin
from scripts.report.sections.rating import rating
from scripts.report.sections.speed import answering, apis, fewer_examples, sizes
from scripts.report.sections.training import arms, training
from scripts.report.tables import all_tables, write_tables

ONE = ("ingest", "split", "score", "audit", "validity", "fidelity", "speed", "metrics", "comparison", "verdict", "cost")
MANY = ("ledgers", "checked", "summaries", "details", "speeds", "pair_ledgers", "pair_counts", "pair_summaries")
ROWS = ("answers", "grades", "pair_histories")
MAYBE = ("converted", "forgetting", "judge", "ratings", "experiment")
SECTIONS = [
    ("models", "against each other model"),
    ("answers", "won, lost, tied"),
    ("training", "training"),
    ("forgetting", "what broke"),
    ("shipping", "what shipping cost"),
    ("data", "what went in"),
    ("cost", "cost"),
    ("provenance", "where this comes from"),
]


def read_files(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the rule's input files say, by the names of the inputs."""
    return {
        **{name: read_json(inputs[name]) for name in ONE},
        **{name: [read_json(path) for path in inputs[name]] for name in MANY},
        **{name: [list(read_jsonl(path)) for path in inputs[name]] for name in (*ROWS, "records")},
        "chosen": {Path(path).parent.name: read_json(path) for path in inputs["chosen"]},
        "contract": read_json(inputs["contract"]),
        **{name: read_json(inputs[name]) if inputs.get(name) else None for name in MAYBE},
        "base": read_json(Path(inputs["base"]) / "base.json"),
        "own_sha256": content_sha256(inputs["own"]) if inputs.get("own") else None,
        "ggufs": [
            {"model": Path(path).parts[-2], "path": "/".join(Path(path).parts[-2:]), **read_gguf(path)}
            for path in inputs["ggufs"]
        ],
        "figures": {Path(path).stem: {"svg": inline_svg(path)} for path in inputs["figures"]},
        "charts": {Path(path).stem: read_json(path) for path in inputs["charts"]},
        # …/<arm>/seed<seed>/ledger.json, …/<arm>/seed<seed>/<phase>/summary.json
        "ledger_of": [training_of(Path(path).parent) for path in inputs["ledgers"]],
        "summary_of": [training_of(Path(path).parent.parent) for path in inputs["summaries"]],
    }


def training_of(folder: Path) -> tuple[str, str]:
    """Return arm and seed of a training's folder, …/<arm>/seed<seed>."""
    return folder.parent.name, folder.name.removeprefix("seed")


def page(files: Mapping[str, Any], params: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the template prints, by section. `files`: what read_files returns; `params`: those of the rule."""
    config, models = params["config"], params["models"]
    splits, levels = config["evaluate"]["splits"], config["curriculum"]["levels"]
    metrics, comparison = files["metrics"], files["comparison"]
    names = [model["name"] for model in models]
    asked = [(model, split) for model in names for split in splits]
    details = dict(zip(asked, files["details"], strict=True))
    checked = dict(zip(params["checks"], files["checked"], strict=True))
    summaries: dict[tuple[str, str], list[Any]] = {}
    for key, summary in zip(files["summary_of"], files["summaries"], strict=True):
        summaries.setdefault(key, []).append(summary)
    speeds = [
        {"model": model, "split": split, **found} for (model, split), found in zip(asked, files["speeds"], strict=True)
    ]
    together = shown_models(comparison)
    answers, grades = (dict(zip(asked, files[kind], strict=True)) for kind in ("answers", "grades"))
    records = dict(zip(splits, files["records"], strict=True))
    return {
        "config": config,
        "sections": SECTIONS,
        "figures": files["figures"],
        "charts": files["charts"],
        "vega": vega(),
        "lead": lead(files["verdict"], models, metrics),
        "models": side_by_side(models, metrics, comparison, details, files["chosen"], files["score"], splits, levels),
        "fewer_examples": fewer_examples(speeds),
        "data": went_in(files["converted"], files["ingest"], files["audit"], files["split"], config["data"]["package"]),
        "base": {**files["base"], "license": config["base_model"]["license"]},
        "system_prompt": files["contract"]["system_prompt"],
        "difficulty": difficulty(files["score"], files["validity"], models),
        "arms": arms(
            dict(zip(files["ledger_of"], files["ledgers"], strict=True)), levels, config["curriculum"]["phases"]
        ),
        "training": training(summaries),
        "preference": preference(
            of_preference(params["preference"], files),
            config["curriculum"]["phases"][-1],
            models,
            metrics,
            comparison["headline"],
            splits[0],
            speeds,
        ),
        "details": details_of(together, metrics, details),
        "experiment": experiment(files["experiment"]),
        "outside": outside(files["forgetting"], models),
        "gates": gates(files["fidelity"]["gates"], models),
        "merges": merges(checked, models),
        "merge_deltas": merge_deltas(metrics, params["merge_pairs"]),
        "quants": quants(params["served"], checked[f"{params['served']}/quantization"], files["speed"]),
        "stopping": stopping(checked, models),
        "labels": checked["labels"],
        "template": checked["template"],
        "serving": checked["serving"],
        "judge": opinion(files["judge"], models),
        "rating": rating(files["ratings"]) if files["ratings"] else None,
        "answers": all_answers(models, comparison, records, answers, grades, levels),
        "sizes": sizes(files["ggufs"], models),
        "answering": answering(speeds, models),
        "apis": apis(speeds),
        "provenance": origin(config, files["base"], files["contract"], files["own_sha256"]),
        "cost": cost(files["cost"], [*files["summaries"], *files["pair_summaries"]]),
    }


def of_preference(phases: Sequence[Mapping[str, Any]], files: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the phases of preference tuning, each with what its files say, and with the summary of the one before."""
    names = {
        "ledger": "pair_ledgers",
        "counts": "pair_counts",
        "summary": "pair_summaries",
        "history": "pair_histories",
    }
    summaries = {
        (arm, seed, summary["phase"]): summary
        for (arm, seed), summary in zip(files["summary_of"], files["summaries"], strict=True)
    }
    found = []
    for number, phase in enumerate(phases):
        own = {name: files[key][number] for name, key in names.items()}
        training = phase["training"]
        found.append({**phase, **own, "before": summaries[training["arm"], str(training["seed"]), phase["after"]]})
    return found


def vega() -> Markup:
    """Return the libraries that make figures interactive, as one script: Vega, Vega-Lite and Vega-Embed."""
    return Markup(vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;").replace("</script", "<\\/script"))


if job := find_job(globals()):
    with logging_to(job.log[0]):
        files = read_files(dict(job.input.items()))
        values = page(files, dict(job.params.items()))
        write_tables(all_tables(values, files["experiment"]), Path(job.output.tables))
        write_page(job.input.template, values, job.output.report)
