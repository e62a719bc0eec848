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
from scripts.common.snakemake_internals import SLURM_LOGS

PATIENCE = 60.0  # seconds that canceled jobs may take to end


def _ask(*command: str) -> str:
    """Return what a command of SLURM prints. Raises GradusError if it cannot."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        fault = done.stderr.strip() or f"exit status {done.returncode}" if done.returncode else ""
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

    `wanted`: (partitions separated by commas, None for the cluster's default; whether a GPU is wanted) of jobs.
    """
    gpus: dict[str, bool] = {}  # {partition: whether a node of it has a GPU}
    default = ""
    for line in _ask("sinfo", "--all", "--noheader", "--format=%P|%G").splitlines():
        name, _, devices = line.strip().partition("|")
        known = name.removesuffix("*")
        default = known if name.endswith("*") else default
        gpus[known] = gpus.get(known, False) or "gpu" in devices
    there = ", ".join(sorted(gpus)) or "none"
    for asked, gpu in sorted(set(wanted), key=str):
        partitions = (asked or default).split(",")  # any of them will do
        if partitions == [""]:
            raise GradusError(
                "this cluster has no default partition: set slurm_partition in profiles/slurm/config.yaml (it has "
                f"{there})"
            )
        if not any(partition in gpus for partition in partitions):
            raise GradusError(
                f"this cluster has no partition {asked} (it has {there}): mend slurm_partition in "
                "profiles/slurm/config.yaml"
            )
        if gpu and not any(gpus.get(partition) for partition in partitions):
            raise GradusError(
                f"jobs want a GPU, but no node of the partition {','.join(partitions)} has one "
                "(`sinfo --format='%P %G'`): set slurm_partition for them in profiles/slurm/config.yaml, or no gpu in "
                "its resources"
            )


def accounting_warning(seconds: int) -> str:
    """Return a warning if the cluster keeps no accounts of jobs; how they end is then to be asked of squeue.

    `seconds`: what the executor waits before it first asks. Raises GradusError if squeue forgets jobs too soon: from
    less than three times as long, the executor asks sacct all the same, and would wait forever.
    """
    try:
        _ask("sacct", "--noheader", "--starttime=now")
        return ""
    except GradusError:
        found = re.search(r"MinJobAge *= (\d+)", _ask("scontrol", "show", "config"))
    age = int(found[1]) if found else 0
    if age < 3 * seconds:
        raise GradusError(
            "this cluster has no accounting (sacct does not answer), and squeue forgets jobs after "
            f"{age} s (MinJobAge): set slurm-init-seconds-before-status-checks in profiles/slurm/config.yaml to "
            f"{age // 3} or less, or have MinJobAge raised"
        )
    return (
        "this cluster has no accounting (sacct does not answer), so squeue is asked how jobs end. It forgets them "
        f"after {age} s (MinJobAge), and does not say why a job failed; its log does"
    )


def cancel_left(folder: Path) -> int:
    """Cancel the jobs of this user that a killed run left in SLURM; wait until they have ended; return their number.

    `folder`: where the runs are; no other run is active there, and none was ever on SLURM if it has no logs of its
    jobs. Raises GradusError if jobs go on for PATIENCE seconds.
    """
    if not (folder / SLURM_LOGS).is_dir() or not shutil.which("squeue"):
        return 0
    left = _left(folder)
    if left:  # whether it worked is seen below; of jobs that end meanwhile it complains
        subprocess.run(["scancel", "--quiet", *left], capture_output=True, timeout=60, check=False)
    began = time.monotonic()
    while still := left and _left(folder):
        if time.monotonic() - began > PATIENCE:
            going = sorted(job for job, state in still.items() if state != "COMPLETING")  # its node may be dead
            if not going:
                break
            raise GradusError(f"jobs of a killed run do not end: {', '.join(going)}. Cancel them, and run again")
        time.sleep(1)
    return len(left)


def _left(folder: Path) -> dict[str, str]:
    """Return {job: state} of this user's jobs that Snakemake submitted from a folder: their comments name a rule."""
    found = {}
    for line in _ask("squeue", "--me", "--noheader", "--format=%A|%T|%k|%Z").splitlines():
        job, state, comment, place = line.strip().split("|", 3)
        # a folder can have several names
        here = Path(place) == folder or (Path(place).is_dir() and folder.samefile(place))
        if here and comment.startswith(("rule_", "group_")):
            found[job] = state
    return found
