"""DVC beside Snakemake: it keeps what the pipeline made, addressed by content; it runs nothing.

`python -m scripts.version.dvc` hashes what the pointers stand for, and every object in the cache; with `cache`, the
cache alone. DVC itself takes read-only files in its cache for good (treeverse/dvc#5978).
"""

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import yaml
from tqdm import tqdm

from scripts.common.errors import GradusError
from scripts.common.io import read_json

SHOWN = 3  # faults, of many


def find_dvc() -> str:
    """Return the path of the `dvc` command; raise GradusError that says how to get it."""
    beside = Path(sys.prefix) / "bin" / "dvc"
    found = str(beside) if beside.exists() else shutil.which("dvc")
    if not found:
        raise GradusError("DVC is not installed; `make tools` installs it")
    return found


def run_dvc(*arguments: str) -> str:
    """Run a DVC command in this folder and return what it prints; raise GradusError with its last words if it fails."""
    done = subprocess.run(
        [find_dvc(), *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "DVC_NO_ANALYTICS": "1"},
    )
    if done.returncode:
        words = [line for line in done.stderr.strip().splitlines() if line.startswith("ERROR")] or ["no message"]
        raise GradusError(f"dvc {arguments[0]} failed: {words[-1].removeprefix('ERROR: ')}")
    return done.stdout


def pointers() -> list[Path]:
    """Return the pointer files of this folder: of raw sources, and of runs."""
    return sorted([*Path("data/raw").glob("*.dvc"), *Path("results").glob("*.dvc")])


def md5(path: Path) -> str:
    """Return a file's md5, DVC's address of it."""
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def cache_folder() -> Path:
    """Return the folder of DVC's cache."""
    return Path(run_dvc("cache", "dir").strip())


def expected_files(pointer: Path, cache: Path) -> dict[Path, str]:
    """Return {file: md5} of what a pointer stands for.

    Raises GradusError if DVC's listing of the folder is not in the cache, or not what the pointer says.
    """
    out = yaml.safe_load(pointer.read_text(encoding="utf-8"))["outs"][0]
    place, address = pointer.parent / out["path"], out["md5"]
    if not address.endswith(".dir"):
        return {place: address}
    listing = cached(cache, address)
    if not listing.is_file():
        raise GradusError(f"{pointer}: what it stands for is not in DVC's cache; `dvc fetch {pointer}` brings it")
    if md5(listing) != address.removesuffix(".dir"):
        raise GradusError(f"{listing} is corrupted: it is DVC's listing of {place}. Delete it, then: {again(pointer)}")
    return {place / entry["relpath"]: entry["md5"] for entry in read_json(listing)}


def cached(cache: Path, address: str) -> Path:
    """Return where DVC's cache has the object of this md5."""
    return cache / "files" / "md5" / address[:2] / address[2:]


def again(pointer: Path) -> str:
    """Return the commands that bring what was deleted. DVC takes what is there for what it put there."""
    return f"dvc fetch {pointer} && dvc checkout {pointer}"


def faults(pointer: Path, cache: Path) -> Iterator[str]:
    """Yield what is wrong with the files that a pointer stands for; hashes each of them."""
    for file, address in tqdm(expected_files(pointer, cache).items(), desc=f"Verifying {pointer.stem}", unit="file"):
        if file.is_file() and md5(file) == address:
            continue
        kept = cached(cache, address)
        if kept.is_file() and md5(kept) != address:
            yield f"{file}: its object in DVC's cache, {kept}, is corrupted. Delete both, then: {again(pointer)}"
        elif file.is_file():
            yield f"{file} was changed since. Delete it, then: {again(pointer)}"
        else:
            yield f"{file} is missing. To have it back: {again(pointer)}"


def cache_faults() -> Iterator[str]:
    """Yield the objects in DVC's cache whose content is not what their name says."""
    objects = sorted(file for file in cache_folder().glob("files/md5/??/*") if file.is_file())
    for file in tqdm(objects, desc="Verifying DVC's cache", unit="file"):
        if md5(file) != file.parent.name + file.name.removesuffix(".dir"):
            yield f"{file} is corrupted; delete it and what was made of it, then: dvc fetch && dvc checkout"


def main() -> None:
    """Print each fault, a few of many, and exit with 1 if there is one."""
    try:
        found = list(cache_faults())
        if sys.argv[1:] != ["cache"]:
            cache = cache_folder()
            found += [fault for pointer in pointers() for fault in faults(pointer, cache)]
    except GradusError as error:
        found = [str(error)]
    if found:
        more = [f"… and {len(found) - SHOWN} more"] if len(found) > SHOWN else []
        sys.exit("Gradus: " + "\n  ".join([*found[:SHOWN], *more]))
    print("everything that DVC keeps here is what its pointer or name says")


if __name__ == "__main__":
    main()
