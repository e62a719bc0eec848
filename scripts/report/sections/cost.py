"""Section on what the run cost: time and memory by stage and job, the speed of training, energy."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

PAUSE = 60.0  # seconds without a job that are a pause: the run was stopped, or waited for nobody
LONGEST = 20  # jobs that are shown
# of what codecarbon calls the parts of a machine: those whose energy or power is read, not estimated
METERS = re.compile(r"Rapl|GPU\(|Power Gadget|Powermetrics|AppleSilicon|Raspberry|Emi\b", re.IGNORECASE)
GUESSES = {"RAM": "estimated from its size", "CPU": "estimated from its load and rated power"}
TRAININGS = ("train_phase", "train_arm")  # rules: of the run, and of its experiment
Span = tuple[float, float]  # seconds: start, end
Job = Mapping[str, Any]


def at_work(jobs: Iterable[Job]) -> list[Span]:
    """Return the times from start to end in which jobs ran, without pauses, in order."""
    spans: list[Span] = []
    for start, end in sorted((job["start"], job["start"] + job["seconds"]) for job in jobs):
        if spans and start - spans[-1][1] <= PAUSE:
            spans[-1] = spans[-1][0], max(spans[-1][1], end)
        else:
            spans.append((start, end))
    return spans


def busy(jobs: Iterable[Job]) -> float:
    """Return the seconds in which at least one of these jobs ran."""
    seconds, until = 0.0, float("-inf")
    for start, end in sorted((job["start"], job["start"] + job["seconds"]) for job in jobs):
        seconds += max(0.0, end - max(start, until))
        until = max(until, end)
    return seconds


def _total(jobs: Sequence[Job], key: str) -> float | None:
    known = [job[key] for job in jobs if job[key] is not None]
    return sum(known) if known else None


def shown(job: Job) -> dict[str, Any]:
    """Return a job of cost.json with its name, and in the units of the page: {name, minutes, peak_gib, wh}."""
    peak, kwh = job["peak_mib"], job["kwh"]
    return {
        **job,
        "name": job["rule"] if job["job"] == job["rule"] else f"{job['rule']} {job['job']}",
        "minutes": round(job["seconds"] / 60, 6),
        "peak_gib": None if peak is None else peak / 1024,
        "wh": None if kwh is None else 1000 * kwh,
    }


def summed(jobs: Sequence[Job]) -> dict[str, Any]:
    """Return {jobs, minutes, busy_minutes, cpu_minutes, peak_gib, wh, longest, longest_minutes} of some jobs.

    `minutes` is the sum over the jobs, `busy_minutes` the time in which at least one of them ran. `cpu_minutes`,
    `peak_gib`, the largest resident memory of one job, and `wh` are of the jobs that were measured; None if none was.
    """
    longest = max(jobs, key=lambda job: job["seconds"])
    cpu = _total(jobs, "cpu_seconds")
    return {
        "jobs": len(jobs),
        "minutes": round(sum(job["seconds"] for job in jobs) / 60, 6),
        "busy_minutes": round(busy(jobs) / 60, 6),
        "cpu_minutes": None if cpu is None else round(cpu / 60, 6),
        "peak_gib": max((job["peak_gib"] for job in jobs if job["peak_gib"] is not None), default=None),
        "wh": _total(jobs, "wh"),
        "longest": longest["name"],
        "longest_minutes": longest["minutes"],
    }


def by(key: str, jobs: Sequence[Job], stages: Sequence[str]) -> list[dict[str, Any]]:
    """Return the sums of the jobs of each stage or rule: by stage, then in the order of their first jobs."""
    groups: dict[str, list[Job]] = {}
    order = {stage: number for number, stage in enumerate(stages)}
    for job in sorted(jobs, key=lambda job: order.get(job["stage"], len(order))):
        groups.setdefault(job[key], []).append(job)
    return [{"stage": group[0]["stage"], key: name, **summed(group)} for name, group in groups.items()]


def pace(summaries: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return {phases, tokens, seconds, tokens_per_s, start_minutes, devices} of all phases of training that the run
    needed: `seconds` are those of the optimizer steps, `start_minutes` what else the phases took, such as imports.
    """
    tokens = sum(phase["tokens"] for phase in summaries)
    seconds = sum(phase["seconds"]["steps"] for phase in summaries)
    return {
        "phases": len(summaries),
        "tokens": tokens,
        "seconds": seconds,
        "tokens_per_s": tokens / seconds if seconds else None,
        "start_minutes": (sum(phase["seconds"]["all"] for phase in summaries) - seconds) / 60,
        "devices": sorted({phase["device"] for phase in summaries}),
    }


def energy(found: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return {wh, grams, training_wh, measured_share, estimate, basis}; None without samples.

    `measured_share`: of the jobs' time, the share in which samples were taken. `estimate`: no meter was read,
    neither of the processor nor of a GPU. `basis`: what the numbers come from, in words.
    """
    jobs = [job for job in found["jobs"] if job["kwh"] is not None]
    if not jobs:
        return None
    metered = [part for part in found["energy_from"] if METERS.search(part)]
    parts = [part for part in found["energy_from"] if part not in metered]
    return {
        "wh": 1000 * sum(job["kwh"] for job in jobs),
        "grams": 1000 * sum(job["kg"] for job in jobs),
        "training_wh": 1000 * sum(job["kwh"] for job in jobs if job["rule"] in TRAININGS),
        "measured_share": sum(job["energy_seconds"] for job in jobs) / sum(job["seconds"] for job in found["jobs"]),
        "estimate": not metered,
        "basis": "; ".join([*(f"{part}: read from a meter" for part in metered), *map(_guess, parts)]),
    }


def _guess(part: str) -> str:
    known = next((text for start, text in GUESSES.items() if part.startswith(start)), "not read from a meter")
    return f"{part}: {known}"


def cost(found: Mapping[str, Any], summaries: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return what the run cost. `found`: cost.json; `summaries`: of the phases of all trainings.

    `total` is None if Snakemake's records of the jobs are gone (`--drop-metadata`).
    """
    jobs, stages = [shown(job) for job in found["jobs"]], found["stages"]
    spans = at_work(jobs)
    pauses = [later[0] - earlier[1] for earlier, later in zip(spans, spans[1:], strict=False)]
    return {
        "began": found["began"],
        "total": summed(jobs) if jobs else None,
        "pauses": len(pauses),
        "pause_minutes": sum(pauses) / 60,
        "stages": by("stage", jobs, stages),
        "rules": by("rule", jobs, stages),
        "longest": sorted(jobs, key=lambda job: -job["seconds"])[:LONGEST],
        "jobs": jobs,
        "training": pace(summaries),
        "energy": energy(found),
    }
