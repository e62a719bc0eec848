"""Hashes of values, files and folders."""

import hashlib
import json
from pathlib import Path
from typing import Any

from scripts.common.packages import ROOT as ROOT


def sha256_text(text: str) -> str:
    """Return the sha256 of a text's UTF-8 bytes, in hex."""
    return hashlib.sha256(text.encode()).hexdigest()


_JSON = json.JSONEncoder(sort_keys=True, ensure_ascii=False)  # made once: `json.dumps` would make one for each value


def sha256_json(value: Any) -> str:
    """Return the sha256 of a JSON value, independent of key order."""
    return sha256_text(_JSON.encode(value))


def sha256_file(path: str | Path) -> str:
    """Return the sha256 of a file's bytes, in hex."""
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def sha256_folder(path: str | Path) -> str:
    """Return one sha256 for a folder, over its files' relative names and sha256s, without hidden files."""
    path = Path(path)
    names = sorted(
        file.relative_to(path).as_posix()
        for file in path.rglob("*")
        if file.is_file() and not file.name.startswith(".")
    )
    return sha256_json({name: sha256_file(path / name) for name in names})


def unit_hash(*parts: object) -> float:
    """Return a number in [0, 1) that depends only on `parts`."""
    digest = hashlib.sha256("\0".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:6]) / 2**48
