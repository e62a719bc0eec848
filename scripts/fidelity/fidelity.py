"""Write fidelity.json: every gate with its value, threshold and result.

In: the measurements of every check. Out: {passed, gates: [{name, check, step, value, threshold, bound, passed, …}]}.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scripts.common.io import read_json, write_json
from scripts.common.job import find_job
from scripts.common.logs import logging_to
from scripts.fidelity.gates import judge


def collect(files: Mapping[str, str | Path], thresholds: Mapping[str, float]) -> dict[str, Any]:
    """Return all gates of {check: its file}. `passed`: whether no gate failed; a gate that was not measured does not
    count as failed.
    """
    rows = [row for check, path in files.items() for row in judge(check, read_json(path), thresholds)]
    return {"passed": all(row["passed"] is not False for row in rows), "gates": rows}


if job := find_job(globals()):
    with logging_to(job.log[0]):
        files = dict(zip(job.params.checks, job.input.facts, strict=True))
        write_json(job.output.fidelity, collect(files, job.params.thresholds))
