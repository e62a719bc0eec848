"""The same address, typed otherwise: variants of training rows, as augmented rows.

A variant changes the text and, where a part has changed, the part; so the part is still what the text says. A function
takes (text, its parts, random numbers) and returns both changed, or None if there is nothing that it could change.
"""

import re
from collections.abc import Callable, Mapping
from random import Random
from typing import Any

Parts = dict[str, Any]
Vary = Callable[[str, Parts, Random], tuple[str, Parts] | None]

# USPS Publication 28: appendix C1 (suffixes), C2 (secondary units), B (states); the commonest ones
SUFFIXES = {
    "Avenue": "Ave", "Boulevard": "Blvd", "Circle": "Cir", "Court": "Ct", "Drive": "Dr", "Highway": "Hwy", "Lane": "Ln",
    "Parkway": "Pkwy", "Place": "Pl", "Road": "Rd", "Street": "St", "Terrace": "Ter",
}  # fmt: skip
DIRECTIONS = {
    "North": "N", "South": "S", "East": "E", "West": "W",
    "Northeast": "NE", "Northwest": "NW", "Southeast": "SE", "Southwest": "SW",
}  # fmt: skip
UNITS = {
    "Apartment": "Apt", "Building": "Bldg", "Department": "Dept", "Floor": "Fl", "Room": "Rm", "Suite": "Ste",
}  # fmt: skip
STATES = {
    "Alabama": "AL", "Alaska": "AK", "Arizona": "AZ", "Arkansas": "AR", "California": "CA", "Colorado": "CO",
    "Connecticut": "CT", "Delaware": "DE", "Florida": "FL", "Georgia": "GA", "Hawaii": "HI", "Idaho": "ID",
    "Illinois": "IL", "Indiana": "IN", "Iowa": "IA", "Kansas": "KS", "Kentucky": "KY", "Louisiana": "LA", "Maine": "ME",
    "Maryland": "MD", "Massachusetts": "MA", "Michigan": "MI", "Minnesota": "MN", "Mississippi": "MS", "Missouri": "MO",
    "Montana": "MT", "Nebraska": "NE", "Nevada": "NV", "New Hampshire": "NH", "New Jersey": "NJ", "New Mexico": "NM",
    "New York": "NY", "North Carolina": "NC", "North Dakota": "ND", "Ohio": "OH", "Oklahoma": "OK", "Oregon": "OR",
    "Pennsylvania": "PA", "Rhode Island": "RI", "South Carolina": "SC", "South Dakota": "SD", "Tennessee": "TN",
    "Texas": "TX", "Utah": "UT", "Vermont": "VT", "Virginia": "VA", "Washington": "WA", "West Virginia": "WV",
    "Wisconsin": "WI", "Wyoming": "WY",
}  # fmt: skip
PLACE = {"city", "state", "zip"}
BOXES = ("PO Box", "P.O. Box", "P O Box", "P. O. Box", "POB", "Post Office Box")


def everywhere(change: Callable[[str], str], text: str, parts: Parts) -> tuple[str, Parts] | None:
    """Change the text and all parts in the same way, if no part vanishes."""
    changed = {name: change(value) if isinstance(value, str) else value for name, value in parts.items()}
    return None if change(text) == text or "" in changed.values() else (change(text), changed)


def within(name: str, change: Callable[[str], str], text: str, parts: Parts) -> tuple[str, Parts] | None:
    """Change one part, and the text where the part stands; only if it stands there once."""
    value = parts.get(name)
    if not isinstance(value, str):
        return None
    places = list(re.finditer(rf"(?<!\w){re.escape(value)}(?!\w)", text))
    if len(places) != 1 or (new := change(value)) == value:
        return None
    before, after = text[: places[0].start()], text[places[0].end() :]
    if after.startswith(".") and value.split()[-1] != new.split()[-1]:
        after = after[1:]  # the period of the abbreviation that was there
    return f"{before}{new}{after}", {**parts, name: new}


def swap(words: Mapping[str, str], word: str, text: str) -> str:
    """Return a word's abbreviation, or what it abbreviates, in the case of the text; or the word itself."""
    bare = word.rstrip(".").lower()
    long, short = (
        {key.lower(): value for key, value in words.items()},
        {value.lower(): key for key, value in words.items()},
    )
    new = long.get(bare) or short.get(bare)
    if not new:
        return word
    return new.upper() if text.isupper() else new.lower() if word.islower() else new


