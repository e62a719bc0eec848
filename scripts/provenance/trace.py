"""`python -m scripts.provenance.trace FILE`: print the lineage of a file, back to raw rows and config.

FILE is one of a run's files or a copy of it under any name: it is identified by its sha256.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from scripts.common.errors import GradusError
from scripts.common.gguf_info import metadata, open_gguf
from scripts.common.hashing import sha256_file, sha256_folder
from scripts.common.io import read_json


def find(file: Path, manifests: list[dict[str, Any]]) -> tuple[dict[str, Any], str]:
    """Return (manifest, the artifact's path in it) of the file with this content.

    Raises GradusError if no run made it, or if it has changed since.
    """
    sha256 = sha256_folder(file) if file.is_dir() else sha256_file(file)
    for manifest in manifests:
        for path, facts in {**manifest["artifacts"], **manifest["sources"]}.items():
            if facts["sha256"] == sha256:
                return manifest, path
            if any(inner["sha256"] == sha256 for inner in facts.get("files", {}).values()):
                return manifest, path
    by_name = [m["run"] for m in manifests if file.as_posix() in m["artifacts"]]
    if by_name:
        raise GradusError(f"{file}: changed since run {by_name[0]} made it (its sha256 is now {sha256})")
    raise GradusError(f"{file}: its sha256, {sha256}, is not in any results/*/manifest.json" + carried_hashes(file))


def carried_hashes(file: Path) -> str:
    """Return what a GGUF's metadata says about its origin."""
    try:
        hashes = {key: value for key, value in metadata(open_gguf(file)).items() if key.startswith("gradus.")}
    except (GradusError, OSError):
        return ""
    return "; its metadata: " + ", ".join(f"{key} {value[:12]}…" for key, value in hashes.items()) if hashes else ""


def descent(manifest: dict[str, Any], path: str) -> Iterator[str]:
    """Yield a line for the artifact and for everything it was made from, once each, indented by distance."""
    seen: set[str] = set()

    def walk(name: str, depth: int) -> Iterator[str]:
        facts = manifest["artifacts"].get(name) or manifest["sources"][name]
        seen.add(name)
        made = f"{facts['rule']}, code {facts['code']}, {facts['started']}" if "rule" in facts else "given"
        sha = f"sha256 {facts['sha256'][:16]}" if facts["sha256"] else "temporary file"
        yield f"{'  ' * depth}{name}  [{made}]  {sha}"
        # the markers of passed gates come last
        inputs = sorted(facts.get("inputs", {}), key=lambda inner: (inner.endswith(".passed"), inner))
        for inner in inputs:
            if inner not in seen:
                yield from walk(inner, depth + 1)
            elif inner in manifest["artifacts"]:
                again.setdefault(name, []).append(inner)
        if name in again:
            yield f"{'  ' * (depth + 1)}and, already shown: {', '.join(again[name])}"

    again: dict[str, list[str]] = {}
    yield from walk(path, 0)


def trace(file: Path) -> Iterator[str]:
    """Yield the lines to print; raise GradusError if the file cannot be traced."""
    if not file.exists():
        raise GradusError(f"{file}: no such file")
    manifests = [read_json(path) for path in sorted(Path("results").glob("*/manifest.json"))]
    manifest, path = find(file, manifests)
    git, run = manifest["git"], manifest["run"]
    dirty = f", with changes in {', '.join(git['changed'])}" if git["dirty"] else ""
    yield f"{file} is {path} of run {run}, {manifest['made']}"
    yield f"commit {git['commit'] or 'unknown'}{dirty}"
    yield f"config results/{run}/config.yaml  sha256 {manifest['config_sha256'][:16]}"
    yield f"chat contract  sha256 {manifest['chat_contract'][:16]}"
    yield f"environment: lock {manifest['fingerprint']['lock'][:16]}, {manifest['cpu']['name'] or 'unknown CPU'}"
    data = manifest["config"]["data"]
    for part, given in (("base model", manifest["config"]["base_model"]), ("rows", data["package"])):
        if given["source"] and not (part == "rows" and data["files"]):
            yield f"{part} {given['source']}  sha256 {(given['sha256'] or 'not pinned')[:16]}"
    yield ""
    yield from descent(manifest, path)


def main() -> None:
    """Print the lineage."""
    if len(sys.argv) != 2 or not sys.argv[1]:
        sys.exit("Gradus: which file? make trace FILE=results/<run>/ollama/model.gguf")
    try:
        print("\n".join(trace(Path(sys.argv[1]))))
    except GradusError as error:
        sys.exit(f"Gradus: {error}")


if __name__ == "__main__":
    main()
