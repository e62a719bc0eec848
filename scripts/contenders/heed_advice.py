"""Stop the run before training unless the advice is to go on (advise.stop).

In: the advice. Out: a note that training may start. Nothing that was made is lost if the run stops here.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scripts.common.errors import GradusError
from scripts.common.io import read_json, write_json
from scripts.common.job import find_job
from scripts.common.logs import logging_to
from scripts.contenders.advice import GO_ON


def heed(found: Mapping[str, Any], page: str | Path) -> None:
    """Raise GradusError with the advice unless it is to go on."""
    if found["advice"] != GO_ON:
        raise GradusError(
            f"stopped before training, since advise.stop is true. The advice: {found['advice']}.\n"
            f"Why: {found['because']}\nWhat to do: {found['do']}\n"
            f"Details: {page}. To train anyway, set advise.stop: false; what was made is kept."
        )


if job := find_job(globals()):
    with logging_to(job.log[0]):
        heed(read_json(job.input.advice), Path(job.input.advice).with_suffix(".html"))
        write_json(job.output.passed, {"advice": GO_ON})
