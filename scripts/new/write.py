"""Render a config, given as lines with reasons, as commented YAML."""

import io
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.scalarstring import DoubleQuotedScalarString

from scripts.common.errors import GradusError

WIDTH = 110


@dataclass
class Line:
    """A key of the config, such as `data.task`, its value, and the reason for the value.

    A list of mappings is given as a list of (mapping, reason).
    """

    key: str
    value: Any
    why: str


def in_flow(value: Any) -> Any:
    """Return a value whose lists and mappings are written in flow style, on one line."""
    node: CommentedMap | CommentedSeq
    if isinstance(value, Mapping):
        node = CommentedMap({key: in_flow(part) for key, part in value.items()})
    elif isinstance(value, list):
        node = CommentedSeq(map(in_flow, value))
    else:
        return quoted(value) if isinstance(value, str) else value
    node.fa.set_flow_style()
    return node


def quoted(text: str) -> str:
    """Quote a string that PyYAML would read as another type, such as `on`, `no`, `012` and `12:30`."""
    try:
        other = not isinstance(yaml.safe_load(text), str | dict | list)
    except yaml.YAMLError:
        return text  # ruamel quotes what is not plain YAML
    return DoubleQuotedScalarString(text) if other else text


def dump(value: Any) -> str:
    """Return the YAML of a value built of ruamel's mappings and lists."""
    writer = YAML()
    writer.width = WIDTH
    writer.indent(mapping=2, sequence=4, offset=2)
    text = io.StringIO()
    writer.dump(value, text)
    return text.getvalue()


def comment(part: CommentedMap, key: str, why: str, depth: int) -> None:
    """Put a comment after a key's value if both fit on the line, else above the key."""
    value = part[key]
    block = isinstance(value, CommentedMap | CommentedSeq) and not value.fa.flow_style()
    line = f"{key}:" if block else dump(CommentedMap({key: value})).rstrip("\n")
    if "\n" not in line and 2 * depth + len(line) + len(why) + 3 <= WIDTH:
        part.yaml_add_eol_comment(why, key, column=0)
    else:
        part.yaml_set_comment_before_after_key(key, before=wrapped(why, WIDTH - 2 * depth), indent=2 * depth)


def wrapped(text: str, width: int) -> str:
    """Wrap a comment's text to `width`, including `# `."""
    lines = [""]
    for word in text.split():
        if lines[-1] and len(lines[-1]) + 1 + len(word) > width - 2:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".lstrip()
    return "\n".join(lines)


def phases(items: Sequence[tuple[Mapping[str, Any], str]]) -> CommentedSeq:
    """Return a list with one item per line, each followed by its comment."""
    sequence = CommentedSeq()
    for number, (value, why) in enumerate(items):
        sequence.append(in_flow(value))
        sequence.yaml_add_eol_comment(why, number, column=0)
    return sequence


def render(lines: Sequence[Line], sections: Mapping[str, str], head: str) -> str:
    """Return the YAML of a config. `sections`: the comment of each section; `head`: the comment at the start."""
    whole = CommentedMap()
    whole.yaml_set_start_comment(head)
    for line in lines:
        section, _, key = line.key.rpartition(".")
        if section and section not in whole:
            whole[section] = CommentedMap()
            comment(whole, section, sections[section], 0)
        part = whole[section] if section else whole
        several = isinstance(line.value, list) and line.value and isinstance(line.value[0], tuple)
        part[key or line.key] = phases(line.value) if several else in_flow(line.value)
        comment(part, key or line.key, line.why, 1 if section else 0)
    return dump(whole)


def create(path: str | Path, text: str) -> None:
    """Write a new file atomically. Raises GradusError if the file exists; nothing is overwritten."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.write_text(text, encoding="utf-8")
        os.link(part, path)  # unlike a rename, this fails if the file exists
    except FileExistsError:
        raise GradusError(
            f"{path}: already exists; nothing was changed. Choose another RUN, or delete the file"
        ) from None
    except OSError as error:
        raise GradusError(f"{path}: cannot be written ({error.strerror})") from None
    finally:
        part.unlink(missing_ok=True)
