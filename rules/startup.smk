"""What happens first: the environment of jobs, the checked config, one run at a time. No rules."""

import os
import re
import shutil
import sys

sys.path.insert(0, workflow.basedir)
# what every job's Python sees: our modules, and no network after the fetch stage; and memory in pages of 2 MB that
# malloc keeps: a training step frees and takes gigabytes, and faulting them in anew takes time (docs/training.md)
os.environ.update(
    PYTHONPATH=workflow.basedir,
    PYTHONHASHSEED="0",
    ONEDNN_PRIMITIVE_CACHE_CAPACITY="128",  # of 1,024: packs differ in length, and each length's kernels were kept
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
from scripts.common.errors import GradusError
from scripts.common.hashing import sha256_file
from scripts.common.snakemake_internals import RUN_LOCK, all_cores, config_files
from scripts.config.check import check_config, check_files
from scripts.version.restore import forget, restore

if workflow.is_main_process:
    guard.mark()


def checked(raw):
    """Return the config with defaults filled in; a fault ends the run here, before any job, with file and line."""
    files = [os.path.relpath(file) for file in config_files(workflow)]
    try:
        complete = check_config(raw, files)
        check_files(complete, files)
        return complete
    except GradusError as error:
        raise WorkflowError(str(error))


def take_folder():
    """Take this folder for the run: nothing of a killed one goes on in it, and its record is no longer true."""
    try:
        guard.require_writable(f"results/{config['run']}", "data/raw", ".work/train")
        left = guard.hold(RUN_LOCK)
        forget(config["run"])
    except GradusError as error:
        raise WorkflowError(f"Gradus: {error}")
    if left:
        message = f"Gradus: {left} processes of a run that was killed were still at work; ended."
        print(message, file=sys.stderr)


def take_over():
    """Verify what DVC restored of this run, if anything is new, and tell Snakemake how it was made."""
    try:
        if workflow.is_main_process and restore(config["run"]):
            print(f"Gradus: run {config['run']}, restored by DVC, is whole and taken over.", file=sys.stderr)
    except GradusError as error:
        raise WorkflowError(f"Gradus: {error}")
