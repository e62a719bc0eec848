"""Read config files, with the line of each key."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from scripts.common.errors import GradusError

# the C loader, if PyYAML has it: every plan reads the schema
Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
SHOWN = 3  # faults that are printed if there are many


def load_yaml(path: str | Path) -> Any:
    """Return the value of a YAML file."""
    with open(path, encoding="utf-8") as handle:
        return yaml.load(handle, Loader)  # noqa: S506 - a safe loader


def refusal(faults: list[str]) -> GradusError:
    """Return the error that lists the config's first faults and counts the others."""
    more = [f"… and {len(faults) - SHOWN} more"] if len(faults) > SHOWN + 1 else faults[SHOWN:]
    return GradusError("\n  ".join(["the config cannot be used:", *faults[:SHOWN], *more]))


def read_config(file: str | Path) -> dict[str, Any]:
    """Return a config file's content; raise GradusError if it cannot be read, is not YAML, or has duplicate keys."""
    try:
        text = Path(file).read_text(encoding="utf-8")
        node = yaml.compose(text, Loader=Loader)
        value = yaml.load(text, Loader)  # noqa: S506 - a safe loader
        twice = list(_twice(node))
    except (OSError, ValueError, yaml.YAMLError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else " ".join(str(error).split())[:300]
        raise GradusError(f"{file}: cannot be read as a config: {reason}") from None
    if not isinstance(value, dict):
        raise GradusError(f"{file}: not a config; it must consist of lines such as `run: my-run`")
    if twice:
        raise refusal([f"{file}:{line}: {key}: duplicate key; remove one" for key, line in twice])
    return value


def _twice(node: Any) -> Iterator[tuple[str, int]]:
    if isinstance(node, yaml.MappingNode):
        keys = [key.value for key, _ in node.value]
        yield from ((k.value, k.start_mark.line + 1) for n, (k, _) in enumerate(node.value) if k.value in keys[:n])
        for _, inner in node.value:
            yield from _twice(inner)


def find_line(file: str | Path, path: Sequence[Any]) -> int | None:
    """Return the line, from 1, of the key or item at `path` in a YAML file; None if it is missing."""
    node = yaml.compose(Path(file).read_text(encoding="utf-8"), Loader=Loader)
    line = None
    for step in path:
        if isinstance(node, yaml.MappingNode):
            # YAML 1.1 reads a bare `on` as true
            names = {str(step), *(("on", "yes") if step in (True, "true") else ())}
            pair = next(((key, value) for key, value in node.value if key.value in names), None)
            if pair is None:
                return None
            line, node = pair[0].start_mark.line + 1, pair[1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
            node = node.value[step]
            line = node.start_mark.line + 1
        else:
            return None
    return line


def where(path: Sequence[Any], files: Sequence[str | Path]) -> str:
    """Return `file:line` of the key at `path` in the last file that sets it, or a note that it comes from a default."""
    for file in reversed(files):  # a later file overrides an earlier one
        if line := find_line(file, path):
            return f"{file}:{line}"
    # a missing key is reported at its section
    return where(path[:-1], files) if len(path) > 1 else "--config or config defaults"
