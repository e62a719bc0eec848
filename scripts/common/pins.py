"""What envs/requirements.lock pins, and which of that a package needs."""

import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LOCK = ROOT / "envs" / "requirements.lock"
# modules that are not called as their package is
PACKAGES = {"google": "protobuf", "llama_cpp": "llama-cpp-python", "sklearn": "scikit-learn", "yaml": "pyyaml"}


@cache
def read_lock() -> tuple[dict[str, str], dict[str, list[str]]]:
    """Return ({package: version}, {package: packages that it brings}), as the lock's own notes (`# via …`) have it."""
    versions: dict[str, str] = {}
    brings: dict[str, list[str]] = {}
    package = ""
    for line in LOCK.read_text(encoding="utf-8").splitlines():
        if pin := re.match(r"([\w.-]+)==([^\s;]+)", line):
            package = pin[1].lower()
            # a package can stand there more than once, for several platforms
            versions[package] = f"{versions[package]} {pin[2]}" if package in versions else pin[2]
        elif via := re.match(r"    #(?: via)? +([\w.-]+)$", line):
            brings.setdefault(via[1].lower(), []).append(package)
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
    return PACKAGES.get(module, module.replace("_", "-").lower())


def needed_versions(modules: Iterable[str]) -> dict[str, str]:
    """Return {package: pinned version} of the packages of these modules and of all that they bring.

    What the lock does not pin (unsloth, which is optional) is left out.
    """
    versions = read_lock()[0]
    names = {name for module in modules for name in _needs(package_of(module))}
    return {name: versions[name] for name in sorted(names) if name in versions}
