"""Fingerprints of values, files, folders and of the local code that a script runs."""

import ast
import hashlib
import json
import sys
from pathlib import Path
from typing import Any

from scripts.common.pins import ROOT, needed_versions


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


def _imports(source: str) -> tuple[set[Path], set[str]]:
    """Return (local modules, top-level names of all others) that a script imports anywhere in it."""
    local, others = set(), set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("scripts."):
            local.add(ROOT / (node.module.replace(".", "/") + ".py"))
        elif isinstance(node, ast.ImportFrom) and node.module:
            others.add(node.module.partition(".")[0])
        elif isinstance(node, ast.Import):
            others |= {alias.name.partition(".")[0] for alias in node.names}
    return local, others - sys.stdlib_module_names


def code_fingerprint(script: str, *packages: str) -> str:
    """Return a hash of `scripts/<script>.py`, of every local module that it imports, however deep, and of the pinned
    versions of the packages that these import, and of what those need in turn; `packages`: others that it runs.

    Snakemake's own code trigger goes by a script's date and sees the script alone; a rule gives this to `params` so
    that an edit of a shared module, or another version of a package, reruns the rules that use it, and no others.
    Comments count, docstrings too.
    """
    todo, seen, imported = [ROOT / "scripts" / f"{script}.py"], {}, set(packages)
    while todo:
        path = todo.pop()
        name = path.relative_to(ROOT).as_posix()
        if name not in seen:
            source = path.read_text(encoding="utf-8")
            seen[name] = sha256_text(source)
            local, others = _imports(source)
            todo.extend(local)
            imported |= others
    return sha256_json([seen, needed_versions(imported)])[:16]
