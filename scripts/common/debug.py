"""Run a single script from a shell, for debugging.

    python -m scripts.evaluate.grade --job results/tiny/evaluate/tuned/Q4_K_M/test.grades.jsonl \
        --configfile config/runs/tiny.yaml

runs the script in this process, with the same inputs, outputs, params and environment as in the pipeline. Snakemake
does not record the result and makes it again in its next run.
"""

import argparse
import os
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scripts.common import guard
from scripts.common.errors import GradusError
from scripts.common.packages import ROOT
from scripts.common.snakemake_internals import RUN_LOCK, mark_incomplete, plan_job, script_object

PREPARED = "GRADUS_JOB"  # set when the environment is already that of a job


def asked_for(names: Mapping[str, Any]) -> Any:
    """Return the job that a script's command line asks for; `names`: the script's globals().

    Exits with a message if there is no such job, or if it cannot run.
    """
    script = Path(names["__file__"]).resolve()
    parser = argparse.ArgumentParser(prog=f"python -m {names['__spec__'].name}", description=names["__doc__"])
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--job", required=True, metavar="FILE", help="an output of the job to run")
    parser.add_argument("--configfile", action="append", default=[], type=Path, help="as for snakemake")
    parser.add_argument("--cores", type=int, default=os.cpu_count(), help="as for snakemake; all by default")
    options = parser.parse_args()
    try:
        job = _plan(script, options.job, options.configfile, options.cores)
    except GradusError as error:
        sys.exit(f"Gradus: {error}")
    if PREPARED not in os.environ:
        # libraries that are already imported have read the old environment: restart the process
        environment = {**os.environ, PREPARED: "1"}
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)
    return job


def _plan(script: Path, target: str, configfiles: list[Path], cores: int) -> Any:
    """Return the job of `script` that makes the file `target`.

    Raises GradusError if a config is missing or invalid, if no rule makes the file, if the rule runs another script, or
    if inputs are missing.
    """
    if missing := [file for file in map(str, configfiles) if not Path(file).is_file()]:
        raise GradusError(f"{', '.join(missing)}: no such config file")
    job = plan_job(ROOT / "Snakefile", target, configfiles, cores)
    if job is None:
        raise GradusError(f"no rule makes {target}; the paths of a run's files are in its manifest.json")
    given = [word for file in configfiles for word in ("--configfile", str(file))]
    own = (ROOT / "rules" / job.rule.script).resolve()
    if own != script:
        module = ".".join(own.relative_to(ROOT).with_suffix("").parts)
        command = shlex.join(["python", "-m", module, "--job", target, *given])
        raise GradusError(f"{target} is made by rule {job.rule.name}; run: {command}")
    if missing := [file for file in map(str, job.input) if not Path(file).exists()]:
        command = shlex.join(["snakemake", "--cores", "all", *given, "--", *missing])
        raise GradusError(f"inputs of {target} are missing; to make them, run:\n  {command}")
    guard.mark()
    guard.hold(RUN_LOCK)
    mark_incomplete(list(map(str, job.output)))
    return script_object(job)
