"""List what each job of the run took, and draw when the stages were at work.

In: what the report shows, for the jobs behind it; Snakemake's records of these jobs; their benchmark files; samples of
energy, if it was measured. Out: cost.json, and the timeline as SVG and as Vega-Lite specification.
"""

import csv
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import altair as alt

from scripts.common.energy import share_out
from scripts.common.io import read_jsonl, write_json
from scripts.common.job import find_job
from scripts.common.logs import logging_to
from scripts.common.snakemake_internals import OURS, ancestors, read_metadata
from scripts.report.charts import INK, WIDTH, data, layer, write_figure
from scripts.report.sections.cost import Span, at_work

SAMPLES = OURS / "energy.jsonl"
CUT = 0.012  # of the timeline's width, for each pause


def read_benchmark(path: Path) -> dict[str, float | None]:
    """Return {cpu_seconds, peak_mib} of a job's benchmark file: processor time, and the largest resident memory with
    all child processes. None for what is not known: there is no file, or the job was too short to be looked at.
    """
    found: dict[str, str] = {}
    if path.is_file():
        with path.open(encoding="utf-8") as handle:
            found = next(csv.DictReader(handle, delimiter="\t"), {})
    texts = {"cpu_seconds": found.get("cpu_time", "NA"), "peak_mib": found.get("max_rss", "NA")}
    return {name: None if text in ("NA", "-") else float(text) for name, text in texts.items()}


def list_jobs(
    records: Mapping[str, Mapping[str, Any]],
    run: Path,
    stages: Mapping[str, str],
    samples: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """Return {began, stages, jobs: [{stage, rule, job, start, seconds, cpu_seconds, peak_mib, kwh, kg,
    energy_seconds}], energy_from}, the earliest job first.

    `records`: {file: Snakemake's record}; `stages`: {rule: stage}; `samples`: those of scripts/common/energy.py.
    `began` is the time of the first job, in UTC, and `start` is in seconds after it. A job that ran more than once
    counts as it ran last. `kwh` and `kg`, of CO2 equivalents, are what the machine used in `energy_seconds` of the job.
    """
    ran: dict[tuple[str, str], Span] = {}
    for record in records.values():
        if record["log"] and record.get("starttime") and record.get("endtime"):
            key = record["rule"], record["log"][0]
            span = ran.get(key, (record["starttime"], record["endtime"]))
            ran[key] = min(span[0], record["starttime"]), max(span[1], record["endtime"])
    ordered = sorted(ran.items(), key=lambda item: item[1])
    shares = share_out(samples, [span for _, span in ordered])
    first = min((start for start, _ in ran.values()), default=None)
    jobs = []
    for ((rule, log), (start, end)), share in zip(ordered, shares, strict=True):
        # logs/<rule>/<job>.log or logs/<rule>.log; benchmarks/<rule>-<job>.tsv or benchmarks/<rule>.tsv
        place = Path(log).with_suffix("")
        name = "-".join(place.relative_to(run / "logs").parts) if place.is_relative_to(run / "logs") else place.name
        known = share["seconds"] > 0
        jobs.append(
            {
                "stage": stages.get(rule, "other"),
                "rule": rule,
                "job": name.removeprefix(f"{rule}-"),
                "start": round(start - (first or 0), 1),
                "seconds": round(end - start, 1),
                **read_benchmark(run / "benchmarks" / f"{name}.tsv"),
                "kwh": share["kwh"] if known else None,
                "kg": share["kg"] if known else None,
                "energy_seconds": round(share["seconds"], 1),
            }
        )
    return {
        "began": None if first is None else datetime.fromtimestamp(first, UTC).isoformat(timespec="seconds"),
        "stages": list(dict.fromkeys(stages.values())),
        "jobs": jobs,
        "energy_from": sorted({how for sample in samples for how in sample["how"]}),
    }


def draw_timeline(jobs: Sequence[Mapping[str, Any]], stages: Sequence[str]) -> alt.LayerChart:
    """Return a line for each stage, with a bar for each job, over minutes at work: pauses are cut out, and marked."""
    shown = [stage for stage in stages if any(job["stage"] == stage for job in jobs)]
    spans = at_work(jobs)
    cut = CUT * sum(end - start for start, end in spans)
    shifts, pauses, place = [], [], 0.0  # by how much each span is moved, in seconds
    for number, (start, end) in enumerate(spans):
        if number:
            pauses.append({"start": place / 60, "end": (place + cut) / 60})
            place += cut
        shifts.append(place - start)
        place += end - start
    rows = [
        {
            "stage": job["stage"],
            "job": " ".join(dict.fromkeys((job["rule"], job["job"]))),
            "start": round((job["start"] + shift) / 60, 3),
            "end": round((job["start"] + shift + job["seconds"]) / 60, 3),
            "minutes": round(job["seconds"] / 60, 2),
        }
        for job in jobs
        for shift, (start, end) in zip(shifts, spans, strict=True)
        if start <= job["start"] <= end
    ]
    title = "minutes at work" + (" (gray: pauses, cut out)" if pauses else "")
    bars = (
        alt.Chart(data(rows))
        .mark_bar(opacity=0.75)
        .encode(
            x=alt.X("start:Q", title=title, scale=alt.Scale(nice=False)),
            x2="end:Q",
            y=alt.Y("stage:N", sort=shown, title=None, axis=alt.Axis(domain=False, ticks=False)),
            color=alt.Color("stage:N", sort=shown, legend=None),
            tooltip=["stage:N", "job:N", "minutes:Q"],
        )
    )
    gaps = alt.Chart(data(pauses)).mark_rect(color=INK, opacity=0.2).encode(x="start:Q", x2="end:Q")
    return layer(*([gaps] if pauses else []), bars).properties(width=WIDTH, height=20 * max(1, len(shown)))


if job := find_job(globals()):
    with logging_to(job.log[0]):
        samples = list(read_jsonl(SAMPLES)) if job.params.energy and SAMPLES.is_file() else []
        records = ancestors(read_metadata(), sorted(job.input))
        found = list_jobs(records, Path(job.output.cost).parent, dict(job.params.stages), samples)
        write_json(job.output.cost, found)
        write_figure(draw_timeline(found["jobs"], found["stages"]), Path(job.output.timeline).parent, "timeline")
