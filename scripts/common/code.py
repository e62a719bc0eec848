"""One fingerprint of the code that a rule runs: its script, the local modules that the script imports, and packages.

Snakemake's own code trigger uses the script's modification time and ignores imports. Rules put this fingerprint into
their `params` instead. An edit of a shared module, or a new version of a package, then reruns only the rules that use
it.
"""

import ast
import json
import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from importlib.util import resolve_name
from pathlib import Path
from typing import Any

from scripts.common.hashing import sha256_json, sha256_text
from scripts.common.packages import ROOT, needed_versions

CACHE = Path(".work/code.json")  # what each file imports, so that a plan parses only edited files


@cache
def find_module(name: str, root: Path = ROOT) -> Path | None:
    """Return the file of a local module or package; None if it does not exist."""
    place = root.joinpath(*name.split("."))
    options = (place / "__init__.py", place.with_name(f"{place.name}.py"))
    return next((file for file in options if file.is_file()), None)


def imported_names(source: str, package: str) -> list[str]:
    """Return the full names of all modules that a file of `package` may import, anywhere in the file, sorted.

    `from a import b` also yields `a.b`, which may be a module; `import a.b` also runs `a`.
    """
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = resolve_name("." * node.level + (node.module or ""), package)
            names |= {base, *(f"{base}.{alias.name}" for alias in node.names if alias.name != "*")}
    parts = [name.split(".") for name in names]
    return sorted({".".join(part[:depth]) for part in parts for depth in range(1, len(part) + 1)})


class _Files:
    """The sha256 of each local file and the names that it imports, cached between processes.

    A cache that is corrupt, or was written by another version of this file, is discarded.
    """

    def __init__(self) -> None:
        self.known: dict[str, Any] = {}
        self.changed = False
        self.code = sha256_text(Path(__file__).read_text(encoding="utf-8"))
        with suppress(OSError, ValueError):
            kept = json.loads(CACHE.read_text(encoding="utf-8"))
            if isinstance(kept, dict) and kept.get("code") == self.code and isinstance(kept.get("files"), dict):
                self.known = {path: entry for path, entry in kept["files"].items() if _is_entry(entry)}

    def look(self, path: Path, root: Path) -> tuple[str, list[str]]:
        """Return (sha256 of a file, full names that it imports; none if it is not Python)."""
        stat = path.stat()
        stamp = [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]
        entry = self.known.get(str(path))
        if entry is None or entry["stamp"] != stamp:
            source = path.read_text(encoding="utf-8")
            package = ".".join(path.parent.relative_to(root).parts)
            names = imported_names(source, package) if path.suffix == ".py" else []
            entry = self.known[str(path)] = {"stamp": stamp, "sha256": sha256_text(source), "imports": names}
            self.changed = True
        return entry["sha256"], entry["imports"]

    def save(self) -> None:
        """Save the cache for the next process, if the folder is writable."""
        if self.changed:
            part = CACHE.with_name(f".{CACHE.name}.{os.getpid()}")
            with suppress(OSError):
                CACHE.parent.mkdir(parents=True, exist_ok=True)
                part.write_text(json.dumps({"code": self.code, "files": self.known}), encoding="utf-8")
                os.replace(part, CACHE)
            self.changed = False


def _is_entry(entry: Any) -> bool:
    return isinstance(entry, dict) and set(entry) == {"stamp", "sha256", "imports"}


@cache
def _files() -> _Files:
    return _Files()


def local_files(start: Path, root: Path = ROOT) -> Iterator[tuple[Path, str, list[str]]]:
    """Yield (file, its sha256, full names that it imports) for a local file and all its direct and indirect imports."""
    todo, seen = [start], set()
    while todo:
        path = todo.pop()
        if path not in seen:
            seen.add(path)
            sha256, names = _files().look(path, root)
            yield path, sha256, names
            todo += [file for name in names if (file := find_module(name, root))]


def code_fingerprint(script: str, *others: str) -> str:
    """Return a hash of `scripts/<script>.py`, of every local module that it imports directly or indirectly, and of the
    pinned versions of the packages that these import, dependencies included.

    `others`: what a script uses without importing it: packages by name, files by their path in `scripts`.
    Comments and docstrings count.
    """
    files: dict[str, str] = {}
    packages = {name for name in others if "/" not in name}
    for start in (f"{script}.py", *(name for name in others if "/" in name)):
        for path, sha256, names in local_files(ROOT / "scripts" / start):
            files[path.relative_to(ROOT).as_posix()] = sha256
            packages |= {top for name in names if not find_module(top := name.partition(".")[0])}
    _files().save()
    return sha256_json([files, needed_versions(packages - sys.stdlib_module_names)])[:16]
