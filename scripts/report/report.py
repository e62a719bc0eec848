"""Write the report.

In: counts, summaries, metrics, comparison, answers, figures, GGUFs and the template. Out: one HTML
file, figures inline.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from scripts.common.gguf_info import read_gguf
from scripts.common.html import inline_svg, write_page
from scripts.common.io import read_json, read_jsonl
from scripts.common.job import find_job
from scripts.common.logs import logging_to


def side_by_side(
    records: Sequence[Mapping[str, Any]],
    answers: Mapping[str, Sequence[Mapping[str, Any]]],
    grades: Mapping[str, Sequence[Mapping[str, Any]]],
    count: int,
    headline: str,
) -> list[dict[str, Any]]:
    """Return the first `count` asked records with every model's answer and whether it is right by the headline metric.

    The order is that of the ids, which are hashes: nobody chose these rows.
    """
    by_id = {record["id"]: record for record in records}
    marks = {model: {row["id"]: row for row in rows} for model, rows in grades.items()}
    shown = []
    for number, first in enumerate(next(iter(answers.values()))[:count]):
        record = by_id[first["id"]]
        said = [
            {"model": model, "text": rows[number]["text"], "right": marks[model][first["id"]].get(headline) == 1}
            for model, rows in answers.items()
        ]
        shown.append({"prompt": record["prompt"], "response": record["response"], "answers": said})
    return shown


def merge_deltas(metrics: Mapping[str, Any], pairs: Sequence[Sequence[str]]) -> list[dict[str, Any]]:
    """Return {split, metric, n, bf16, nf4, delta} of each pair of models that differ in what they are merged into."""
    rows = []
    for plain, rounded in pairs:
        for split, found in metrics[plain].items():
            for name, metric in found.items():
                other = metrics[rounded][split][name]["value"]
                if metric["value"] is not None:
                    one = {"models": f"{plain}, {rounded}", "split": split, "metric": name, "n": metric["n"]}
                    rows.append({**one, "bf16": metric["value"], "nf4": other, "delta": other - metric["value"]})
    return rows


if job := find_job(globals()):
    with logging_to(job.log[0]):
        settings = job.params.config
        models = [model["name"] for model in job.params.models]
        splits = settings["evaluate"]["splits"]
        pairs = [(model, split) for model in models for split in splits]
        write_page(
            job.input.template,
            {
                "config": settings,
                "converted": read_json(job.input.converted) if job.input.get("converted") else None,
                "ingest": read_json(job.input.ingest),
                "audit": read_json(job.input.audit),
                "validity": read_json(job.input.validity),
                "ledgers": {
                    "-".join(Path(path).parts[-3:-1]).replace("seed", ""): read_json(path) for path in job.input.ledgers
                },
                "fidelity": read_json(job.input.fidelity),
                "checked": dict(zip(job.params.checks, map(read_json, job.input.checked), strict=True)),
                "quant_speed": read_json(job.input.speed),
                "served": job.params.served,
                "models": {model["name"]: model for model in job.params.models},
                "merge_deltas": merge_deltas(read_json(job.input.metrics), job.params.merge_pairs),
                "details": {
                    f"{model}, {split}": read_json(path)
                    for (model, split), path in zip(pairs, job.input.details, strict=True)
                },
                "split": read_json(job.input.split),
                "score": read_json(job.input.score),
                "base": read_json(Path(job.input.base) / "base.json"),
                "contract": read_json(job.input.contract),
                "phases": [
                    {"training": "-".join(Path(path).parts[-4:-2]).replace("seed", ""), **read_json(path)}
                    for path in job.input.summaries
                ],
                "metrics": read_json(job.input.metrics),
                "comparison": read_json(job.input.comparison),
                "speeds": [
                    {"model": model, "split": split, **read_json(path)}
                    for (model, split), path in zip(pairs, job.input.speeds, strict=True)
                ],
                "examples": side_by_side(
                    list(read_jsonl(job.input.records)),
                    {m: list(read_jsonl(p)) for m, p in zip(models, job.input.answers, strict=True)},
                    {m: list(read_jsonl(p)) for m, p in zip(models, job.input.grades, strict=True)},
                    settings["report"]["examples"],
                    read_json(job.input.comparison)["headline"],
                ),
                "ggufs": [{"path": "/".join(Path(path).parts[-2:]), **read_gguf(path)} for path in job.input.ggufs],
                "figures": {Path(path).stem: inline_svg(path) for path in job.input.figures},
            },
            job.output.report,
        )
