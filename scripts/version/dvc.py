"""DVC alongside Snakemake: it stores the pipeline's outputs by content; it does not run anything.

`python -m scripts.version.dvc` verifies the files that the pointers refer to and every object in the cache by their
hashes; with `cache`, only the cache. DVC itself trusts read-only files in its cache (treeverse/dvc#5978).
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

SHOWN = 3  # how many faults to print


def find_dvc() -> str:
    """Return the path of the `dvc` command; raise GradusError that says how to install it."""
    installed = Path(sys.prefix) / "bin" / "dvc"
    path = str(installed) if installed.exists() else shutil.which("dvc")
    if not path:
        raise GradusError("DVC is not installed; `make tools` installs it")
    return path


def run_dvc(*arguments: str) -> str:
    """Run a DVC command in this folder and return its output; raise GradusError with its last error if it fails."""
    done = subprocess.run(
        [find_dvc(), *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "DVC_NO_ANALYTICS": "1"},
    )
    if done.returncode:
        errors = [line for line in done.stderr.strip().splitlines() if line.startswith("ERROR")] or ["no message"]
        raise GradusError(f"dvc {arguments[0]} failed: {errors[-1].removeprefix('ERROR: ')}")
    return done.stdout


def pointers() -> list[Path]:
    """Return the pointer files in this folder: of raw sources and of runs."""
    return sorted([*Path("data/raw").glob("*.dvc"), *Path("results").glob("*.dvc")])


def md5(path: Path) -> str:
    """Return a file's md5, which is its address in DVC."""
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def cache_folder() -> Path:
    """Return the folder of DVC's cache."""
    return Path(run_dvc("cache", "dir").strip())


def expected_files(pointer: Path, cache: Path) -> dict[Path, str]:
    """Return {file: md5} of the files that a pointer refers to.

    Raises GradusError if DVC's listing of a folder is not in the cache, or does not match the pointer.
    """
    out = yaml.safe_load(pointer.read_text(encoding="utf-8"))["outs"][0]
    place, address = pointer.parent / out["path"], out["md5"]
    if not address.endswith(".dir"):
        return {place: address}
    listing = cached(cache, address)
    if not listing.is_file():
        raise GradusError(f"{pointer}: its data are not in DVC's cache; run `dvc fetch {pointer}`")
    if md5(listing) != address.removesuffix(".dir"):
        raise GradusError(
            f"{listing} is corrupted: it is DVC's listing of {place}. Delete it, then run: {again(pointer)}"
        )
    return {place / entry["relpath"]: entry["md5"] for entry in read_json(listing)}


def cached(cache: Path, address: str) -> Path:
    """Return the path in DVC's cache of the object with this md5."""
    return cache / "files" / "md5" / address[:2] / address[2:]


def again(pointer: Path) -> str:
    """Return the commands that restore deleted files. DVC does not check files that are already there."""
    return f"dvc fetch {pointer} && dvc checkout {pointer}"


def faults(pointer: Path, cache: Path) -> Iterator[str]:
    """Yield the faults of the files that a pointer refers to; hashes each of them."""
    for file, address in tqdm(expected_files(pointer, cache).items(), desc=f"Verifying {pointer.stem}", unit="file"):
        if file.is_file() and md5(file) == address:
            continue
        kept = cached(cache, address)
        if kept.is_file() and md5(kept) != address:
            yield f"{file}: its object in DVC's cache, {kept}, is corrupted. Delete both, then run: {again(pointer)}"
        elif file.is_file():
            yield f"{file} has changed since. Delete it, then run: {again(pointer)}"
        else:
            yield f"{file} is missing. To restore it, run: {again(pointer)}"


def cache_faults() -> Iterator[str]:
    """Yield the objects in DVC's cache whose content does not match their name."""
    objects = sorted(file for file in cache_folder().glob("files/md5/??/*") if file.is_file())
    for file in tqdm(objects, desc="Verifying DVC's cache", unit="file"):
        if md5(file) != file.parent.name + file.name.removesuffix(".dir"):
            yield f"{file} is corrupted. Delete it and its copies elsewhere, then run: dvc fetch && dvc checkout"


def main() -> None:
    """Print the first few faults and exit with 1, or print that there are none."""
    try:
        messages = list(cache_faults())
        if sys.argv[1:] != ["cache"]:
            cache = cache_folder()
            messages += [fault for pointer in pointers() for fault in faults(pointer, cache)]
    except GradusError as error:
        messages = [str(error)]
    if messages:
        more = [f"… and {len(messages) - SHOWN} more"] if len(messages) > SHOWN else []
        sys.exit("Gradus: " + "\n  ".join([*messages[:SHOWN], *more]))
    print("all files that DVC keeps here are intact")


if __name__ == "__main__":
    main()
