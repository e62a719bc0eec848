"""Gradus's source files: list, hash and copy them."""

import shutil
from pathlib import Path

from scripts.common.hashing import ROOT, sha256_file, sha256_json

SOURCES = ["Snakefile", "rules", "scripts", "config", "profiles", "envs"]


def source_files() -> list[Path]:
    """Return the files that make up the pipeline, relative to the project."""
    files = []
    for name in SOURCES:
        place = ROOT / name
        files += [place] if place.is_file() else [file for file in sorted(place.rglob("*")) if file.is_file()]
    return [file.relative_to(ROOT) for file in files if "__pycache__" not in file.parts]


def source_fingerprint() -> str:
    """Return one sha256 over all source files."""
    return sha256_json({file.as_posix(): sha256_file(ROOT / file) for file in source_files()})


def copy_sources(folder: Path) -> None:
    """Copy the source files into a folder, which may already exist."""
    for file in source_files():
        target = folder / file
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / file, target)
