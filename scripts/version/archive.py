"""Pack a tar archive that a reviewer can unpack and rerun offline.

In: the sources, the lock files, the raw data, the run's manifest and resolved config, DVC's pointers, the answers of
models behind an API; wheels if requested. Out: the tar, with fixed dates, owners and order: the same content gives the
same bytes.
"""

import io
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterable
from pathlib import Path

from scripts.common.endpoints import CACHE
from scripts.common.errors import GradusError
from scripts.common.io import atomic_path, read_json, read_jsonl
from scripts.common.job import find_job
from scripts.common.logs import logging_to
from scripts.common.project import source_files
from scripts.common.snakemake_internals import TIMESTAMP

ALSO = [
    "Makefile",
    "pyproject.toml",
    "README.md",
    "LICENSE",
    "CITATION.cff",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "dvc.yaml",
]
README = """This is {run}, a run of Gradus, with everything that it was made from.

    make{wheels} CONFIG={folder}/config.yaml     runs it again, offline once the packages are installed
    {folder}/manifest.json         describes every file of the original run
    python3 -m scripts.reproduce.compare_runs {folder}/manifest.json results/{run}/manifest.json     compares both runs

"""


def add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    """Add a file with this name and content."""
    info = tarfile.TarInfo(name)  # date 0, owner 0, mode 0644
    info.size = len(content)
    archive.addfile(info, io.BytesIO(content))


def files_under(places: Iterable[Path]) -> list[Path]:
    """Return these files and the files in these folders, sorted, without caches and Snakemake's timestamps."""
    files = []
    for place in places:
        files += [place] if place.is_file() else [file for file in place.rglob("*") if file.is_file()]
    return sorted(file for file in files if "__pycache__" not in file.parts and file.name != TIMESTAMP)


def build_wheels(folder: Path) -> list[Path]:
    """Build or fetch a wheel of every pinned package into `folder`. Uses the network."""
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--wheel-dir", str(folder)]
    pins = ["--constraint", "envs/requirements.lock"]
    for what in (["--requirement", "envs/requirements.in"], ["--no-deps", "--requirement", "envs/converter.in"]):
        done = subprocess.run([*command, *pins, *what], capture_output=True, text=True, check=False)
        if done.returncode:
            raise GradusError(
                f"pip could not build the wheels: {(done.stderr.strip().splitlines() or ['no message'])[-1]}"
            )
    return sorted(folder.glob("*.whl"))


def kept_replies(asked: Iterable[str | Path], judged: Iterable[str | Path]) -> list[Path]:
    """Return the files in which the answers of models behind an API are kept, so that nobody pays for them again.
    Answers of other runs are not among them. `asked`: the answers files of these models; `judged`: what is known of
    the judge.
    """
    names = {row["kept"] for path in asked for row in read_jsonl(path)}
    names.update(name for path in judged for name in read_json(path)["kept"])
    places = sorted(CACHE / name for name in names)
    there = [place for place in places if place.is_file()]
    if len(there) < len(places):
        told = f"{len(places) - len(there)} of {len(places)} answers of models behind an API are not in {CACHE}"
        print(f"Gradus: {told}; whoever unpacks the archive will have to ask for them again", file=sys.stderr)
    return there


def pack(
    run: str,
    given: Iterable[str],
    asked: Iterable[str | Path],
    judged: Iterable[str | Path],
    wheels: bool,
    output: str | Path,
) -> None:
    """Write the tar archive. `given`: fetched sources and the user's files, relative to this folder; `asked`, `judged`:
    see kept_replies.
    """
    root = f"gradus-{run}"
    kept = Path("archive") / run  # not in results/: Snakemake would treat it as the run itself
    outside = [path for path in given if Path(path).is_absolute() or ".." in Path(path).parts]
    if outside:
        raise GradusError(
            f"{outside[0]} is outside this folder, so a reviewer would not have it; move it into the project"
        )
    places = [Path(name) for name in [*ALSO, "docs", ".dvc/config", ".dvc/plots"] if Path(name).exists()]
    places += [*source_files(), *map(Path, given), *Path("results").glob("*.dvc"), *Path("data/raw").glob("*.dvc")]
    places += kept_replies(asked, judged)
    with atomic_path(output) as part, tempfile.TemporaryDirectory() as scratch, tarfile.open(part, "w") as archive:
        readme = README.format(run=run, folder=kept.as_posix(), wheels=" WHEELS=wheels" if wheels else "")
        add(archive, f"{root}/ARCHIVE.txt", readme.encode())
        for name in ("config.yaml", "manifest.json", "metrics.json", "sbom.cdx.json", "report.html"):
            add(archive, f"{root}/{kept.as_posix()}/{name}", (Path("results") / run / name).read_bytes())
        for file in files_under(places):
            add(archive, f"{root}/{file.as_posix()}", file.read_bytes())
        for file in build_wheels(Path(scratch)) if wheels else []:
            add(archive, f"{root}/wheels/{file.name}", file.read_bytes())


if job := find_job(globals()):
    with logging_to(job.log[0]):
        pack(job.params.run, job.params.given, job.input.asked, job.input.judged, job.params.wheels, job.output.archive)
