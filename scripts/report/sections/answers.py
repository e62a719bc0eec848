"""Section on all answers: won, lost, tied. The page itself filters and searches them."""

from collections.abc import Mapping, Sequence
from typing import Any

Rows = Sequence[Mapping[str, Any]]
Asked = tuple[str, str]  # model, split


def all_answers(
    models: Sequence[Mapping[str, Any]],
    comparison: Mapping[str, Any],
    records: Mapping[str, Rows],
    answers: Mapping[Asked, Rows],
    grades: Mapping[Asked, Rows],
    levels: Sequence[str],
) -> dict[str, Any]:
    """Return all rows that the models were asked, of all splits, with every model's answer and grade.

    `records`: {split: its rows}. `rows`: {split, level, context, prompt, response, answers, values}, all but the values
    numbers of `splits`, `levels` and `texts`, so that a text is there once however many models wrote it; null for what
    is not there. `values` are of the headline metric. `opponent`: the model whose answers are shown first beside those
    of the served one; None if there is no other.
    """
    headline, served = comparison["headline"], comparison["served"]
    names = [model["name"] for model in models]
    texts, rows = dict[str, int](), []

    def number(text: str) -> int:
        return texts.setdefault(text, len(texts))

    for place, (split, its_records) in enumerate(records.items()):
        written = {name: {row["id"]: row["text"] for row in answers[name, split]} for name in names}
        marks = {name: {row["id"]: row.get(headline) for row in grades[name, split]} for name in names}
        by_id = {record["id"]: record for record in its_records}
        for key in dict.fromkeys(key for name in names for key in written[name]):
            record = by_id[key]
            turns = "\n".join(f"{turn['role']}: {turn['content']}" for turn in record["context"])
            rows.append(
                {
                    "split": place,
                    "level": record["difficulty"],
                    "context": number(turns) if turns else None,
                    "prompt": number(record["prompt"]),
                    "response": number(record["response"]),
                    "answers": [number(written[name][key]) if key in written[name] else None for name in names],
                    "values": [_rounded(marks[name].get(key)) for name in names],
                }
            )
    others = [name for name in (served["strongest"], comparison["first"], *names) if name != served["model"]]
    return {
        "metric": headline,
        "binary": comparison["binary"],
        "served": served["model"],
        "opponent": next((name for name in others if name), None),
        "models": [{"name": name, "served": name == served["model"]} for name in names],
        "outcomes": outcomes(comparison["binary"], rows, alone=len(names) == 1),
        "splits": list(records),
        "levels": list(levels),
        "texts": list(texts),
        "row_count": len(rows),
        "rows": rows,
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def outcomes(binary: bool, rows: Rows, alone: bool = False) -> list[str]:
    """Return how the served model's answer to a row can compare with another one's, the worst first. `alone`: there is
    no other model.
    """
    ties = ["tied", "tied, both right", "tied, both wrong"] if binary else ["tied"]
    graded = (["wrong", "right"] if binary else ["graded"]) if alone else ["lost", "won", *ties]
    cells = [cell for row in rows for cell in zip(row["answers"], row["values"], strict=True)]
    ungraded = any(answer is not None and value is None for answer, value in cells)
    unasked = any(answer is None for answer, _ in cells)
    return [*graded, *(["not graded"] if ungraded else []), *(["not asked"] if unasked else [])]
