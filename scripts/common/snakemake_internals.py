"""Everything that depends on Snakemake's internals: its records of files, workflow attributes, how it makes a job.

For each file that it made, Snakemake keeps the rule, inputs, params and times in .snakemake/metadata. The name of a
record's file is the base64 of the output's path, split into parts if it is long. tests/unit/test_snakemake_internals.py
runs Snakemake and fails if a new version does any of this differently.
"""

import json
import logging
import re
import shlex
import sys
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from pathlib import Path
from typing import Any

from scripts.common.errors import GradusError
from scripts.common.hidden import hidden

FOLDER = Path(".snakemake")
STORE = FOLDER / "metadata"
INCOMPLETE = FOLDER / "incomplete"  # one file, named likewise, per output that is being made or whose job was killed
OURS = FOLDER / "gradus"  # Gradus's own records
SLURM_LOGS = FOLDER / "slurm_logs"  # where the SLURM executor has what jobs print
OUTPUT = OURS / "output"  # what jobs print, a file for each; see scripts/progress
RUN_LOCK = FOLDER / "gradus.lock"  # see scripts/common/guard.py
TIMESTAMP = ".snakemake_timestamp"  # in a folder that a job made: its mtime counts as the folder's
LONGEST = 254  # characters of one part of a name; all parts but the last are folders that begin with @


def record_file(path: str, store: Path = STORE) -> Path:
    """Return where Snakemake keeps the record of a file."""
    name = urlsafe_b64encode(path.encode()).decode()
    pieces = [name[start : start + LONGEST] for start in range(0, len(name), LONGEST)]
    return store.joinpath(*(f"@{piece}" for piece in pieces[:-1]), pieces[-1])


def read_metadata(store: Path = STORE) -> dict[str, dict[str, Any]]:
    """Return {path: record} of every file that Snakemake has made in this folder."""
    records = {}
    for file in sorted(store.rglob("*")):
        if file.is_file():
            name = "".join(piece.removeprefix("@") for piece in file.relative_to(store).parts)
            try:
                records[urlsafe_b64decode(name).decode()] = json.loads(file.read_text(encoding="utf-8"))
            except ValueError:  # truncated by a kill; Snakemake ignores it, too
                continue
    return records


def write_metadata(records: dict[str, dict[str, Any]], store: Path = STORE) -> None:
    """Write Snakemake's records for files that it did not make in this folder."""
    for path, record in records.items():
        file = record_file(path, store)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(record), encoding="utf-8")


def mark_incomplete(paths: Sequence[str], store: Path = INCOMPLETE) -> None:
    """Make Snakemake remake these files in its next run (the profile sets rerun-incomplete)."""
    write_metadata({path: {"external_jobid": None} for path in paths}, store)


def code_of(record: dict[str, Any]) -> str | None:
    """Return the fingerprint of the code that made a file: one of the rule's params, stored as its `repr`."""
    return next((value[1:-1] for value in record["params"] if re.fullmatch(r"'[0-9a-f]{16}'", value)), None)


def ancestors(records: dict[str, dict[str, Any]], targets: list[str]) -> dict[str, dict[str, Any]]:
    """Return the records of `targets`, of everything that they were made from, and of these jobs' other outputs."""
    jobs: dict[tuple[str, ...], list[str]] = {}  # by log file: each job has its own
    for path, record in records.items():
        jobs.setdefault((record["rule"], *record["log"]), []).append(path)
    found: dict[str, dict[str, Any]] = {}
    todo = list(targets)
    while todo:
        path = todo.pop(0)
        if path in records and path not in found:
            record = found[path] = records[path]
            todo += [*record["input"], *jobs[record["rule"], *record["log"]]]
    return found


def config_files(workflow: Any) -> list[Path]:
    """Return the config files of a workflow: those of --configfile, else the one that the Snakefile names."""
    return [Path(file) for file in workflow.overwrite_configfiles or workflow.configfiles]


def leave_out_pandas() -> None:
    """Keep Snakemake from importing pandas, which takes half a second of every start.

    It does so to recognize tables among the rules' params, if pandas is installed. Ours are never tables.
    """
    sys.modules.setdefault("pandas", None)  # type: ignore[arg-type]  # None: Python takes it for not installed


def plan_behind_ancient() -> None:
    """Let Snakemake see what must run behind `ancient` inputs, too.

    What follows a job that will run, it does not examine: it would run anyway. But what follows by `ancient` inputs
    alone would not. So with another rank, which the estimate reads, too, it makes the estimate, trains nothing, and
    calls the run done (snakemake/snakemake#4166).
    """
    from snakemake.dag import DAG

    update, search = DAG.update_needrun, DAG.bfs

    async def update_needrun(dag: Any, create_inventory: bool = False) -> None:
        follow: dict[Any, dict[Any, Any]] = defaultdict(dict)
        for job, jobs in dag.depending.items():
            follow[job] = {after: files for after, files in jobs.items() if not all(f.is_ancient for f in files)}
        dag.bfs = lambda _, *jobs: search(dag, follow, *jobs)  # only used to find what follows
        try:
            await update(dag, create_inventory)
        finally:
            del dag.bfs

    if not hasattr(update, "__wrapped__"):
        DAG.update_needrun = wraps(update)(update_needrun)


def all_cores(workflow: Any) -> int:
    """Return the cores that a run may use; 1 if none are given, as on a cluster, where `workflow.cores` raises."""
    return int(workflow.resource_settings.cores or 1)


