"""Check the code that the config names, the task and the converter: whether it exists and accepts its options.

Python files are parsed, not run, so that planning imports nothing heavy.
"""

import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from scripts.common.errors import GradusError
from scripts.common.hashing import ROOT
from scripts.common.options import find_option_faults
from scripts.common.own_code import is_own, outline
from scripts.tasks.table import TASKS

CONVERTERS = Path("scripts") / "data" / "converters"
Fault = tuple[list[str | int], str]
DOCS = 'see docs/data.md, "Your own task, metric or converter"'


def converter_file(name: str) -> Path:
    """Return the file of a converter, relative to the project: one in CONVERTERS, or the user's own."""
    return Path(name) if is_own(name) else CONVERTERS / f"{name}.py"


def own_code(config: Mapping[str, Any]) -> dict[tuple[str, ...], str]:
    """Return {path in the config: Python file} for the user's own Python files that a run uses."""
    data = config["data"]
    named: dict[tuple[str, ...], str] = {("data", "task"): data["task"]}
    if not data["files"] and data["package"]["converter"]:
        named["data", "package", "converter"] = data["package"]["converter"]
    return {path: name for path, name in named.items() if is_own(name)}


def check_code(config: Mapping[str, Any]) -> Iterator[Fault]:
    """Yield (path in the config, what is wrong). Missing files are reported by `check_files`."""
    task, headline = config["data"]["task"], config["evaluate"]["headline"]
    if is_own(task):
        yield from _check_file(["data", "task"], task, ("TASK", "METRICS", "BATCH"))
        if headline:
            yield ["evaluate", "headline"], f"set HEADLINE in {task} instead"
    elif task not in TASKS:
        yield ["data", "task"], f"no task {task!r}; {_closest(task, TASKS)} (the name of your own file must end in .py)"
    elif headline and headline not in (known := TASKS[task].row_names):
        yield ["evaluate", "headline"], f"task {task} has no metric {headline!r} of a row; {_closest(headline, known)}"
    metric = config["preference"]["metric"]
    if metric and not is_own(task) and task in TASKS and metric not in (known := TASKS[task].row_names):
        yield ["preference", "metric"], f"task {task} has no metric {metric!r} of a row; {_closest(metric, known)}"
    package = config["data"]["package"]
    if not config["data"]["files"] and package["source"]:
        yield from _check_converter(package["converter"], package["options"])


def _check_converter(name: str | None, options: Mapping[str, Any]) -> Iterator[Fault]:
    known = sorted(file.stem for file in (ROOT / CONVERTERS).glob("[!_]*.py"))
    path: list[str | int] = ["data", "package", "converter"]
    if name is None:
        yield path, f"required if data.package.source is set; known: {', '.join(known)}"
        return
    if not is_own(name) and name not in known:
        yield path, f"no converter {name!r}; {_closest(name, known)} (the name of your own file must end in .py)"
        return
    faults = list(_check_file(path, name, ("convert",))) if is_own(name) else []
    yield from faults
    file = ROOT / converter_file(name)
    if not faults and file.is_file():
        for option, wrong in find_option_faults(file, options):
            yield ["data", "package", "options", option], wrong


def _check_file(path: list[str | int], file: str, names: Sequence[str]) -> Iterator[Fault]:
    """Yield what is wrong with a Python file that must define one of these names."""
    if not Path(file).is_file():
        return
    try:
        defined = outline(file)
    except GradusError as error:
        yield path, str(error)
        return
    if not defined.names & set(names):
        yield path, f"{file} defines no {' or '.join(names)}; {DOCS}"
    base = defined.constants.get("BASE")
    if "BASE" in defined.names and base not in TASKS:
        yield path, f"{file}: BASE: no task {base!r}; {_closest(str(base), TASKS)}"


def _closest(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(known), 1)
    return f"did you mean {close[0]}?" if close else f"known: {', '.join(known)}"
