"""One run at a time in a folder, and no jobs of a dead run beside a living one.

Snakemake's own lock outlives a killed run and must then be taken away by hand. This one is the kernel's: it ends with
the process that holds it, however that ends. The jobs of a killed run are processes of their own and go on, so the next
run ends them before it starts its own. docs/reproducibility.md.
"""

import fcntl
import os
import socket
from pathlib import Path
from typing import IO

import psutil

from scripts.common.errors import GradusError

VARIABLE = "GRADUS_RUN"  # in the environment of every job: whose it is
_held: list[IO[str]] = []


def mark() -> None:
    """Mark this process's environment, and with it that of all its jobs, as of one run."""
    me = psutil.Process()
    os.environ[VARIABLE] = f"{socket.gethostname()}:{me.pid}:{me.create_time()}"


def require_writable(*places: str | Path) -> None:
    """Raise GradusError that names a folder, of these and those in them, in which nothing can be written."""
    for place in map(Path, places):
        folders = [place, *(folder for folder in sorted(place.rglob("*")) if folder.is_dir())] if place.is_dir() else []
        for folder in folders:
            if not os.access(folder, os.W_OK | os.X_OK):
                raise GradusError(f"the folder {folder} cannot be written; mend its permissions and run again")


def jobs_of(run: str) -> list[psutil.Process]:
    """Return the processes on this machine that carry a run's mark."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(VARIABLE) == run:
                found.append(process)
        except psutil.Error:  # ended meanwhile, or another user's
            continue
    return found


def hold(path: str | Path) -> int:
    """Take the folder for this run until it ends; end what a killed one left running; return how many that were.

    `path`: the lock's file, which says whose run is or was the last. Call `mark` before.
    Raises GradusError if another run is at work in the folder.
    """
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    handle = open(path, "a+", encoding="utf-8")  # noqa: SIM115 - as long as it is open, the lock is held
    handle.seek(0)
    last = handle.read().strip()
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        handle.close()
        number = last.split(":")[1] if last.count(":") == 2 else "unknown"
        raise GradusError(
            f"another run is at work in this folder (process {number}); wait for its end, or stop it"
        ) from None
    except OSError:
        # a network file system without locks: two runs at once are then the user's to avoid, and the last may be alive
        handle.close()
        return 0
    _held.append(handle)
    left = jobs_of(last) if last and last != os.environ[VARIABLE] else []
    for process in left:
        process.kill()
    psutil.wait_procs(left, timeout=10)
    handle.truncate(0)
    handle.write(os.environ[VARIABLE])
    handle.flush()
    return len(left)
