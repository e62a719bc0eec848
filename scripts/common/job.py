"""The job that a script runs."""

from collections.abc import Mapping
from importlib import import_module
from typing import Any


def find_job(names: Mapping[str, Any]) -> Any:
    """Return the job to run, given a script's `globals()`; None if the script is only imported.

    The job comes from Snakemake or, if the script was started from a shell, from --job.
    """
    if "snakemake" in names:
        return names["snakemake"]
    if names["__name__"] != "__main__":
        return None
    # imported by name to keep it out of code fingerprints: an edit of it must not retrain
    return import_module("scripts.common.debug").asked_for(names)