def case(text: str, parts: Parts, random: Random) -> tuple[str, Parts] | None:
    """All in capitals, or all in small letters."""
    return everywhere(random.choice((str.upper, str.lower)), text, parts)


def commas(text: str, parts: Parts, random: Random) -> tuple[str, Parts] | None:
    """Without commas."""
    return everywhere(lambda value: " ".join(value.replace(",", " ").split()), text, parts)


def periods(text: str, parts: Parts, random: Random) -> tuple[str, Parts] | None:
    """Without the periods of abbreviations."""
    return everywhere(lambda value: re.sub(r"(?<=[A-Za-z])\.", "", value), text, parts)


def street(text: str, parts: Parts, random: Random) -> tuple[str, Parts] | None:
    """The kind of street, or a direction at one of its ends: abbreviated or written out."""
    words = str(parts.get("street", "")).split()
    ends = [(place, swap(DIRECTIONS, words[place], text)) for place in ((0, len(words) - 1) if len(words) > 2 else ())]
    # the kind stands last, or before a direction: the St of Rue St Pierre is none
    kind = len(words) - (2 if ends and ends[-1][1] != words[-1] else 1)
    new = [(kind, swap(SUFFIXES, words[kind], text))] if kind > 0 else []
    choices = [(place, word) for place, word in [*new, *ends] if word != words[place]]
    if not choices:
        return None
    place, word = random.choice(choices)
    return within("street", lambda _: " ".join([*words[:place], word, *words[place + 1 :]]), text, parts)


def unit(text: str, parts: Parts, random: Random) -> tuple[str, Parts] | None:
    """The words for a unit: abbreviated or written out."""
    return within("unit", lambda value: " ".join(swap(UNITS, word, text) for word in value.split()), text, parts)


def state(text: str, parts: Parts, random: Random) -> tuple[str, Parts] | None:
    """The state: abbreviated or written out."""
    return within("state", lambda value: swap(STATES, value, text), text, parts)


def zip_code(text: str, parts: Parts, random: Random) -> tuple[str, Parts] | None:
    """The ZIP code: with four more digits, or without them."""

    def change(value: str) -> str:
        if re.fullmatch(r"\d{5}-\d{4}", value):
            return value[:5]
        return f"{value}-{random.randrange(1, 10_000):04}" if re.fullmatch(r"\d{5}", value) else value

    return within("zip", change, text, parts)


def box(text: str, parts: Parts, random: Random) -> tuple[str, Parts] | None:
    """Another word for a post office box. No part has it."""
    found = re.search(r"\b(p\. ?o\.? ?box|p ?o ?box|pob|post office box)\b", text, re.IGNORECASE)
    if not found or "box" not in parts:
        return None
    new = random.choice([name for name in BOXES if name.lower() != found[0].lower()])
    new = new.upper() if text.isupper() else new.lower() if text.islower() else new
    return f"{text[: found.start()]}{new}{text[found.end() :]}", parts


def values(other_text: str, other: Parts, text: str, parts: Parts, random: Random) -> tuple[str, Parts] | None:
    """Another address's values in this one's layout: mention replacement (Dai and Adel 2020, arXiv 2010.11683).

    Each part that both have is replaced with a chance of ½; city, state and ZIP code together, if both have the same of
    them. Only an address in the same case lends its values: all capitals, all small letters, or both. None if a value
    stands in the text more than once.
    """
    if (text.isupper(), text.islower()) != (other_text.isupper(), other_text.islower()):
        return None
    place = random.random() < 0.5 and parts.keys() & PLACE == other.keys() & PLACE
    texts = {name: value for name, value in parts.items() if not isinstance(value, bool)}  # but for po_box
    shared = [name for name in texts if name in other]
    new = {name: other[name] for name in shared if (place if name in PLACE else random.random() < 0.5)}
    pieces, end = [], 0
    for name, value in texts.items():  # in the order of the text
        stands = list(re.finditer(rf"(?<!\w){re.escape(str(value))}(?!\w)", text))
        if len(stands) != 1 or stands[0].start() < end:
            return None
        found = stands[0]
        pieces += [text[end : found.start()], str(new.get(name, value))]
        end = found.end() + (pieces[-1].endswith(".") and text[found.end() :].startswith("."))  # not two periods
    changed = "".join([*pieces, text[end:]])
    return None if changed == text else (changed, {**parts, **new})


VARIANTS: dict[str, Vary] = {
    "street": street,
    "unit": unit,
    "state": state,
    "zip": zip_code,
    "box": box,
    "commas": commas,
    "periods": periods,
    "case": case,
}
MIXTURES = {"values": values}
