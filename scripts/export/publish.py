"""Publish the Hugging Face folder on the Hub. Never part of `rule all`; the token comes from the environment only.

In: the folder from rule `hf`, the repository's name. Out: the repository and commit, as JSON.
"""

import os

from scripts.common.errors import GradusError, first_line
from scripts.common.io import write_json
from scripts.common.job import find_job
from scripts.common.logs import logging_to


def publish(folder: str, repository: str | None, private: bool) -> dict[str, str]:
    """Upload the folder; return {repository, commit}.

    Raises GradusError if no repository or token is given, or if the Hub refuses.
    """
    if not repository:
        raise GradusError("hub.repo is not set: set it to the repository to publish to, <organization>/<name>")
    token = os.environ.get("HF_TOKEN")
    if not token:
        raise GradusError("HF_TOKEN is not set: `export HF_TOKEN=…` with a token that has write access, and run again")
    os.environ["HF_HUB_OFFLINE"] = "0"  # every other stage after fetch runs offline
    from huggingface_hub import HfApi

    api = HfApi(token=token)
    try:
        api.create_repo(repository, private=private, exist_ok=True)
        done = api.upload_folder(repo_id=repository, folder_path=folder, ignore_patterns=[".snakemake*"])
    except Exception as error:  # the Hub's own exceptions, and those of its network library
        raise GradusError(f"could not publish to {repository}: {first_line(error).replace(token, '…')}") from None
    return {"repository": repository, "commit": str(done.oid)}


if job := find_job(globals()):
    with logging_to(job.log[0]):
        write_json(job.output.published, publish(job.input.folder, job.params.repository, job.params.private))
