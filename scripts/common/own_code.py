"""Python files of the user's own that the config names: a task or a converter.

What a file defines is read from its syntax tree, so that the config can be checked without running it. Scripts that
need the file load it from its path. Any error in it is reported with file, line and function.
"""

import ast
import importlib.util
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from types import ModuleType
from typing import Any

from scripts.common.errors import GradusError, first_line


def is_own(name: str) -> bool:
    """Return whether a name in the config is a Python file, as opposed to a built-in name."""
    return name.endswith(".py")


def stem(name: str) -> str:
    """Return the name of a task or converter in paths and rows: `qa`, or `my_task` for `code/my_task.py`."""
    return PurePath(name).stem if is_own(name) else name


@dataclass(frozen=True)
class Outline:
    """What a file defines at its top level."""

    names: frozenset[str]
    constants: dict[str, Any] = field(default_factory=dict)  # literals only
    classes: dict[str, ast.ClassDef] = field(default_factory=dict)


def outline(file: str | Path) -> Outline:
    """Return what a Python file defines, without running it. Raises GradusError if it is not Python."""
    try:
        tree = ast.parse(Path(file).read_text(encoding="utf-8"))
    except SyntaxError as error:
        raise GradusError(f"{file}:{error.lineno or 1}: not valid Python ({error.msg}); correct the file") from None
    except ValueError as error:  # not UTF-8, or NUL
        raise GradusError(f"{file}: not valid Python ({first_line(error)}); correct the file") from None
    names, constants, classes = set(), {}, {}
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
            if isinstance(node, ast.ClassDef):
                classes[node.name] = node
        elif isinstance(node, ast.ImportFrom):
            names |= {alias.asname or alias.name for alias in node.names}
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                if isinstance(target, ast.Name):
                    names.add(target.id)
                    try:
                        constants[target.id] = ast.literal_eval(node.value) if node.value else None
                    except ValueError:
                        constants.pop(target.id, None)
    return Outline(frozenset(names), constants, classes)


def load(file: str | Path) -> ModuleType:
    """Run a Python file and return it as a module. Raises GradusError if it is missing or fails."""
    path = Path(file)
    if not path.is_file():
        raise GradusError(f"{file}: no such file; the config names it")
    outline(path)  # raises a syntax error with its line
    spec = importlib.util.spec_from_file_location(f"own_code_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look up their module
    written, sys.dont_write_bytecode = sys.dont_write_bytecode, True  # no __pycache__ among the user's files
    try:
        call(file, "", spec.loader.exec_module, module)
    finally:
        sys.dont_write_bytecode = written
    return module


def call(file: str | Path, name: str, function: Callable[..., Any], *values: Any, row: str = "") -> Any:
    """Call a function of the user's file. Raises GradusError with file, line, function and row if it fails.

    `row`: the source of the row that it is called for.
    """
    try:
        return function(*values)
    except (GradusError, MemoryError):
        raise
    except Exception as error:
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if _same(frame.filename, file)]
        place = f"{file}:{lines[-1]}" if lines else f"{file}"
        what = f"{name}() failed" if name else "cannot be loaded"
        raise GradusError(
            f"{place}: {what}{f' on row {row}' if row else ''}: {type(error).__name__}: {first_line(error)}; "
            "correct the file and run again"
        ) from error


def _same(left: str, right: str | Path) -> bool:
    return Path(left).resolve() == Path(right).resolve()
