"""Section on what a language model said of the answers."""

from collections.abc import Mapping, Sequence
from typing import Any

from scripts.common.html import general, interval, percent
from scripts.report.layout import Models, in_groups


def opinion(found: Mapping[str, Any] | None, models: Models) -> dict[str, Any] | None:
    """Return the section, of judge.json; None if nothing was judged."""
    if found is None:
        return None
    about = found["judge"]
    counts = [
        f"{len(found[kind])} × {what}"
        for kind, what in (("models", "a model's answers to a split"), ("pairs", "two models' answers to a split"))
        if found[kind]
    ]
    return {
        "name": about["model"],
        "what": " and ".join(counts),
        "people": with_people(found["people"]),
        "warnings": found["warnings"],
        "blocks": in_groups([{**row, "unread": unreadable(row)} for row in found["models"]], models),
        "pairs": found["pairs"],
        "places": found["places"],
        "unread": not_read([*found["models"], *found["pairs"]]),
        "made": made_by(about),
        "rubric": about["rubric"],
    }


def unreadable(row: Mapping[str, Any]) -> int:
    """Return how many judgments could not be read."""
    return sum(row["unreadable"].values())


def not_read(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return a sentence on replies that could not be read."""
    asked, again = (sum(row[field] for row in rows) for field in ("asked", "asked_again"))
    kinds: dict[str, int] = {}
    for row in rows:
        for kind, count in row["unreadable"].items():
            kinds[kind] = kinds.get(kind, 0) + count
    listed = f" ({', '.join(f'{kind} {count}' for kind, count in sorted(kinds.items()))})" if kinds else ""
    return (
        f"Of {asked} judgments, {again} had to be asked for again, since the reply was not of the required form, and "
        f"{sum(kinds.values())} could not be read then, either{listed}; they count in no mean and no rate."
    )


def with_people(people: Mapping[str, Any]) -> str:
    """Return a sentence on how far people agree with the judge."""
    marks, pairs = people["marks"], people["pairs"]
    told = []
    if marks:
        told.append(
            f"it passes {_share(marks['true_positive'])} of the answers that people pass, and fails "
            f"{_share(marks['true_negative'])} of those that they fail (Cohen's kappa {general(marks['kappa'])})"
        )
    if pairs:
        told.append(
            f"of two answers, it prefers the same one as people (or neither, as they do) in "
            f"{_share(pairs['agreement'])} of the pairs (Cohen's kappa {general(pairs['kappa'])})"
        )
    if not told:
        return "How far people would agree is not known: nobody has rated these answers."
    return f"Compared with people, {'; '.join(told)}."


def _share(found: Mapping[str, Any]) -> str:
    if not found["n"]:
        return "an unknown share (n = 0)"
    return f"{percent(found['value'])} ({interval(found['interval'])}; n = {found['n']})"


def made_by(about: Mapping[str, Any]) -> str:
    """Return a sentence on what the figures were made by."""
    reported = ", ".join([*about["reported_models"], *about["system_fingerprints"]])
    parts = [
        f"Judge: {about['model']}" + (f" (the server calls it {reported})" if reported else ""),
        f"rubric sha256 {about['rubric_sha256'][:16]}",
        f"judge, rubric, prompts and parameters together {about['sha256'][:16]}",
        f"{about['replies']} replies",
    ]
    if about["tokens"] is not None and about["prompt_tokens"] is not None:
        parts.append(f"{about['prompt_tokens']} tokens read and {about['tokens']} written")
    if about["cost"] is not None:
        parts.append(f"cost {general(about['cost'])}")
    return f"{'; '.join(parts)}."
