"""Write the report.

In: counts, summaries, metrics, comparison, answers, figures, GGUFs and the template. Out: one HTML
file, figures inline.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from scripts.common.gguf_info import read_gguf
from scripts.common.io import atomic_open, read_json, read_jsonl
from scripts.common.logs import logging_to


def side_by_side(
    records: Sequence[Mapping[str, Any]],
    answers: Mapping[str, Sequence[Mapping[str, Any]]],
    grades: Mapping[str, Sequence[Mapping[str, Any]]],
    count: int,
) -> list[dict[str, Any]]:
    """Return the first `count` asked records with every model's answer and whether it is exactly right.

    The order is that of the ids, which are hashes: nobody chose these rows.
    """
    by_id = {record["id"]: record for record in records}
    marks = {model: {row["id"]: row for row in rows} for model, rows in grades.items()}
    shown = []
    for number, first in enumerate(next(iter(answers.values()))[:count]):
        record = by_id[first["id"]]
        said = [
            {"model": model, "text": rows[number]["text"], "exact": marks[model][first["id"]].get("exact") == 1}
            for model, rows in answers.items()
        ]
        shown.append({"prompt": record["prompt"], "response": record["response"], "answers": said})
    return shown


def inline_svg(path: str | Path) -> Markup:
    """Return the SVG element of a figure, without the XML head that HTML does not take."""
    text = Path(path).read_text(encoding="utf-8")
    return Markup(text[text.index("<svg") :])


def percent(value: float | None) -> str:
    """Return a share as a percentage, a dash if there is none."""
    return "–" if value is None else f"{100 * value:.1f} %"


def megabytes(count: int) -> str:
    """Return bytes as MB (10^6)."""
    return f"{count / 1e6:.0f} MB"


def write_report(template: str | Path, values: Mapping[str, Any], output: str | Path) -> None:
    """Render the template, everything escaped, a missing value an error."""
    template = Path(template)
    environment = Environment(
        loader=FileSystemLoader(template.parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters.update(percent=percent, megabytes=megabytes)
    with atomic_open(output) as handle:
        handle.write(environment.get_template(template.name).render(**values))


if "snakemake" in globals():
    job = globals()["snakemake"]
    with logging_to(job.log[0]):
        settings = job.params.config
        models, splits = settings["evaluate"]["models"], settings["evaluate"]["splits"]
        pairs = [(model, split) for model in models for split in splits]
        write_report(
            job.input.template,
            {
                "config": settings,
                "converted": read_json(job.input.converted) if job.input.get("converted") else None,
                "ingest": read_json(job.input.ingest),
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
                ),
                "ggufs": [{"path": "/".join(Path(path).parts[-2:]), **read_gguf(path)} for path in job.input.ggufs],
                "figures": {Path(path).stem: inline_svg(path) for path in job.input.figures},
            },
            job.output.report,
        )
