"""Startup: the environment of jobs, the checked config, and the lock on the folder. No rules."""

import os
import re
import shutil
import sys
from pathlib import Path

sys.path.insert(0, workflow.basedir)
# the environment of every job: our modules, and no network after the fetch stage, except for `ask_endpoint` and
# `ask_judge`. Memory is in 2 MB pages that malloc keeps: a training step frees and allocates gigabytes, and page faults
# would take time (docs/training.md)
os.environ.update(
    PYTHONPATH=workflow.basedir,
    PYTHONHASHSEED="0",
    ONEDNN_PRIMITIVE_CACHE_CAPACITY="128",  # default 1,024; it would keep kernels for each length of pack
    GLIBC_TUNABLES=":".join(
        [
            "glibc.malloc.hugetlb=1",
            "glibc.malloc.mmap_threshold=4294967296",
            "glibc.malloc.trim_threshold=8589934592",
        ]
    ),
    TOKENIZERS_PARALLELISM="false",
    HF_HUB_OFFLINE="1",
    HF_DATASETS_OFFLINE="1",
    HF_HUB_DISABLE_TELEMETRY="1",
)

from scripts.common import guard, slurm, sources
from scripts.common.code import code_fingerprint
from scripts.common.endpoints import find_key
from scripts.common.energy import start_measuring
from scripts.common.errors import GradusError
from scripts.common.hashing import sha256_file
from scripts.common.machine import ON_CLUSTER, memory_mb
from scripts.common.snakemake_internals import (
    RUN_LOCK,
    all_cores,
    config_files,
    default_storage,
    executor_name,
    jobs_left,
    job_resources,
    keep_slurm_jobs,
    leave_out_pandas,
    OURS,
    limit_resource,
    OUTPUT,
    plan_behind_ancient,
    planned_values,
    read_metadata,
    redirect_jobs,
    replace_stream_handler,
    targeted_rules,
)
from scripts.common.storage import require_bucket
from scripts.config.check import check_config, check_files
from scripts.progress.handler import Progress, read_stages
from scripts.progress.output import Outputs
from scripts.progress.times import Planned, Times, last_times
from scripts.version.restore import forget, restore

leave_out_pandas()
plan_behind_ancient()
limit_resource(workflow, "mem_mb", memory_mb() * 9 // 10)  # the rest is the system's

STAGES = read_stages(Path(workflow.basedir))  # {rule: stage}
progress = None  # what prints the run; None: Snakemake does
if workflow.is_main_process:
    guard.mark()
    progress = replace_stream_handler(workflow, lambda old: Progress(STAGES, old, old.stream))


CONFIG_FILES = [os.path.relpath(file) for file in config_files(workflow)]


def checked(raw):
    """Return the config with defaults filled in; a fault stops the run, before any job, with file and line."""
    try:
        complete = check_config(raw, CONFIG_FILES)
        check_files(complete, CONFIG_FILES)
        return complete
    except GradusError as error:
        raise WorkflowError(str(error))


def require_storage():
    """Stop before anything is planned if the run's files are to be in S3, and its bucket cannot be used."""
    name, prefix, settings = default_storage(workflow)
    try:
        if name == "s3" and workflow.is_main_process:
            require_bucket(prefix, settings)
    except GradusError as error:
        raise WorkflowError(f"Gradus: {error}")


def take_folder():
    """Lock this folder for the run, kill the jobs of a killed run, and forget the record of a restored one."""
    try:
        guard.require_writable(f"results/{config['run']}", "data/raw", ".work/train")
        left, warnings = guard.hold(RUN_LOCK)
        if left is not None:  # else the last run may still be alive
            left += slurm.cancel_left(Path.cwd())
        forget(config["run"])
    except GradusError as error:
        raise WorkflowError(f"Gradus: {error}")
    for warning in warnings:
        print(f"Gradus: {warning}.", file=sys.stderr)
    if left:
        told = "1 process" if left == 1 else f"{left} processes"
        were, have = ("was", "has") if left == 1 else ("were", "have")
        message = f"Gradus: {told} of a killed run {were} still active and {have} been stopped."
        print(message, file=sys.stderr)


def require_keys():
    """Stop the run if it would ask a model behind an API whose key is missing from the environment."""
    try:
        for name in sorted(planned_values(workflow, "ask_endpoint", "model")):
            find_key(MODELS[name].given)
        if planned_values(workflow, "ask_judge", "run"):
            find_key(config["judge"]["endpoint"])
    except GradusError as error:
        raise WorkflowError(f"Gradus: {error}")


def require_cluster():
    """Stop the run if the cluster has not what its jobs will ask for."""
    if executor_name(workflow) != "slurm":
        return
    os.environ[ON_CLUSTER] = "slurm"  # jobs inherit it
    settings = workflow.executor_settings
    keep_slurm_jobs()
    try:
        # partitions that the executor chooses from a file, or sbatch from its environment, are theirs to check
        chosen = settings.partition_config or {"SNAKEMAKE_SLURM_PARTITIONS", "SBATCH_PARTITION"} & set(
            os.environ
        )
        wanted = (
            (resources.get("slurm_partition"), bool(resources.get("gpu")))
            for resources in job_resources(workflow)
        )
        slurm.require_partitions(one for one in wanted if one[0] or not chosen)
        if warning := slurm.accounting_warning(settings.init_seconds_before_status_checks):
            print(f"Gradus: {warning}.", file=sys.stderr)
            settings.status_command = "squeue"  # it would wait forever for what sacct says
    except GradusError as error:
        raise WorkflowError(f"Gradus: {error}")


def measure_energy():
    """Measure the machine's energy beside the run, if the config asks for it."""
    try:
        country = config["report"]["energy_country"]
        if country and executor_name(workflow) != "local":
            print("Gradus: energy is not measured, because jobs run on other machines.", file=sys.stderr)
        elif country:
            start_measuring(country, OURS / "energy.jsonl")
    except GradusError as error:
        raise WorkflowError(f"Gradus: {error}")


def know_run():
    """Tell what prints the run which one it is."""
    if progress:
        progress.run = config["run"]
        progress.everything = lambda: "all" in targeted_rules(workflow)


def show_progress():
    """Print from now on how far the run is; what jobs print goes into files."""
    if progress:
        try:
            redirect_jobs()
            # bars in files: tqdm's default is ten lines a second
            os.environ.setdefault("TQDM_MININTERVAL", "1")
            outputs = Outputs(OUTPUT)
        except OSError:
            outputs = None  # jobs print on the terminal
        progress.begin(
            lambda: [Planned(*job) for job in jobs_left(workflow)],
            Times(last_times(read_metadata(), config["run"])),
            outputs,
        )


def take_over():
    """Verify files that DVC newly restored, if any, and give Snakemake the records of how they were made."""
    try:
        if workflow.is_main_process and restore(config["run"]):
            print(f"Gradus: run {config['run']} was restored by DVC and is complete.", file=sys.stderr)
    except GradusError as error:
        raise WorkflowError(f"Gradus: {error}")
