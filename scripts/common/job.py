"""The job that a script runs."""

from collections.abc import Mapping
from importlib import import_module
from typing import Any


def find_job(names: Mapping[str, Any]) -> Any:
    """Return the job to run, given a script's `globals()`; None where the script is only imported.

    It is Snakemake's, or, in a script that is started from a shell, what --job names.
    """
    if "snakemake" in names:
        return names["snakemake"]
    if names["__name__"] != "__main__":
        return None
    # imported by name, to be in no code fingerprint: an edit of it must not train again
    return import_module("scripts.common.debug").asked_for(names)
