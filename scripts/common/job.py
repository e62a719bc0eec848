"""The job that a script runs."""

import os
from collections.abc import Mapping
from importlib import import_module
from typing import Any

GIVEN_GPUS = "GRADUS_GPUS"  # in a job's environment, and its children's: how many GPUs Snakemake gave it


def find_job(names: Mapping[str, Any]) -> Any:
    """Return the job to run, given a script's `globals()`; None if the script is only imported.

    The job comes from Snakemake or, if the script was started from a shell, from --job.
    """
    if "snakemake" in names:
        job = names["snakemake"]
    elif names["__name__"] == "__main__":
        # imported by name to keep it out of code fingerprints: an edit of it must not retrain
        job = import_module("scripts.common.debug").asked_for(names)
    else:
        return None
    os.environ[GIVEN_GPUS] = str(job.resources.get("gpu", 0))
    return job
