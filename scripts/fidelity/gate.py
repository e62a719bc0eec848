"""Let a run go on only if a check's gates pass.

In: a check's facts, thresholds. Out: a note that they passed. If one fails, the run ends here, and `fidelity.json`,
which the rule `fidelity` may then not come to, is written with what is known.
"""

import os
from pathlib import Path

from scripts.common.errors import GradusError
from scripts.common.io import read_json, write_json
from scripts.common.job import find_job
from scripts.common.logs import logging_to
from scripts.fidelity.fidelity import collect
from scripts.fidelity.gates import explain, judge

if job := find_job(globals()):
    with logging_to(job.log[0]):
        rows = judge(job.wildcards.check, read_json(job.input.facts), job.params.thresholds)
        failed = [row for row in rows if row["passed"] is False]
        if failed:
            folder = Path(job.params.folder)
            known = {
                path.relative_to(folder).with_suffix("").as_posix(): path for path in sorted(folder.rglob("*.json"))
            }
            known = {name: path for name, path in known.items() if name in job.params.checks}
            listed = folder / "failed.json"  # under another name first: the rule `fidelity` may be writing just now
            write_json(listed, collect(known, job.params.thresholds))
            os.replace(listed, folder.with_suffix(".json"))
            raise GradusError(explain(failed))
        write_json(job.output.passed, {"passed": [row["name"] for row in rows if row["passed"]]})