def limit_resource(workflow: Any, name: str, most: int) -> int:
    """Start only jobs together that declare at most so much of a resource in all; a job that declares more runs alone.
    Return the limit that holds.

    Changes nothing if the command line sets the limit, or if jobs run elsewhere than on this machine.
    """
    limits = workflow.global_resources
    if workflow.is_main_process and workflow.resource_settings.nodes is None and name not in limits:
        limits[name] = most
    return int(limits.get(name).value or 0)


def default_storage(workflow: Any) -> tuple[str | None, str, Any]:
    """Return (name, prefix, settings) of the plugin that keeps a run's files; (None, "", None): this folder does."""
    name = workflow.storage_settings.default_storage_provider
    if name is None:
        return None, "", None
    provider = workflow.storage_registry.default_storage_provider
    return name, workflow.storage_settings.default_storage_prefix, provider.settings


def planned_values(workflow: Any, rule: str, wildcard: str) -> set[str]:
    """Return the values of a wildcard in a rule's jobs that a run will run, as it is planned when it starts."""
    return {getattr(job.wildcards, wildcard) for job in workflow.dag.needrun_jobs() if job.rule.name == rule}


def replace_stream_handler(workflow: Any, make: Callable[[logging.Handler], logging.Handler]) -> Any:
    """Put a handler in the place of the one that prints Snakemake's messages, and return it; `make` gets the old one.

    Returns None and changes nothing if another logger plugin prints, in a dry run, and with --quiet, --verbose,
    --debug-dag or --show-failed-logs, which are settings of the old one.
    """
    from snakemake.logging import logger

    settings = workflow.output_settings
    old = next((handler for handler in logger.handlers if handler.name == "DefaultStreamHandler"), None)
    names = ("dryrun", "quiet", "verbose", "debug_dag", "show_failed_logs")
    if old is None or any(getattr(settings, name) for name in names):
        return None
    new = make(old)
    logger.removeHandler(old)
    logger.addHandler(new)
    return new


def jobs_left(workflow: Any) -> list[tuple[int, str, tuple[str, ...]]]:
    """Return (number, rule, outputs) of the jobs that a run has not finished, as it is planned now."""
    dag = workflow.dag
    return [(dag.jobid(job), job.rule.name, tuple(map(str, job.output))) for job in dag.needrun_jobs()]


def executor_name(workflow: Any) -> str | None:
    """Return the name of what runs the jobs: `local`, `slurm`, …; None if it is not known yet."""
    return workflow.executor_plugin and str(workflow.executor_plugin.name)


def keep_slurm_jobs() -> None:
    """Have the SLURM executor ask later about its jobs if SLURM does not say how they are.

    By itself (2.8), it then forgets those that run or wait, and the run waits for them forever.
    """
    import snakemake_executor_plugin_slurm as executor

    ask = executor.query_job_status

    async def ask_or_wait(command: str, logger: Any) -> tuple[dict[str, str], float]:
        states, seconds = await ask(command, logger)
        if states is None:
            logger.warning(f"SLURM does not say how the jobs are ({command.split()[0]} fails). It is asked again soon.")
            return {}, 0.0  # jobs of which nothing is known stay
        return states, seconds

    executor.query_job_status = ask_or_wait


def job_resources(workflow: Any) -> list[Mapping[str, Any]]:
    """Return the resources of one job of each rule that a run will submit, as far as they are known when it starts."""
    jobs = {job.rule.name: job for job in workflow.dag.needrun_jobs() if not workflow.is_local(job.rule)}
    return [job.resources for job in jobs.values()]


def targeted_rules(workflow: Any) -> set[str]:
    """Return the rules of the jobs that a run is to finish with."""
    return {job.rule.name for job in workflow.dag.targetjobs}


def redirect_jobs(folder: Path = OUTPUT) -> None:
    """Make all jobs that start from now on print into files of their own, named by the numbers of their shells."""
    from snakemake.shell import shell

    folder.mkdir(parents=True, exist_ok=True)
    for file in folder.iterdir():
        file.unlink()
    place = shlex.quote(str(folder.resolve())).replace("{", "{{").replace("}", "}}")
    shell.prefix(f"set -euo pipefail; exec >>{place}/$$ 2>&1; ")


def plan_job(snakefile: Path, target: str, configfiles: Sequence[Path], cores: int) -> Any:
    """Return the job that makes a file, without planning anything else; None if no rule makes it.

    Its script, inputs, outputs and params are the same as in a run. Raises GradusError if the workflow cannot be
    read, for example because the config is invalid.
    """
    from snakemake.api import SnakemakeApi
    from snakemake.exceptions import WorkflowError
    from snakemake.settings.types import ConfigSettings, DAGSettings, OutputSettings, Quietness, ResourceSettings

    try:
        # the job's script runs in this process, and may need what the Snakefile leaves out
        with hidden("pandas"), SnakemakeApi(OutputSettings(quiet={Quietness.ALL})) as api:
            opened = api.workflow(
                resource_settings=ResourceSettings(cores=cores),
                config_settings=ConfigSettings(configfiles=list(configfiles)),
                snakefile=snakefile,
            )
            opened.dag(DAGSettings(targets={target}))
            workflow = opened._workflow
            workflow._prepare_dag(forceall=False, ignore_incomplete=True, lock_warn_only=True)
            rule = next((rule for rule in workflow.rules if rule.is_producer(target)), None)
            return rule and workflow.async_run(workflow.dag.new_job(rule, targetfile=target))
    except WorkflowError as error:
        raise GradusError(str(error)) from None


def script_object(job: Any) -> Any:
    """Return the object that a job's script sees as `snakemake`."""
    from snakemake.script import Snakemake

    return Snakemake(
        job.input,
        job.output,
        job.params,
        job.wildcards,
        job.threads,
        job.resources,
        job.log,
        job.rule.workflow.config,
        job.rule.name,
        None,
    )
