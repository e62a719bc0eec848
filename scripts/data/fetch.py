"""Fetch one source and verify it before it is used. No other stage uses the network, but to ask a
model behind an API.

In: a source (see scripts/common/sources.py) and its sha256.
Out: a folder with a package's archive, the snapshot of a repository, or one file of rows.
"""

import shutil
from pathlib import Path

from scripts.common.errors import GradusError
from scripts.common.io import atomic_path
from scripts.common.job import find_job
from scripts.common.logs import logging_to
from scripts.common.sources import content_sha256, parts_of, scheme_of
from scripts.data import fetchers

WORK = Path(".work/fetch")  # caches and partial downloads, which the next run resumes


def fetch(source: str, sha256: str | None, folder: str | Path, work: str | Path = WORK) -> None:
    """Fetch `source` into `folder`, which appears only if it is complete and its content has the expected sha256.

    The sha256 is that of the single file, or `sha256_folder` of a repository; None if something else pins the content.
    `work` keeps partial downloads.
    """
    fetcher = scheme_of(source).fetcher
    if fetcher is None:
        raise GradusError(f"{source}: nothing to fetch")
    place = Path(work) / Path(folder).name
    place.mkdir(parents=True, exist_ok=True)
    with atomic_path(folder) as part:
        part.mkdir()
        getattr(fetchers, fetcher)(parts_of(source), part, place)
        found = content_sha256(part)
        shutil.rmtree(place)
        if sha256 == "":
            raise GradusError(f"{source}: its sha256 is\n  {found}\nPut it into the config and run again.")
        if sha256 not in (None, found):
            raise GradusError(
                f"{source}: the download's sha256 is\n  {found}\nbut the config expects\n  {sha256}\n"
                "The download was discarded. If you changed the source, put the new sha256 into the config; "
                "if you did not, somebody else changed the file: do not use it."
            )


if job := find_job(globals()):
    with logging_to(job.log[0]):
        fetch(job.params.source, job.params.sha256, job.output.folder)
