"""All that leans on how Snakemake works inside: its records of files, attributes of a workflow, how it makes a job.

Of each file that it made Snakemake keeps rule, inputs, params, times in .snakemake/metadata. A record's file is named
after the path that it is of, in base64, in pieces if that is long. tests/unit/test_snakemake_internals.py runs
Snakemake and fails if another version does any of this differently.
"""

import json
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from scripts.common.errors import GradusError

FOLDER = Path(".snakemake")
STORE = FOLDER / "metadata"
INCOMPLETE = FOLDER / "incomplete"  # a file named as above for each file that is being made, or whose job was killed
OURS = FOLDER / "gradus"  # what we keep beside it
RUN_LOCK = FOLDER / "gradus.lock"  # see scripts/common/guard.py
TIMESTAMP = ".snakemake_timestamp"  # in a folder that a job made: its date is the folder's
LONGEST = 254  # of a piece; longer names are folders that begin with @


def record_file(path: str, store: Path = STORE) -> Path:
    """Return where Snakemake keeps the record of a file."""
    name = urlsafe_b64encode(path.encode()).decode()
    pieces = [name[start : start + LONGEST] for start in range(0, len(name), LONGEST)]
    return store.joinpath(*(f"@{piece}" for piece in pieces[:-1]), pieces[-1])


def read_metadata(store: Path = STORE) -> dict[str, dict[str, Any]]:
    """Return {path: record} of every file that Snakemake has made in this folder."""
    found = {}
    for file in sorted(store.rglob("*")):
        if file.is_file():
            name = "".join(piece.removeprefix("@") for piece in file.relative_to(store).parts)
            try:
                found[urlsafe_b64decode(name).decode()] = json.loads(file.read_text(encoding="utf-8"))
            except ValueError:  # cut short by a kill; Snakemake passes over it, too
                continue
    return found


def write_metadata(records: dict[str, dict[str, Any]], store: Path = STORE) -> None:
    """Give Snakemake the records of files that it did not make here."""
    for path, record in records.items():
        file = record_file(path, store)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(record), encoding="utf-8")


def mark_incomplete(paths: Sequence[str], store: Path = INCOMPLETE) -> None:
    """Have Snakemake make files again in its next run (the profile sets rerun-incomplete)."""
    write_metadata({path: {"external_jobid": None} for path in paths}, store)


def code_of(record: dict[str, Any]) -> str | None:
    """Return the fingerprint of the code that made a file: a rule's param, of which a record has the `repr`."""
    return next((value[1:-1] for value in record["params"] if re.fullmatch(r"'[0-9a-f]{16}'", value)), None)


def ancestors(records: dict[str, dict[str, Any]], targets: list[str]) -> dict[str, dict[str, Any]]:
    """Return the records of `targets`, of everything that they were made of, and of what the same jobs made besides."""
    jobs: dict[tuple[str, ...], list[str]] = {}  # by the log, which is a job's own
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
    """Return the config files of a workflow: those of --configfile, or else what the Snakefile names."""
    return [Path(file) for file in workflow.overwrite_configfiles or workflow.configfiles]


def all_cores(workflow: Any) -> int:
    """Return the cores that a run may use; 1 where none are given, as on a cluster, where `workflow.cores` raises."""
    return int(workflow.resource_settings.cores or 1)


def plan_job(snakefile: Path, target: str, configfiles: Sequence[Path], cores: int) -> Any:
    """Return the job by which a workflow makes a file, nothing else planned; None if no rule makes it.

    Its script, its inputs and outputs, params and so on are what they are in a run. Raises GradusError if the workflow
    cannot be read, as with a config that is refused.
    """
    from snakemake.api import SnakemakeApi
    from snakemake.exceptions import WorkflowError
    from snakemake.settings.types import ConfigSettings, DAGSettings, OutputSettings, Quietness, ResourceSettings

    try:
        with SnakemakeApi(OutputSettings(quiet={Quietness.ALL})) as api:
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
    """Return what Snakemake calls `snakemake` in the script of a job."""
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
