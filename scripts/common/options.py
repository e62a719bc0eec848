"""Check options in the config against the dataclass `Options` of the Python file that they are for.

The file is parsed, not run, so that startup imports nothing heavy. What types cannot express (a share from 0 to 1) is
checked by the dataclass in `__post_init__`.
"""

import ast
import difflib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from scripts.common.own_code import outline

KINDS: dict[str, tuple[type, ...]] = {"str": (str,), "int": (int,), "float": (int, float), "bool": (bool,)}


def _fits(value: Any, kind: ast.expr) -> bool:
    """Return whether a value has the annotated type. Unknown annotations accept any value."""
    if isinstance(kind, ast.Constant):
        return kind.value is None and value is None
    if isinstance(kind, ast.Name) and kind.id in KINDS:
        return isinstance(value, KINDS[kind.id]) and (kind.id == "bool" or not isinstance(value, bool))
    if isinstance(kind, ast.BinOp) and isinstance(kind.op, ast.BitOr):
        return _fits(value, kind.left) or _fits(value, kind.right)
    if isinstance(kind, ast.Subscript) and isinstance(kind.value, ast.Name):
        if kind.value.id == "list":
            return isinstance(value, list) and all(_fits(item, kind.slice) for item in value)
        if kind.value.id == "Literal":
            return value in ast.literal_eval(ast.Tuple(_parts(kind.slice), ast.Load()))
    return True


def _parts(node: ast.expr) -> list[ast.expr]:
    return node.elts if isinstance(node, ast.Tuple) else [node]


def find_option_faults(file: str | Path, options: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield (option, what is wrong with it) for each option that is unknown, missing or of the wrong type.

    A file without `Options` accepts any option.
    """
    defined = outline(file).classes.get("Options")
    if defined is None:
        return
    fields = {
        node.target.id: node
        for node in defined.body
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
    }
    for name, value in options.items():
        if name not in fields:
            close = difflib.get_close_matches(str(name), fields, 1)
            known = f"did you mean {close[0]}?" if close else f"known options: {', '.join(fields) or 'none'}"
            yield name, f"no such option; {known}"
        elif not _fits(value, fields[name].annotation):
            yield name, f"{value!r} is not of type {ast.unparse(fields[name].annotation)}"
    for name, node in fields.items():
        if node.value is None and name not in options:
            yield name, "required, but missing"
