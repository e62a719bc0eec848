"""Convert the example pages in the awscli v1 package to rows: a request in English, one `aws …` command.

In: a folder with the fetched wheel, which is read in place, never unpacked or installed.
Out: rows (JSONL: prompt, response, checks, group, source) and the examples that gave no row, with the reason.

A page, `awscli/examples/<service>/<command>.rst`, has examples; an example is a title, a description and
a command. Only an example's first command is used. The prompt is a request that a person could answer:
title, description, service, and every literal value that the command needs. Descriptions name the command
in double backquotes; this would reveal the answer and is masked.
"""

import hashlib
import re
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

from docutils import nodes
from docutils.core import publish_doctree
from tqdm import tqdm

from scripts.common.errors import GradusError
from scripts.tasks.aws_commands import Command, join_lines, parse_command

# reStructuredText must not read other files, and markup errors must not stop the parser
QUIET = {"report_level": 5, "halt_level": 6, "file_insertion_enabled": False, "raw_enabled": False}


@dataclass
class Example:
    """One example of a page, before masking. `command` is empty if none was found."""

    title: str
    description: str
    command: str


@dataclass
class Options:
    """How examples become rows.

    services: read only the pages of these services; empty: all.
    answer: `command`, or `service`: the name of the service that the request needs, without values in the prompt.
    plain_share: share of rows, 0 to 1, phrased as a short request without service and description.
    max_response_chars: longer commands are left out (and counted).
    max_description_chars: descriptions are truncated at the last sentence end before this.
    """

    services: list[str] = field(default_factory=list)
    answer: Literal["command", "service"] = "command"
    plain_share: float = 0.15
    max_response_chars: int = 300
    max_description_chars: int = 200

    def __post_init__(self) -> None:
        """Reject values out of range."""
        if not 0 <= self.plain_share <= 1:
            raise ValueError(f"plain_share: {self.plain_share:g} is not from 0 to 1")
        if self.max_response_chars < 20:
            raise ValueError(f"max_response_chars: {self.max_response_chars} is less than 20")
        if self.max_description_chars < 0:
            raise ValueError(f"max_description_chars: {self.max_description_chars} is less than 0")


def read_page(text: str) -> list[Example]:
    """Return the examples of one page, in order."""
    examples = [Example("", "", "")]
    tree = publish_doctree(text, settings_overrides={**QUIET, "_disable_config": True})
    for node in tree.findall(lambda n: isinstance(n, nodes.title | nodes.paragraph | nodes.literal_block)):
        bold = isinstance(node, nodes.paragraph) and len(node) == 1 and isinstance(node[0], nodes.strong)
        body = node.astext().strip()
        if isinstance(node, nodes.title) or bold:
            examples.append(Example(body, "", ""))
        elif isinstance(node, nodes.literal_block):
            if re.match(r"\$?\s*aws\s", body) and not examples[-1].command:
                examples[-1].command = re.sub(r"^\$\s*", "", body)
        elif not examples[-1].command and body.rstrip(":").lower() != "command":
            marked = "".join(f"``{c.astext()}``" if isinstance(c, nodes.literal) else c.astext() for c in node.children)
            examples[-1].description += " " + marked
    return [example for example in examples if example.title or example.command]


def mask(text: str, service: str, operation: str) -> str:
    """Return a description without the command's name and the phrases that introduce it."""
    text = " ".join(text.split())
    names = [re.escape(name) for name in {operation, f"{service} {operation}", f"aws {service} {operation}"}]
    for name in sorted(names, key=len, reverse=True):
        text = re.sub(rf"``\s*{name}\b[^`]*``", "", text)
        if "-" in name:
            text = re.sub(rf"(?<![\w-]){name}(?![\w-])", "", text)
    text = re.sub(r"``\s*aws\s[^`]*``", "", text).replace("``", "")
    text = re.sub(r"\s+", " ", text)
    text = re.sub(
        r"\b(?:The|This)(?: following)? (?:example )?(?:AWS CLI )?(?:command|example|operation)s? (?=[a-z]+s\b)",
        "",
        text,
    )
    text = re.sub(r"\s+([.,;:])", r"\1", text).strip(" :")
    return text[:1].upper() + text[1:]


def shorten(text: str, limit: int) -> str:
    """Return the leading complete sentences of `text` that fit in `limit` characters, possibly none."""
    if len(text) <= limit:
        return text
    ends = [match.end() for match in re.finditer(r"[.!?](?=\s)", text[: limit + 1])]
    return text[: ends[-1]] if ends else ""


def clean_title(title: str) -> str:
    """Return a title as a request: "Example 2: To create a user" becomes "Create a user"."""
    title = re.sub(r"^Example\s*\d*\s*[:.)-]*\s*", "", " ".join(title.split()), flags=re.IGNORECASE)
    title = re.sub(r"^To\s+", "", title, flags=re.IGNORECASE).rstrip(" .:")
    return title[:1].upper() + title[1:]


def literal_values(command: Command) -> list[str]:
    """Return every value in the command, in order, without duplicates."""
    values = [*command.positionals, *(value for _, given in command.options for value in given)]
    return list(dict.fromkeys(values))


