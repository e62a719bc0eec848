"""Python packages: what envs/requirements.lock pins, which of that a module needs, and what is installed."""

import re
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.metadata import distributions
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LOCK = ROOT / "envs" / "requirements.lock"
# modules that are not called as their package is
PACKAGES = {
    "google": "protobuf",
    "llama_cpp": "llama-cpp-python",
    "ruamel": "ruamel-yaml",
    "sklearn": "scikit-learn",
    "yaml": "pyyaml",
}


def normalize(name: str) -> str:
    """Return a package's name as package indexes and the lock write it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


@cache
def read_lock() -> tuple[dict[str, str], dict[str, list[str]]]:
    """Return ({package: version}, {package: packages that it brings}), as the lock's own notes (`# via …`) have it."""
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
    found, todo = set(), [package]
    while todo:
        name = todo.pop()
        if name not in found:
            found.add(name)
            todo.extend(brings.get(name, ()))
    return frozenset(found)


def package_of(module: str) -> str:
    """Return the name under which the lock has a top-level module's package."""
    return PACKAGES.get(module, normalize(module))


def needed_versions(modules: Iterable[str]) -> dict[str, str]:
    """Return {package: pinned version} of the packages of these modules and of all that they bring.

    What the lock does not pin (unsloth, which is optional) is left out.
    """
    versions = read_lock()[0]
    names = {name for module in modules for name in _needs(package_of(module))}
    return {name: versions[name] for name in sorted(names) if name in versions}


def installed_packages() -> dict[str, str]:
    """Return {package: version} of this environment."""
    return dict(sorted((normalize(package.metadata["Name"]), package.version) for package in distributions()))


def differing_from_lock(installed: Mapping[str, str]) -> dict[str, str]:
    """Return the packages that are installed in another version than the lock has."""
    pinned = {name: versions.split() for name, versions in read_lock()[0].items()}
    return {
        name: found
        for name, found in installed.items()
        # a build's own mark (2.13.0+cpu) is part of no pin
        if name in pinned and not {found, found.partition("+")[0]} & set(pinned[name])
    }
