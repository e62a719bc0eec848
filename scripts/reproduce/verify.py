"""`make verify`: run the small pipeline twice, in two folders, and compare every byte.

Once on all cores and once on one: Snakemake then runs other jobs side by side. Out: results/verify.json, {equal, files,
differing, fingerprint, sources}; the first folder stays in .work/verify for `make faults`.
"""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from scripts.common.errors import GradusError
from scripts.common.hashing import ROOT
from scripts.common.io import read_json, write_json
from scripts.common.project import copy_sources, source_fingerprint
from scripts.reproduce.compare_runs import compare_bits

CONFIG = "config/runs/tiny.yaml"
MANIFEST = Path("results") / "tiny" / "manifest.json"
FOLDER = ROOT / ".work" / "verify"
RESULT = ROOT / "results" / "verify.json"


def lay_out(folder: Path) -> Path:
    """Make a fresh copy of the project in `folder`, with what was fetched already, as hard links."""
    shutil.rmtree(folder, ignore_errors=True)
    copy_sources(folder)
    if (fetched := ROOT / "data" / "raw").is_dir():
        shutil.copytree(fetched, folder / "data" / "raw", copy_function=os.link)
    return folder


def verified() -> Path | None:
    """Return the folder of the first run, if one was made of the sources as they are now and both runs were equal."""
    known = read_json(RESULT) if RESULT.is_file() else {}
    whole = known.get("equal") and known.get("sources") == source_fingerprint()
    return FOLDER / "first" if whole and (FOLDER / "first" / MANIFEST).is_file() else None


def run(folder: Path, cores: int) -> float:
    """Run the small pipeline in `folder`; return seconds. Raises GradusError if it fails."""
    began = time.monotonic()
    command = [sys.executable, "-m", "snakemake", "--cores", str(cores), "--configfile", CONFIG]
    with open(folder / "verify.log", "w", encoding="utf-8") as log:
        done = subprocess.run(command, cwd=folder, stdout=log, stderr=subprocess.STDOUT, check=False)
    if done.returncode:
        raise GradusError(f"the run in {folder} failed; see {folder / 'verify.log'}")
    return time.monotonic() - began


def verify() -> bool:
    """Run twice, write results/verify.json, return whether all is equal."""
    manifests = []
    for name, cores in (("first", os.cpu_count() or 1), ("second", 1)):
        folder = lay_out(FOLDER / name)
        print(f"Gradus: {name} run, {cores} core{'s' * (cores > 1)}: some minutes …", flush=True)
        seconds = run(folder, cores)
        print(f"Gradus: {name} run done in {seconds / 60:.1f} minutes", flush=True)
        manifests.append(read_json(folder / MANIFEST))
    found = compare_bits(*manifests)
    found |= {"fingerprint": manifests[0]["fingerprint"], "sources": source_fingerprint()}
    write_json(RESULT, found)
    counts = f"{len(found['files'])} files compared, {len(found['differing'])} differ"
    print(f"Gradus: {counts}; see {RESULT.relative_to(ROOT)}")
    for name, pair in found["differing"].items():
        print(f"  {name}: {pair[0]} against {pair[1]}")
    return bool(found["equal"])


if __name__ == "__main__":
    try:
        sys.exit(not verify())
    except GradusError as error:
        sys.exit(f"Gradus: {error}")
