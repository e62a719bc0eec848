"""The files that raters saved on the page: one of each rater, of this run's page, without contradictions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scripts.common.errors import GradusError
from scripts.common.strict_json import check_schema, strict_json

VALUES = {"1": 1.0, "tie": 0.5, "2": 0.0}  # of a choice: a tie is half-way, also for the agreement
SCHEMA = {
    "type": "object",
    "required": ["page", "run", "rater", "ratings"],
    "additionalProperties": False,
    "properties": {
        "page": {"type": "string"},
        "run": {"type": "string"},
        "rater": {"type": "string", "pattern": r"\S"},
        "ratings": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "required": ["pair", "winner"],
                "additionalProperties": False,
                "properties": {
                    "pair": {"type": "string"},
                    "winner": {"enum": list(VALUES)},
                    "marks": {
                        "type": "object",
                        "additionalProperties": False,
                        "properties": {"1": {"type": "boolean"}, "2": {"type": "boolean"}},
                    },
                },
            },
        },
    },
}
AGAIN = "save the ratings again on the page (key s), or remove the file from rating.files"

Key = Mapping[str, Any]  # key.json, see rating_page.py


@dataclass
class Rater:
    """What one person chose: {pair: a key of VALUES}, and {pair: {"1": whether answer 1 is acceptable, …}}."""

    name: str
    winners: dict[str, str] = field(default_factory=dict)
    marks: dict[str, dict[str, bool]] = field(default_factory=dict)


def read_rater(path: str | Path, key: Key) -> Rater:
    """Return what one file says. Raises GradusError, with the file's name, if it is damaged, of another page, or says
    two things of the same pair.
    """
    try:
        found = strict_json(Path(path).read_text(encoding="utf-8"))
    except ValueError as error:
        raise GradusError(f"{path}: not JSON ({error}); {AGAIN}") from None
    if wrong := check_schema(found, SCHEMA):
        raise GradusError(f"{path}: not a file of ratings, {wrong:.300}; {AGAIN}")
    if found["page"] != key["page"]:
        raise GradusError(
            f"{path}: rates another page ({found['page']:.40} of run {found['run']:.40}) than this run's rate.html "
            f"({key['page']}). Rows, answers or the settings of `rating` have changed since, or it is of another run. "
            "Remove it from rating.files, and have the new page rated"
        )
    known = {pair["pair"] for pair in key["pairs"]}
    rater = Rater(" ".join(found["rater"].split()))
    for rating in found["ratings"]:
        pair, winner, marks = rating["pair"], rating["winner"], rating.get("marks", {})
        if pair not in known:
            raise GradusError(f"{path}: pair {pair:.40} is not on the page; {AGAIN}")
        if pair in rater.winners and (rater.winners[pair], rater.marks[pair]) != (winner, marks):
            raise GradusError(f"{path}: pair {pair} is rated twice, and differently; {AGAIN}")
        rater.winners[pair], rater.marks[pair] = winner, marks
    return rater


def read_raters(paths: Sequence[str | Path], key: Key) -> list[Rater]:
    """Return the raters, in the order of the files. Raises GradusError if there are none, or two files of one rater."""
    if not paths:
        raise GradusError("rating.files: names no file; list there what raters saved on the page rate.html")
    raters: dict[str, tuple[Rater, str | Path]] = {}
    for path in paths:
        rater = read_rater(path, key)
        if other := raters.get(rater.name.casefold()):
            raise GradusError(
                f"{other[1]} and {path}: both are by {rater.name!r}, and a rater counts once; remove one from "
                "rating.files, or, if they are two people, change the name in one"
            )
        raters[rater.name.casefold()] = rater, path
    return [rater for rater, _ in raters.values()]
