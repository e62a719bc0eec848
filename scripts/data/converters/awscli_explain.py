"""Convert the example pages in the awscli v1 package to rows: an `aws …` command, the sentence that says what it does.

In: a folder with the fetched wheel, which is read in place, never unpacked or installed.
Out: rows (JSONL: prompt, response, group, source) and the examples that gave no row, with the reason.

Pages are read as converter `awscli` reads them. The sentence is the one of an example's description that begins like
"The following ``create-user`` example creates"; these words, which are the same on every page, are left out.
"""

import re
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from scripts.data.converters.awscli import Example, own_command, read_examples

# how a sentence begins that says what the command does, up to its verb, in the third person
LEAD = re.compile(
    r"(?:The|This|In this example, the)(?: following| next)?(?: ``[^`]+``| [a-z][a-z0-9]*(?:-[a-z0-9]+)+)?"
    r"(?: example| sample)?(?: AWS CLI)?(?: example| command| operation)*(?: example)? (?=[a-z]+s )",
)
# these tell about the page, or name a command instead of what it does
SAYS_LITTLE = re.compile(
    r"(?:examples|demonstrates|illustrates|uses|is|has|does|assumes|shows (?:you )?(?:how|the (?:error|use|output))) "
)
LEANS_ON_THE_PAGE = re.compile(
    r"\b(?:following|below|above|previous|preceding|earlier|shown|(?:this|the) (?:example|command))\b", re.IGNORECASE
)
UNFINISHED = re.compile(r"`|\b(?:named|called|from|with|to|of|the|a|an|and)$")  # markup that was not read, a word lost


@dataclass
class Options:
    """Which examples become rows.

    services: read only the pages of these services; empty: all.
    max_command_chars, max_sentence_chars: examples with a longer command or sentence are left out (and counted).
    """

    services: list[str] = field(default_factory=list)
    max_command_chars: int = 300
    max_sentence_chars: int = 200

    def __post_init__(self) -> None:
        """Reject values out of range."""
        for name in ("max_command_chars", "max_sentence_chars"):
            if getattr(self, name) < 20:
                raise ValueError(f"{name}: {getattr(self, name)} is less than 20")


def find_sentence(description: str) -> str:
    """Return what the command does, in one sentence without markup: "Creates an IAM user named Bob."

    Raises ValueError with the reason if the description does not say it in one sentence that stands alone.
    """
    text = " ".join(description.split())
    sentences = re.split(r"(?<!\b[A-Z]\.)(?<!\be\.g\.)(?<!\bi\.e\.)(?<=[.!?:])\s+", text)
    for sentence in sentences:
        if lead := LEAD.match(sentence):
            rest = re.sub(r"\s+(?=[.,;:])", "", sentence[lead.end() :].replace("``", "")).rstrip(" .:")
            if SAYS_LITTLE.match(rest):
                raise ValueError("the sentence tells about the page or its command, not what it does")
            if LEANS_ON_THE_PAGE.search(rest):
                raise ValueError("the sentence does not stand alone")
            if UNFINISHED.search(rest):
                raise ValueError("the sentence has broken markup, or lost a word with it")
            return f"{rest[:1].upper()}{rest[1:]}."
    raise ValueError("no sentence begins as one that says what the command does")


def make_row(example: Example, service: str, operation: str, source: str, options: Options) -> dict[str, Any]:
    """Return the row for one example. Raises ValueError with the reason if it gives none."""
    command, _ = own_command(example, service, operation)
    if len(command) > options.max_command_chars:
        raise ValueError("command longer than max_command_chars")
    sentence = find_sentence(example.description)
    if len(sentence) > options.max_sentence_chars:
        raise ValueError("sentence longer than max_sentence_chars")
    return {"prompt": command, "response": sentence, "group": f"{service}/{operation}", "source": source}


def convert(folder: str | Path, options: Options) -> tuple[list[dict[str, Any]], list[dict[str, str]], dict[str, Any]]:
    """Return rows, the examples that gave no row with their reasons, and the counts of both."""
    return read_examples(folder, options.services, partial(make_row, options=options))
