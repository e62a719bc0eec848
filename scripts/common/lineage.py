"""Snakemake's own record of each file that it made: rule, inputs, params, times. Kept in .snakemake/metadata.

A file of records is named after the path it is of, in base64, in pieces if that is long.
"""

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from pathlib import Path
from typing import Any

STORE = Path(".snakemake/metadata")
LONGEST = 254  # of a piece; longer names are folders that begin with @


def read_metadata(store: Path = STORE) -> dict[str, dict[str, Any]]:
    """Return {path: record} of every file that Snakemake has made in this folder."""
    found = {}
    for file in sorted(store.rglob("*")):
        if file.is_file():
            name = "".join(piece.removeprefix("@") for piece in file.relative_to(store).parts)
            try:
                found[urlsafe_b64decode(name).decode()] = json.loads(file.read_text(encoding="utf-8"))
            except ValueError:  # cut short by a kill; Snakemake passes over it, too
                continue
    return found


def write_metadata(records: dict[str, dict[str, Any]], store: Path = STORE) -> None:
    """Give Snakemake the records of files that it did not make here."""
    for path, record in records.items():
        name = urlsafe_b64encode(path.encode()).decode()
        pieces = [name[start : start + LONGEST] for start in range(0, len(name), LONGEST)]
        file = store.joinpath(*(f"@{piece}" for piece in pieces[:-1]), pieces[-1])
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(record), encoding="utf-8")


def ancestors(records: dict[str, dict[str, Any]], targets: list[str]) -> dict[str, dict[str, Any]]:
    """Return the records of `targets`, of everything that they were made of, and of what the same jobs made besides."""
    jobs: dict[tuple[str, ...], list[str]] = {}  # by the log, which is a job's own
    for path, record in records.items():
        jobs.setdefault((record["rule"], *record["log"]), []).append(path)
    found: dict[str, dict[str, Any]] = {}
    todo = list(targets)
    while todo:
        path = todo.pop(0)
        if path in records and path not in found:
            record = found[path] = records[path]
            todo += [*record["input"], *jobs[record["rule"], *record["log"]]]
    return found
