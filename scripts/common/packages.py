"""Python packages: what envs/requirements.lock pins, what a module needs of it, and what is installed."""

import re
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, distributions, version
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LOCK = ROOT / "envs" / "requirements.lock"
# modules whose name differs from that of their package
PACKAGES = {
    "absl": "absl-py",
    "google": "protobuf",
    "llama_cpp": "llama-cpp-python",
    "ruamel": "ruamel-yaml",
    "sklearn": "scikit-learn",
    "vl_convert": "vl-convert-python",
    "yaml": "pyyaml",
}


def normalize(name: str) -> str:
    """Return a package's normalized name, as in package indexes and the lock file (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


@cache
def read_lock() -> tuple[dict[str, str], dict[str, list[str]]]:
    """Return ({package: version}, {package: its dependencies}), the latter from the lock's comments (`# via …`)."""
    versions: dict[str, str] = {}
    brings: dict[str, list[str]] = {}
    package = ""
    for line in LOCK.read_text(encoding="utf-8").splitlines():
        if pin := re.match(r"([\w.-]+)==([^\s;]+)", line):
            package = normalize(pin[1])
            # a package can be listed more than once, for several platforms
            versions[package] = f"{versions[package]} {pin[2]}" if package in versions else pin[2]
        elif via := re.match(r"    #(?: via)? +([\w.-]+)$", line):
            brings.setdefault(normalize(via[1]), []).append(package)
    return versions, brings


@cache
def _needs(package: str) -> frozenset[str]:
    brings = read_lock()[1]
    needed, todo = set(), [package]
    while todo:
        name = todo.pop()
        if name not in needed:
            needed.add(name)
            todo.extend(brings.get(name, ()))
    return frozenset(needed)


def package_of(module: str) -> str:
    """Return the name of a top-level module's package in the lock."""
    return PACKAGES.get(module, normalize(module))


def needed_versions(modules: Iterable[str]) -> dict[str, str]:
    """Return {package: pinned version} for the packages of these modules and all their dependencies.

    Packages that the lock does not pin (unsloth, which is optional) are skipped.
    """
    versions = read_lock()[0]
    names = {name for module in modules for name in _needs(package_of(module))}
    return {name: versions[name] for name in sorted(names) if name in versions}


def installed_version(package: str) -> str | None:
    """Return the installed version of a package, or None."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def installed_packages() -> dict[str, str]:
    """Return {package: version} of this environment."""
    return dict(sorted((normalize(package.metadata["Name"]), package.version) for package in distributions()))


def differing_from_lock(installed: Mapping[str, str]) -> dict[str, str]:
    """Return the installed packages whose version differs from the lock."""
    pinned = {name: versions.split() for name, versions in read_lock()[0].items()}
    return {
        name: version
        for name, version in installed.items()
        # pins have no local version label (2.13.0+cpu)
        if name in pinned and not {version, version.partition("+")[0]} & set(pinned[name])
    }
