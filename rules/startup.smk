"""Startup: the environment of jobs, the checked config, and the lock on the folder. No rules."""

import os
import re
import shutil
import sys

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

from scripts.common import guard, sources
from scripts.common.code import code_fingerprint
from scripts.common.endpoints import find_key
from scripts.common.errors import GradusError
from scripts.common.hashing import sha256_file
from scripts.common.snakemake_internals import (
    RUN_LOCK,
    all_cores,
    config_files,
    leave_out_pandas,
    planned_values,
)
from scripts.config.check import check_config, check_files
from scripts.version.restore import forget, restore

leave_out_pandas()

if workflow.is_main_process:
    guard.mark()


def checked(raw):
    """Return the config with defaults filled in; a fault stops the run, before any job, with file and line."""
    files = [os.path.relpath(file) for file in config_files(workflow)]
    try:
        complete = check_config(raw, files)
        check_files(complete, files)
        return complete
    except GradusError as error:
        raise WorkflowError(str(error))


def take_folder():
    """Lock this folder for the run, kill the jobs of a killed run, and forget the record of a restored one."""
    try:
        guard.require_writable(f"results/{config['run']}", "data/raw", ".work/train")
        left = guard.hold(RUN_LOCK)
        forget(config["run"])
    except GradusError as error:
        raise WorkflowError(f"Gradus: {error}")
    if left:
        message = f"Gradus: {left} processes of a killed run were still active and have been stopped."
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


def take_over():
    """Verify files that DVC newly restored, if any, and give Snakemake the records of how they were made."""
    try:
        if workflow.is_main_process and restore(config["run"]):
            print(f"Gradus: run {config['run']} was restored by DVC and is complete.", file=sys.stderr)
    except GradusError as error:
        raise WorkflowError(f"Gradus: {error}")
