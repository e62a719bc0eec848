"""Record the provenance of every file of a run: its content, the rule and inputs that made it, and the machine.

In: the run's results, Snakemake's own records of how each was made, the resolved config. Out: manifest.json, and the
resolved config as a file.
"""

import os
import subprocess
import sys
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml
from tqdm import tqdm

from scripts.common.chat import read_contract
from scripts.common.gpus import offloads, visible_gpus
from scripts.common.hashing import sha256_file, sha256_folder, sha256_json
from scripts.common.io import atomic_open, write_json
from scripts.common.isolate import run_isolated
from scripts.common.job import find_job
from scripts.common.logs import logging_to
from scripts.common.machine import describe_cpu, fingerprint
from scripts.common.packages import installed_packages
from scripts.common.snakemake_internals import ancestors, code_of, read_metadata


def describe(path: str) -> dict[str, Any]:
    """Return sha256 and size in bytes of a file; for a folder, also of each file in it."""
    place = Path(path)
    if place.is_dir():
        files = [f for f in sorted(place.rglob("*")) if f.is_file() and not f.name.startswith(".")]
        listed = {f.relative_to(place).as_posix(): {"sha256": sha256_file(f), "bytes": f.stat().st_size} for f in files}
        return {"sha256": sha256_folder(path), "bytes": sum(f["bytes"] for f in listed.values()), "files": listed}
    return {"sha256": sha256_file(place), "bytes": place.stat().st_size}


def iso(seconds: float) -> str:
    """Return a time as ISO 8601, in UTC."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


def list_artifacts(targets: Iterable[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return ({path: facts about an artifact}, {path: sha256 and bytes of a source file}) that `targets` depend on.

    An artifact's `inputs` are {path: sha256}; the sha256 of a temporary file is null.
    """
    records = ancestors(read_metadata(), sorted(targets))
    named = {path for record in records.values() for path in record["input"]} | set(records)
    facts: dict[str, dict[str, Any]] = {}
    for path in tqdm(sorted(named), desc="Hashing", unit="file", file=sys.stderr):
        facts[path] = describe(path) if Path(path).exists() else {"sha256": None, "bytes": None}
    artifacts = {}
    for path, record in sorted(records.items()):
        artifacts[path] = {
            **facts[path],
            "rule": record["rule"],
            "inputs": {name: facts[name]["sha256"] for name in sorted(record["input"])},
            "code": code_of(record),
            "started": iso(record["starttime"]),
            "seconds": round(record["endtime"] - record["starttime"], 1),
        }
    return artifacts, {path: facts[path] for path in sorted(named - set(records))}


def git_state() -> dict[str, Any]:
    """Return {commit, dirty, changed: files that differ from it} of this folder; nulls without git."""
    try:
        outputs = [
            subprocess.run(["git", *command], capture_output=True, text=True, check=True).stdout
            for command in (["rev-parse", "HEAD"], ["status", "--porcelain", "--untracked-files=no"])
        ]
    except (OSError, subprocess.CalledProcessError):
        return {"commit": None, "dirty": None, "changed": None}
    changed = [line[3:] for line in outputs[1].splitlines()]
    return {"commit": outputs[0].strip(), "dirty": bool(changed), "changed": changed}


def llama_build() -> str:
    """Return how llama.cpp was built: its own list of instruction sets. Run this isolated."""
    import llama_cpp

    return str(llama_cpp.llama_print_system_info().decode()).strip()


def make_manifest(config: Mapping[str, Any], targets: Iterable[str], contract: str | Path) -> dict[str, Any]:
    """Return the manifest. `targets`: the run's targets; everything that they depend on is listed."""
    build = run_isolated("asking llama.cpp how it was built", llama_build)
    layers, gpus = config["evaluate"]["gpu_layers"], visible_gpus()
    if offloads(layers, len(gpus)):
        build += f" gpu_layers = {layers}, {' and '.join(sorted(set(gpus.values())))}"
    artifacts, sources = list_artifacts(targets)
    git = git_state()
    packages = installed_packages()
    threads = {stage: config[stage]["threads"] for stage in ("train", "evaluate")}
    return {
        "run": config["run"],
        "made": iso(datetime.now(UTC).timestamp()),
        "git": git,
        "config": dict(config),
        "config_sha256": sha256_json(config),
        "chat_contract": read_contract(contract).hash,
        "fingerprint": fingerprint(threads, build),
        "cpu": {**describe_cpu(), "cores": os.cpu_count()},
        "llama_cpp": {"llama-cpp-python": version("llama-cpp-python"), "built_with": build},
        "packages": packages,
        "artifacts": artifacts,
        "sources": sources,
    }


def write_config(path: str | Path, config: Mapping[str, Any]) -> None:
    """Write the resolved config, which can be run again as it is: `snakemake --configfile <path>`."""
    with atomic_open(path) as handle:
        handle.write("# The resolved config of this run, defaults filled in.\n")
        yaml.safe_dump(dict(config), handle, sort_keys=False, allow_unicode=True, width=120)


if job := find_job(globals()):
    with logging_to(job.log[0]):
        write_config(job.output.config, job.params.config)
        write_json(job.output.manifest, make_manifest(job.params.config, job.input, job.input.contract))
