"""What a run on SLURM needs to know of the cluster before its first job, and the jobs that a killed run left there.

Snakemake's SLURM executor submits and follows jobs; nothing here does.
"""

import re
import shutil
import subprocess
import time
from collections.abc import Iterable
from pathlib import Path

from scripts.common.errors import GradusError

PATIENCE = 60.0  # seconds that canceled jobs may take to end


def _ask(*command: str) -> str:
    """Return what a command of SLURM prints. Raises GradusError if it cannot."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        fault = done.stderr.strip() if done.returncode else ""
    except (OSError, subprocess.TimeoutExpired) as error:
        fault = str(error)
    if fault:
        raise GradusError(
            f"SLURM does not answer: {command[0]} says: {fault.splitlines()[0]}. Start the run on a machine from which "
            "`sinfo` and `sbatch` work, usually a login node"
        )
    return done.stdout


def require_partitions(wanted: Iterable[tuple[str | None, bool]]) -> None:
    """Raise GradusError if jobs want a partition that the cluster does not have, or a GPU of one that has none.

    `wanted`: (partition, None for the cluster's default; whether a GPU is wanted) of jobs.
    """
    gpus: dict[str, bool] = {}  # {partition: whether a node of it has a GPU}
    default = ""
    for line in _ask("sinfo", "--noheader", "--format=%P|%G").splitlines():
        name, _, devices = line.strip().partition("|")
        known = name.removesuffix("*")
        default = known if name.endswith("*") else default
        gpus[known] = gpus.get(known, False) or "gpu" in devices
    there = ", ".join(sorted(gpus)) or "none"
    for asked, gpu in sorted(set(wanted), key=str):
        partition = asked or default
        if not partition:
            raise GradusError(
                "this cluster has no default partition: set slurm_partition in profiles/slurm/config.yaml (it has "
                f"{there})"
            )
        if partition not in gpus:
            raise GradusError(
                f"this cluster has no partition {partition} (it has {there}): mend slurm_partition in "
                "profiles/slurm/config.yaml"
            )
        if gpu and not gpus[partition]:
            raise GradusError(
                f"jobs want a GPU, but no node of the partition {partition} has one (`sinfo --format='%P %G'`): set "
                "slurm_partition for them in profiles/slurm/config.yaml, or no gpu in its resources"
            )


def accounting_warning() -> str:
    """Return a warning if the cluster keeps no accounts of jobs; how they end is then to be asked of squeue."""
    try:
        _ask("sacct", "--noheader", "--starttime=now")
        return ""
    except GradusError:
        found = re.search(r"MinJobAge *= (\d+)", _ask("scontrol", "show", "config"))
    return (
        "this cluster has no accounting (sacct does not answer), so squeue is asked how jobs end. It forgets them "
        f"after {found[1] if found else '?'} s (MinJobAge), and does not say why a job failed; its log does"
    )


def cancel_left(folder: Path) -> int:
    """Cancel the jobs of this user that a killed run left in SLURM; wait until they have ended; return their number.

    `folder`: where the runs are; no other run is active there. Raises GradusError if jobs go on for PATIENCE seconds.
    """
    if not shutil.which("squeue"):
        return 0
    left = _left(folder)
    if left:
        _ask("scancel", *left)
    began = time.monotonic()
    while still := left and _left(folder):
        if time.monotonic() - began > PATIENCE:
            raise GradusError(f"jobs of a killed run do not end: {', '.join(still)}. Wait, or ask for help with them")
        time.sleep(1)
    return len(left)


def _left(folder: Path) -> list[str]:
    """Return the jobs of this user that work in a folder and that Snakemake submitted: their comments name a rule."""
    lines = _ask("squeue", "--me", "--noheader", "--format=%A|%Z|%k").splitlines()
    jobs = (line.strip().split("|", 2) for line in lines)
    return [job for job, place, comment in jobs if Path(place) == folder and comment.startswith("rule_")]
