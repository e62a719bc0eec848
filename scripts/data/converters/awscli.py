"""Convert the example pages in the awscli v1 package to rows: a request in English, one `aws …` command.

In: a folder with the fetched wheel, which is read in place, never unpacked or installed.
Out: rows (JSONL: prompt, response, checks, group, source) and the examples that gave no row, with the reason.

A page, `awscli/examples/<service>/<command>.rst`, has examples; an example is a title, a description and
a command. Only an example's first command is used. The prompt is a request that a person could answer:
title, description, service, and every literal value that the command needs. Descriptions name the command
in double backquotes; this would reveal the answer and is masked.

Augmented rows, which are only for training, come after all others: the same examples phrased anew, as users do
(aws_phrases.py), with other names for what the documentation calls `my-…`, and rows made from botocore's service models
(aws_vocabulary.py).
"""

import hashlib
import math
import random
import re
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeVar

from docutils import nodes
from docutils.core import publish_doctree
from tqdm import tqdm

from scripts.common.errors import GradusError
from scripts.data.converters import aws_vocabulary
from scripts.data.converters.aws_phrases import phrase, rename, telling_words
from scripts.tasks.aws_commands import Command, join_lines, parse_command

Made = TypeVar("Made")

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
    plain_share: share of examples, 0 to 1, phrased as a user would, without description.
    phrased_rows: augmented rows for each example, phrased as a user would.
    vocabulary_rows: augmented rows for each operation, made from the service models.
    rows_per_service: services with fewer examples get more augmented rows, up to four times as many.
    often: services, and operations such as `ec2/stop-instances`, that get four times as many again.
    max_response_chars: longer commands are left out (and counted).
    max_description_chars: descriptions are truncated at the last sentence end before this.
    """

    services: list[str] = field(default_factory=list)
    answer: Literal["command", "service"] = "command"
    plain_share: float = 0.15
    phrased_rows: int = 0
    vocabulary_rows: int = 0
    rows_per_service: int = 0
    often: list[str] = field(default_factory=list)
    max_response_chars: int = 300
    max_description_chars: int = 200

    def __post_init__(self) -> None:
        """Reject values out of range."""
        if not 0 <= self.plain_share <= 1:
            raise ValueError(f"plain_share: {self.plain_share:g} is not from 0 to 1")
        for name in ("phrased_rows", "vocabulary_rows", "rows_per_service"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}: {getattr(self, name)} is less than 0")
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


@dataclass
class Parts:
    """What rows of one example are made of. `service` is that of the command; `group` and `source` as in a row."""

    request: str
    description: str
    service: str
    values: list[str]
    response: str
    group: str
    source: str


def make_parts(example: Example, service: str, operation: str, source: str, options: Options) -> Parts:
    """Return the parts of one example.

    Raises ValueError with the reason if the example gives no row; there are few different reasons, to count them.
    """
    response, command = own_command(example, service, operation)
    if len(response) > options.max_response_chars:
        raise ValueError("command longer than max_response_chars")
    if "-" in operation:
        # a file named after the command would reveal it; any other name works
        response = re.sub(rf"(file://[^\s'\"]*?){re.escape(operation)}", r"\1input", response)
        command = parse_command(response)
    title = clean_title(example.title)
    description = shorten(mask(example.description, service, operation), options.max_description_chars)
    if not title and not description:
        raise ValueError("neither title nor description")
    request = mask(title or shorten(description, 120), service, operation)
    if not request:
        raise ValueError("nothing left of the title once the command's name is masked")
    description = description if description.rstrip(".") != request else ""
    values = literal_values(command)
    told = "\n".join([request, description, *values])
    named = options.answer == "command" and "-" in operation
    if named and re.search(rf"(?<![\w-]){re.escape(operation)}(?![\w-])", told):
        raise ValueError("a value gives the command's name away")
    return Parts(request, description, service, values, response, f"{service}/{operation}", source)


def make_row(parts: Parts, prompt: str, response: str) -> dict[str, Any]:
    """Return a row with a prompt and a command."""
    command = parse_command(response)
    return {
        "prompt": prompt,
        "response": response,
        "checks": [f"aws {command.name}", *dict.fromkeys(name for name, _ in command.options)],
        "group": parts.group,
        "source": parts.source,
    }


def first_row(parts: Parts, options: Options, telling: Mapping[str, str]) -> dict[str, Any]:
    """Return the row of an example that may be held out: documented or, for `plain_share` of the examples, plain."""
    documented = " ".join(filter(None, [f"{parts.request}.", parts.description]))
    if options.answer == "service":
        return {"prompt": documented, "response": parts.service, "group": parts.group, "source": parts.source}
    if is_plain(parts.source, options.plain_share):
        prompt = phrase(parts.request, parts.service, parts.values, random.Random(parts.source), telling)
    else:
        values = [f"Values: {', '.join(parts.values)}"] if parts.values else []
        prompt = "\n".join([documented, f"Service: {parts.service}", *values])
    return make_row(parts, prompt, parts.response)


def phrased_rows(parts: Parts, count: int, telling: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """Yield `count` augmented rows of an example: phrased as a user would, every second one with other names."""
    for number in range(count):
        lot = random.Random(f"{parts.source} {number}")  # text seeds are hashed, so always the same
        texts = [parts.response, parts.request, *parts.values]
        response, request, *values = rename(texts, lot) if number % 2 else texts
        yield make_row(parts, phrase(request, parts.service, values, lot, telling), response) | {"augmented": True}


def augment(examples: list[Parts], options: Options, telling: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """Yield the augmented rows: of each example, then of each operation that has one."""
    sizes = Counter(parts.service for parts in examples)
    more = {
        service: min(4, max(1, math.ceil(options.rows_per_service / size))) for service, size in sorted(sizes.items())
    }
    if unknown := sorted(set(options.often) - set(sizes) - {parts.group for parts in examples}):
        raise GradusError(f"data.package.options.often: the package has no example pages for {', '.join(unknown)}")

    def times(service: str, group: str) -> int:
        return more[service] * (4 if {service, group} & set(options.often) else 1)

    for parts in examples:
        yield from phrased_rows(parts, options.phrased_rows * times(parts.service, parts.group), telling)
    for group in dict.fromkeys(parts.group for parts in examples):
        service, _, operation = group.partition("/")
        count = options.vocabulary_rows * times(service, group)
        yield from aws_vocabulary.make_rows(service, operation, count, options.max_response_chars, telling)


def read_pages(wheel: Path, services: list[str]) -> Iterator[tuple[str, str, str, str]]:
    """Yield (service, operation, path, text) of each example page inside the wheel, sorted by path."""
    with zipfile.ZipFile(wheel) as archive:
        for name in tqdm(sorted(archive.namelist()), desc="pages", unit="page", mininterval=1):
            match = re.fullmatch(r"awscli/examples/([\w-]+)/(?:(wait)/)?([\w-]+)\.rst", name)
            if match and not match[3].startswith("_") and (not services or match[1] in services):
                yield match[1], match[3], name.removeprefix("awscli/examples/"), archive.read(name).decode()


def read_examples(
    folder: str | Path, services: list[str], make: Callable[[Example, str, str, str], Made]
) -> tuple[list[Made], list[dict[str, str]], dict[str, Any]]:
    """Return what is made of each example, the examples that gave nothing with their reasons, and the counts of both.

    `make` takes (example, service, operation, source), and raises ValueError with the reason if it makes nothing.
    """
    wheels = sorted(Path(folder).glob("*.whl"))
    if len(wheels) != 1:
        raise GradusError(f"{folder}: expected one wheel, found {len(wheels)}; delete the folder and run again")
    made, left_out, pages, seen_services = [], [], 0, set()
    for service, operation, path, text in read_pages(wheels[0], services):
        pages += 1
        seen_services.add(service)
        for number, example in enumerate(read_page(text), 1):
            source = f"{path}#{number}"
            try:
                made.append(make(example, service, operation, source))
            except ValueError as error:
                left_out.append({"source": source, "reason": str(error), "title": example.title})
    if unknown := sorted(set(services) - seen_services):
        raise GradusError(f"data.package.options.services: the package has no example pages for {', '.join(unknown)}")
    reasons = dict(Counter(item["reason"] for item in left_out))
    counts = {"read": f"{pages} pages of {len(seen_services)} services", "rows": len(made), "left_out": reasons}
    return made, left_out, counts


def distinct(rows: Iterable[dict[str, Any]], seen: set[tuple[str, str]]) -> Iterator[dict[str, Any]]:
    """Yield the rows whose prompt and response are not among `seen`, which grows."""
    for row in rows:
        if (key := (row["prompt"], row["response"])) not in seen:
            seen.add(key)
            yield row


def convert(folder: str | Path, options: Options) -> tuple[list[dict[str, Any]], list[dict[str, str]], dict[str, Any]]:
    """Return rows, the examples that gave no row with their reasons, and the counts of both."""
    examples, left_out, counts = read_examples(folder, options.services, partial(make_parts, options=options))
    telling = telling_words((parts.service, parts.request) for parts in examples)
    rows = [first_row(parts, options, telling) for parts in examples]
    if options.answer == "command":
        rows += distinct(augment(examples, options, telling), {(row["prompt"], row["response"]) for row in rows})
    return rows, left_out, counts | {"rows": len(rows)}
