"""Fingerprints of values, files, folders and of the local code that a script runs."""

import ast
import hashlib
import json
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


def sha256_text(text: str) -> str:
    """Return the sha256 of a text's UTF-8 bytes, in hex."""
    return hashlib.sha256(text.encode()).hexdigest()


def sha256_json(value: Any) -> str:
    """Return the sha256 of a JSON value, whatever the order of its keys."""
    return sha256_text(json.dumps(value, sort_keys=True, ensure_ascii=False))


def sha256_file(path: str | Path) -> str:
    """Return the sha256 of a file's bytes, in hex."""
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def sha256_folder(path: str | Path) -> str:
    """Return one sha256 for a folder: of its files' relative names and sha256s, hidden files left out."""
    path = Path(path)
    names = sorted(
        file.relative_to(path).as_posix()
        for file in path.rglob("*")
        if file.is_file() and not file.name.startswith(".")
    )
    return sha256_json({name: sha256_file(path / name) for name in names})


def _local_imports(source: str) -> set[Path]:
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("scripts."):
            found.add(ROOT / (node.module.replace(".", "/") + ".py"))
    return found


def code_fingerprint(script: str) -> str:
    """Return a hash of `scripts/<script>.py` and of every local module that it imports, however deep.

    Snakemake's code trigger sees the script alone; a rule gives this to `params` so that an edit of
    a shared module reruns the rules that use it, and no others. Comments count, docstrings too.
    """
    todo, seen = [ROOT / "scripts" / f"{script}.py"], {}
    while todo:
        path = todo.pop()
        name = path.relative_to(ROOT).as_posix()
        if name not in seen:
            source = path.read_text(encoding="utf-8")
            seen[name] = sha256_text(source)
            todo.extend(_local_imports(source))
    return sha256_json(seen)[:16]
