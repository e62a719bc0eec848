"""The profiles and our own code, held against the code of Snakemake's plugins that `make clusters` installs."""

import json
import os
import subprocess

import pytest

from scripts.common.hashing import ROOT

PYTHON = ROOT / ".venv/clusters/bin/python"
pytestmark = pytest.mark.skipif(not PYTHON.exists(), reason="Snakemake's plugins are not installed: `make clusters`")
# each rule's declared MB for a base of half a billion parameters and 15 MB of rows, what the profile says of it, and what
# Batch gives
GIVEN = """
import json, logging
from pathlib import Path
from types import SimpleNamespace
import yaml
from scripts.common import weights
from scripts.common.snakemake_internals import plan_job
from snakemake_executor_plugin_aws_batch.batch_job_builder import BatchJobBuilder

class Input(dict):
    estimate = "none"
    def __missing__(self, name):
        return name

WEIGHTS = {"base", "gguf", "ggufs", "merged", "model", "source"}
weights.weights_mb = lambda path: 1000 if path in WEIGHTS else 15
builder = SimpleNamespace(logger=logging.getLogger())
profile = yaml.safe_load(Path("profiles/aws-batch/config.yaml").read_text())["set-resources"]
job = plan_job(Path("Snakefile"), "results/tiny/verdict.json", [Path("config/runs/tiny.yaml")], 2)
found = {}
for rule in job.rule.workflow.rules:
    if "mem_mb" in rule.resources and not rule.name.startswith("bench"):
        declared = rule.resources["mem_mb"].evaluate(None, input=Input(), attempt=1).value
        said = profile.get(rule.name, {}).get("mem_mb")
        cores = str(rule.resources["_cores"].value)
        given = BatchJobBuilder._validate_resources(builder, cores, str(said or declared))[1]
        found[rule.name] = declared, said, int(given)
print(json.dumps([list(profile), found]))
"""


def run(code, **environment):
    command = [PYTHON, "-c", code]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_aws_batch_gives_each_job_the_memory_that_it_declares():
    named, found = json.loads(run(GIVEN))
    assert set(named) <= set(found)
    # {rule: (declared, said by the profile, given)}
    assert {rule: row for rule, row in found.items() if row[1] not in (None, row[2])} == {}
    assert {rule: row for rule, row in found.items() if row[2] < row[0]} == {}


# two rounds of asking for two jobs, by the executor's own code: what it succeeded with, and what it still waits for
ROUNDS = """
import asyncio, json, logging
from contextlib import nullcontext
from types import SimpleNamespace
import snakemake_executor_plugin_slurm as plugin
from scripts.common.snakemake_internals import keep_slurm_jobs

settings = {"init_seconds_before_status_checks": 10, "status_attempts": 5, "keep_successful_logs": True}
queries = {"calls": 0, "failures": 0, "total_seconds": 0, "min_seconds": None, "max_seconds": 0, "cycle_rows": []}
done = []
executor = object.__new__(plugin.Executor)
vars(executor).update(
    {f"_status_query_{name}": value for name, value in queries.items()},
    workflow=SimpleNamespace(executor_settings=SimpleNamespace(status_command="squeue", **settings)),
    logger=logging.getLogger(),
    run_uuid="run",
    status_rate_limiter=nullcontext(),
    report_job_success=lambda job: done.append(job.external_jobid),
    _next_seconds_between_status_checks=10,
)

async def rounds():
    jobs = [SimpleNamespace(external_jobid=name, aux={}) for name in ("7", "8")]
    for _ in range(2):
        jobs = [job async for job in executor.check_active_jobs(jobs)]
        print(json.dumps([done, [job.external_jobid for job in jobs]]))

keep_slurm_jobs()
asyncio.run(rounds())
"""


def test_jobs_stay_if_slurm_does_not_say_how_they_are(tmp_path):
    """scontrol fails, so the executor asks sacct, and there is no accounting; later both jobs are known again."""
    answers = {
        "scontrol": "test -e asked || exit 1\necho MinJobAge = 300 sec",
        "sacct": "touch asked\necho Slurm accounting storage is disabled >&2\nexit 1",
        "squeue": 'printf "7|COMPLETED\\n8|RUNNING\\n"',
    }
    for name, lines in answers.items():
        (tmp_path / name).write_text(f"#!/bin/sh\ncd {tmp_path}\n{lines}\n")
        (tmp_path / name).chmod(0o755)
    told = run(ROUNDS, PATH=f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    assert [json.loads(line) for line in told.splitlines()] == [[[], ["7", "8"]], [["7"], ["8"]]]
