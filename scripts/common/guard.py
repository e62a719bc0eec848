"""Only one run at a time in a folder, and no leftover jobs of a killed run beside the next one.

Snakemake's own lock outlives a killed run and must then be removed by hand. This one is a kernel lock: it is released
when the process that holds it ends, however it ends. The jobs of a killed run are separate processes that continue, so
the next run kills them before it starts its own. See docs/reproducibility.md.
"""

import fcntl
import os
import socket
import time
from pathlib import Path
from typing import IO

import psutil

from scripts.common.errors import GradusError

VARIABLE = "GRADUS_RUN"  # in the environment of every job: the run that it belongs to
APART = 5.0  # seconds by which clocks may differ
_held: list[IO[str]] = []


def mark() -> None:
    """Mark the environment of this process, and so that of all its jobs, as belonging to this run."""
    me = psutil.Process()
    os.environ[VARIABLE] = f"{socket.gethostname()}:{me.pid}:{me.create_time()}"


def require_writable(*places: str | Path) -> None:
    """Raise GradusError that names a folder, among these and their subfolders, that is not writable."""
    for place in map(Path, places):
        folders = [place, *(folder for folder in sorted(place.rglob("*")) if folder.is_dir())] if place.is_dir() else []
        for folder in folders:
            if not os.access(folder, os.W_OK | os.X_OK):
                raise GradusError(f"the folder {folder} is not writable; fix its permissions and run again")


def jobs_of(run: str) -> list[psutil.Process]:
    """Return the processes on this machine that carry a run's mark."""
    jobs = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(VARIABLE) == run:
                jobs.append(process)
        except psutil.Error:  # it has ended, or belongs to another user
            continue
    return jobs


def clock_warnings(path: str | Path, now: float) -> list[str]:
    """Return a warning if the clock that dates files is not this machine's; `path`: a file just written, at `now`."""
    apart = Path(path).stat().st_mtime - now
    if abs(apart) < APART:
        return []
    return [
        f"the file server's clock is {abs(apart):.0f} s {'ahead of' if apart > 0 else 'behind'} this machine's. "
        "Results stay right, for files are compared by content; times in logs and in the report do not. Have the "
        "clocks synchronized (NTP)"
    ]


def hold(path: str | Path) -> tuple[int | None, list[str]]:
    """Lock the folder for this run; kill the jobs that a killed run left. Return their number, and warnings. None: the
    file system has no locks, so that the last run can still be alive.

    `path`: the lock file, which names the current or last run. Call `mark` first.
    Raises GradusError if another run is active in the folder.
    """
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    handle = open(path, "a+", encoding="utf-8")  # noqa: SIM115 - the lock is held as long as the file is open
    handle.seek(0)
    last = handle.read().strip()
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        handle.close()
        number = last.split(":")[1] if last.count(":") == 2 else "unknown"
        raise GradusError(
            f"another run is active in this folder (process {number}); wait until it ends, or stop it"
        ) from None
    except OSError:
        # a network file system without locks: the user must avoid two runs at once, also with the last one
        handle.close()
        return None, [
            "this folder's file system has no locks, so a second run in it would not be noticed: start none before "
            "this one has ended. (NFS: mount it with locks; Lustre: with -o flock)"
        ]
    _held.append(handle)
    left = jobs_of(last) if last and last != os.environ[VARIABLE] else []
    for process in left:
        process.kill()
    psutil.wait_procs(left, timeout=10)
    handle.truncate(0)
    handle.write(os.environ[VARIABLE])
    handle.flush()
    return len(left), clock_warnings(path, time.time())
