"""Let a run go on only if a check's gates pass.

In: what a check measured, thresholds. Out: a note that its gates passed. If one fails, the run ends here, and
failed.json beside the checks' files lists all gates that are known so far; it is gone once none of them fails.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from scripts.common.errors import GradusError
from scripts.common.io import read_json, write_json
from scripts.common.job import find_job
from scripts.common.logs import logging_to
from scripts.fidelity.fidelity import collect
from scripts.fidelity.gates import explain, judge


def list_failed(folder: Path, checks: Sequence[str], thresholds: Mapping[str, Any]) -> Path | None:
    """Write `folder`/failed.json, all gates of those `checks` that have been measured, and return its path; if none of
    them fails, remove the file and return None.
    """
    measured = {check: path for check in checks if (path := folder / f"{check}.json").is_file()}
    listed, failed = collect(measured, thresholds), folder / "failed.json"
    if listed["passed"]:
        failed.unlink(missing_ok=True)
        return None
    write_json(failed, listed)
    return failed


def hold(check: str, folder: Path, checks: Sequence[str], thresholds: Mapping[str, Any]) -> list[str]:
    """Return the names of the gates that `check` passed. Raises GradusError if it failed one."""
    rows = judge(check, read_json(folder / f"{check}.json"), thresholds)
    failed = [row for row in rows if row["passed"] is False]
    if failed:
        path = list_failed(folder, checks, thresholds)
        raise GradusError(f"{explain(failed)}\nAll gates that are known so far: {path}")
    if (folder / "failed.json").is_file():
        list_failed(folder, checks, thresholds)
    return [row["name"] for row in rows if row["passed"]]


if job := find_job(globals()):
    with logging_to(job.log[0]):
        check = job.wildcards.check  # may hold a slash
        folder = Path(job.input.facts.removesuffix(f"{check}.json"))
        names = hold(check, folder, job.params.checks, job.params.thresholds)
        write_json(job.output.passed, {"passed": names})
