"""Record a finished run for DVC and git: pointer files, metrics, plots, artifacts.

In: a run with its manifest. Out: records.json, Snakemake's own records of the run; and, for git, results/<run>.dvc,
data/raw/<source>.dvc and dvc.yaml, which lists metrics, plots and models and has no stages.
"""

import logging
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from scripts.common.errors import GradusError
from scripts.common.io import atomic_open, read_json, write_json
from scripts.common.job import find_job
from scripts.common.logs import logging_to
from scripts.common.snakemake_internals import ancestors, read_metadata
from scripts.version.dvc import run_dvc
from scripts.version.restore import remember


def collect(run: str, targets: Sequence[str]) -> dict[str, Any]:
    """Return {records, order: paths from oldest to newest} of everything that `targets` depend on.

    Benchmarks come last: Snakemake counts them as a job's outputs, which must be newer than its inputs.
    """
    records = ancestors(read_metadata(), list(targets))
    order = sorted((path for path in records if Path(path).exists()), key=lambda path: records[path]["endtime"])
    benchmarks = [file.as_posix() for file in sorted(Path("results", run, "benchmarks").rglob("*")) if file.is_file()]
    return {"records": records, "order": [*order, *benchmarks]}


def known_to_git(path: str) -> bool:
    """Return whether git tracks a file, or a file in a folder."""
    done = subprocess.run(["git", "ls-files", "--", path], capture_output=True, text=True, check=False)
    return bool(done.stdout.strip())


def to_track(run: str, sources: Sequence[str], records: dict[str, Any]) -> list[str]:
    """Return the paths for DVC to track: the run, fetched sources, and the user's files here that git does not have."""
    fetched = [path for path in records if path.startswith("data/raw/")]
    here = Path.cwd()
    own = [
        path
        for path in sources
        if (here / path).resolve().is_relative_to(here) and Path(path).exists() and not known_to_git(path)
    ]
    return [*sorted(fetched), *sorted(own), f"results/{run}"]


def describe_run(run: str, served: dict[str, str], figures: Sequence[str]) -> dict[str, Any]:
    """Return the entries of a run in dvc.yaml; `served`: {name: path} of its models."""
    return {
        "metrics": [f"results/{run}/{name}.json" for name in ("metrics", "verdict")],
        "plots": [{path: None} for path in figures],
        "artifacts": {
            f"{run}-{name}": {"path": path, "type": "model", "desc": f"{name} of run {run}", "labels": ["gradus"]}
            for name, path in served.items()
        },
    }


def merge_runs(known: dict[str, Any], run: str, new: dict[str, Any]) -> dict[str, Any]:
    """Return dvc.yaml with this run's entries replaced and those of other runs unchanged."""
    mine = f"results/{run}/"
    return {
        "metrics": [p for p in known.get("metrics", []) if not p.startswith(mine)] + new["metrics"],
        "plots": [p for p in known.get("plots", []) if not next(iter(p)).startswith(mine)] + new["plots"],
        "artifacts": {
            **{k: v for k, v in known.get("artifacts", {}).items() if not v["path"].startswith(mine)},
            **new["artifacts"],
        },
    }


def version(run: str, targets: Sequence[str], served: dict[str, str], figures: Sequence[str], output: Path) -> None:
    """Record the run. Raises GradusError without DVC, or outside a git and DVC repository."""
    if not Path(".dvc").is_dir():
        raise GradusError(
            "this folder is not a DVC repository; work in a clone of the project, or run: git init && dvc init"
        )
    kept = collect(run, targets)
    sources = list(read_json(f"results/{run}/manifest.json")["sources"])
    tracked = to_track(run, sources, kept["records"])
    write_json(output, {**kept, "pointers": [f"{path}.dvc" for path in tracked]})
    logging.info("%s", run_dvc("add", "--quiet", *tracked))
    file = Path("dvc.yaml")
    known = yaml.safe_load(file.read_text(encoding="utf-8")) if file.is_file() else {}
    with atomic_open(file) as handle:
        handle.write(
            "# Written by `snakemake version`, for DVC to show and compare. No stages: Snakemake runs the pipeline.\n"
        )
        yaml.safe_dump(merge_runs(known or {}, run, describe_run(run, served, figures)), handle, sort_keys=False)
    remember(run, output)
    names = " ".join(["dvc.yaml", *(f"{path}.dvc" for path in tracked)])
    print(f"Gradus: recorded. To store it, run: git add {names} && git commit && dvc push")


if job := find_job(globals()):
    with logging_to(job.log[0]):
        version(job.params.run, job.input, job.params.served, job.params.figures, Path(job.output.records))
