"""Run the small pipeline once, for all tests and tools that only read its results.

There are two reference runs: `real`, on the real small model, and `random`, on random weights, which is faster. A
reference run is made when it is first needed, and again when the project's sources have changed. Out:
.work/reference/<base>/, a copy of the project with its results; reference.json in it records the sources.
"""

import fcntl
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import yaml

from scripts.common.errors import GradusError
from scripts.common.hashing import ROOT, sha256_file
from scripts.common.io import read_json, write_json
from scripts.common.project import copy_sources, source_fingerprint
from scripts.reproduce import random_base

CONFIG = "tiny.yaml"  # in the top folder of each copy
RESULTS = Path("results") / "tiny"
FOLDER = ROOT / ".work" / "reference"
BASE_NAME = "random/llama"
# in the folder of fetched files: copies of the project need it, too; its name changes with the code that makes it
RANDOM_BASE = f"data/raw/random-base-{sha256_file(random_base.__file__)[:8]}"


def config_of(base: str) -> str:
    """Return the small pipeline's config, with the `real` or the `random` base, as YAML."""
    text = (ROOT / "config" / "runs" / "tiny.yaml").read_text(encoding="utf-8")
    if base == "real":
        return text
    config = yaml.safe_load(text)
    own = {"source": f"path:{RANDOM_BASE}", "gguf": None, "license": "Apache-2.0", "name": BASE_NAME}
    config["base_model"] = own
    config["fidelity"]["quant_agreement"] = 0.2  # with random weights, many tokens are almost equally likely
    return yaml.safe_dump(config, sort_keys=False)


def link_fetched(folder: Path) -> None:
    """Link the files that this project or a reference run has fetched into `folder`/data/raw; all are pinned."""
    runs = [run for run in sorted(FOLDER.glob("*/data/raw")) if run.parents[1].suffix != ".new"]
    places = [place for place in (ROOT / "data" / "raw", *runs) if place.is_dir()]
    for fetched in (item for place in places for item in sorted(place.glob("[!.]*")) if item.is_dir()):
        target = folder / "data" / "raw" / fetched.name
        stale = fetched.name.startswith("random-base") and fetched.name != Path(RANDOM_BASE).name
        if not stale and not target.exists():
            shutil.copytree(fetched, target, copy_function=os.link)


def lay_out(folder: Path, base: str) -> Path:
    """Create a new copy of the project in `folder`, ready to run."""
    new = folder.with_name(f"{folder.name}.new")  # link the old copy's fetched files before deleting it
    shutil.rmtree(new, ignore_errors=True)
    copy_sources(new)
    link_fetched(new)
    (new / CONFIG).write_text(config_of(base), encoding="utf-8")
    if base == "random" and not (new / RANDOM_BASE).is_dir():
        # in a separate process: torch's threads would stay in this one
        command = [sys.executable, "-m", "scripts.reproduce.random_base", str(new / RANDOM_BASE)]
        subprocess.run(command, cwd=ROOT, check=True)
    shutil.rmtree(folder, ignore_errors=True)
    return new.rename(folder)


def run(folder: Path, cores: int, *targets: str) -> float:
    """Run the small pipeline in `folder`, all or some targets; return the seconds. Raises GradusError if it fails."""
    began = time.monotonic()
    command = [sys.executable, "-m", "snakemake", *targets, "--cores", str(cores), "--configfile", CONFIG]
    # the copy is inside a repository, but not part of it
    environment = {**os.environ, "GIT_CEILING_DIRECTORIES": str(folder.parent)}
    with open(folder / "run.log", "w", encoding="utf-8") as log:
        done = subprocess.run(command, cwd=folder, stdout=log, stderr=subprocess.STDOUT, env=environment, check=False)
    if done.returncode:
        raise GradusError(f"the run in {folder} failed; see {folder / 'run.log'}")
    return time.monotonic() - began


def reference(base: str) -> Path:
    """Return the folder of the finished run on `base`; run it first if there is none of the current sources.

    Of several processes that ask for it at once, one runs it, and the others wait.
    """
    place = FOLDER / base
    place.parent.mkdir(parents=True, exist_ok=True)
    with open(f"{place}.lock", "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        run_if_changed(base, place)
    return place


def run_if_changed(base: str, place: Path) -> None:
    """Run the small pipeline in `place`, unless it was run there with the current sources."""
    note = place / "reference.json"
    sources = source_fingerprint()
    if not note.is_file() or read_json(note)["sources"] != sources:
        print(
            f"Gradus: running the small pipeline on the {base} model; this takes a few minutes …",
            file=sys.stderr,
            flush=True,
        )
        cores = os.cpu_count() or 1
        seconds = run(lay_out(place, base), cores)
        write_json(note, {"sources": sources, "cores": cores, "seconds": round(seconds)})
