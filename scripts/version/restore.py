"""Adopt a run that DVC restored: verify it, and tell Snakemake how it was made.

Called before Snakemake plans. A clone has neither Snakemake's records nor the files' dates, so Snakemake could not tell
whether the restored files are up to date. Both are stored with the run, in records.json. They are put in place here,
once, after every file has been hashed: DVC does not hash files that it takes from its cache.
"""

import os
import time
from pathlib import Path

from scripts.common.errors import GradusError
from scripts.common.hashing import sha256_file
from scripts.common.io import atomic_open, read_json
from scripts.common.snakemake_internals import OURS, TIMESTAMP, write_metadata
from scripts.version.dvc import SHOWN, cache_folder, faults


def stamp_of(run: str) -> Path:
    """Return the file that says which records of a run Snakemake already has in this folder."""
    return OURS / f"{run}.restored"


def remember(run: str, records: Path) -> None:
    """Record that Snakemake has these records."""
    with atomic_open(stamp_of(run)) as handle:
        handle.write(sha256_file(records))


def forget(run: str) -> None:
    """Discard a run's records, because jobs are about to change the run."""
    (Path("results") / run / "records.json").unlink(missing_ok=True)
    stamp_of(run).unlink(missing_ok=True)


def restore(run: str) -> bool:
    """Adopt the files of a run that DVC restored; return whether there was anything new.

    Raises GradusError that names the corrupted or changed files; then nothing is adopted.
    """
    records = Path("results") / run / "records.json"
    stamp = stamp_of(run)
    if not records.is_file() or (stamp.is_file() and stamp.read_text(encoding="utf-8") == sha256_file(records)):
        return False
    kept = read_json(records)
    cache = cache_folder()
    pointers = [Path(pointer) for pointer in kept["pointers"] if Path(pointer).is_file()]
    messages = [fault for pointer in pointers for fault in faults(pointer, cache)]
    if messages:
        more = f"\n  … and {len(messages) - SHOWN} more" if len(messages) > SHOWN else ""
        raise GradusError("what DVC restored cannot be used:\n  " + "\n  ".join(messages[:SHOWN]) + more)
    set_dates(kept["order"])
    write_metadata(kept["records"])
    remember(run, records)
    return True


def set_dates(paths: list[str]) -> None:
    """Set files' dates to now, each later than the previous one; a folder's date is in Snakemake's timestamp file."""
    now = time.time_ns()
    for number, path in enumerate(paths):
        moment = now - (len(paths) - number) * 1_000_000
        place = Path(path)
        if place.is_dir():
            os.utime(place, ns=(moment, moment))
            place = place / TIMESTAMP
            place.touch()
        if place.is_file():
            os.utime(place, ns=(moment, moment))