def is_plain(key: str, share: float) -> bool:
    """Return whether a row is phrased plainly; decided by a hash of `key`, so always the same."""
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:4]) < share * 2**32


def own_command(example: Example, service: str, operation: str) -> tuple[str, Command]:
    """Return the command of an example of a page, on one line and parsed.

    Raises ValueError with the reason if there is none, or if it is not the command that the page is about.
    """
    if not example.command:
        raise ValueError("no command in the example")
    line = re.sub(r"\s+", " ", join_lines(example.command))
    try:
        command = parse_command(line)
    except ValueError as error:
        raise ValueError(f"not one aws command: {error}") from None
    if command.service != service or command.operation.removeprefix("wait ") != operation:
        raise ValueError("the first command is not the page's own")
    return line, command


def make_row(example: Example, service: str, operation: str, source: str, options: Options) -> dict[str, Any]:
    """Return the row for one example.

    Raises ValueError with the reason if the example gives no row; there are few different reasons, to count them.
    """
    response, command = own_command(example, service, operation)
    if len(response) > options.max_response_chars:
        raise ValueError("command longer than max_response_chars")
    if "-" in operation:
        # a file named after the command would reveal it; any other name works
        response = re.sub(rf"(file://[^\s'\"]*?){re.escape(operation)}", r"\1input", response)
        command = parse_command(response)
    values = literal_values(command)
    title = clean_title(example.title)
    description = shorten(mask(example.description, service, operation), options.max_description_chars)
    if not title and not description:
        raise ValueError("neither title nor description")
    request = mask(title or shorten(description, 120), service, operation)
    if not request:
        raise ValueError("nothing left of the title once the command's name is masked")
    listed = ", ".join(values)
    group = f"{service}/{operation}"
    if options.answer == "service":
        described = description if description.rstrip(".") != request else ""
        return {
            "prompt": " ".join(filter(None, [f"{request}.", described])),
            "response": service,
            "group": group,
            "source": source,
        }
    if is_plain(source, options.plain_share):
        prompt = request[:1].lower() + request[1:] + (f": {listed}" if values else "")
    else:
        lines = [f"{request}.", description if description.rstrip(".") != request else ""]
        lines = [" ".join(filter(None, lines)), f"Service: {service}"]
        prompt = "\n".join(lines + ([f"Values: {listed}"] if values else []))
    if "-" in operation and re.search(rf"(?<![\w-]){re.escape(operation)}(?![\w-])", prompt):
        raise ValueError("a value gives the command's name away")
    return {
        "prompt": prompt,
        "response": response,
        "checks": [f"aws {command.name}", *dict.fromkeys(name for name, _ in command.options)],
        "group": group,
        "source": source,
    }


def read_pages(wheel: Path, services: list[str]) -> Iterator[tuple[str, str, str, str]]:
    """Yield (service, operation, path, text) of each example page inside the wheel, sorted by path."""
    with zipfile.ZipFile(wheel) as archive:
        for name in tqdm(sorted(archive.namelist()), desc="pages", unit="page", mininterval=1):
            match = re.fullmatch(r"awscli/examples/([\w-]+)/(?:(wait)/)?([\w-]+)\.rst", name)
            if match and not match[3].startswith("_") and (not services or match[1] in services):
                yield match[1], match[3], name.removeprefix("awscli/examples/"), archive.read(name).decode()


def convert_pages(
    folder: str | Path, services: list[str], row: Callable[[Example, str, str, str], dict[str, Any]]
) -> tuple[list[dict[str, Any]], list[dict[str, str]], dict[str, Any]]:
    """Return rows, the examples that gave no row with their reasons, and the counts of both.

    `row` makes the row of (example, service, operation, source), or raises ValueError with the reason if there is none.
    """
    wheels = sorted(Path(folder).glob("*.whl"))
    if len(wheels) != 1:
        raise GradusError(f"{folder}: expected one wheel, found {len(wheels)}; delete the folder and run again")
    rows, left_out, pages, seen_services = [], [], 0, set()
    for service, operation, path, text in read_pages(wheels[0], services):
        pages += 1
        seen_services.add(service)
        for number, example in enumerate(read_page(text), 1):
            source = f"{path}#{number}"
            try:
                rows.append(row(example, service, operation, source))
            except ValueError as error:
                left_out.append({"source": source, "reason": str(error), "title": example.title})
    if unknown := sorted(set(services) - seen_services):
        raise GradusError(f"data.package.options.services: the package has no example pages for {', '.join(unknown)}")
    reasons = dict(Counter(item["reason"] for item in left_out))
    return (
        rows,
        left_out,
        {"read": f"{pages} pages of {len(seen_services)} services", "rows": len(rows), "left_out": reasons},
    )


def convert(folder: str | Path, options: Options) -> tuple[list[dict[str, Any]], list[dict[str, str]], dict[str, Any]]:
    """Return rows, the examples that gave no row with their reasons, and the counts of both."""
    return convert_pages(folder, options.services, partial(make_row, options=options))
