"""Section on all answers: won, lost, tied. The page itself filters and searches them."""

from collections.abc import Mapping, Sequence
from typing import Any

Rows = Sequence[Mapping[str, Any]]
Asked = tuple[str, str]  # model, split


class Pool:
    """Texts by number, each of them once."""

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {}

    def number(self, text: str) -> int:
        """Return a text's number."""
        return self.numbers.setdefault(text, len(self.numbers))


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
    of the served one.
    """
    headline, served = comparison["headline"], comparison["served"]
    names = [model["name"] for model in models]
    pool, rows = Pool(), []
    for number, (split, its_records) in enumerate(records.items()):
        texts = {name: {row["id"]: row["text"] for row in answers[name, split]} for name in names}
        marks = {name: {row["id"]: row.get(headline) for row in grades[name, split]} for name in names}
        by_id = {record["id"]: record for record in its_records}
        for key in dict.fromkeys(key for name in names for key in texts[name]):
            record = by_id[key]
            turns = "\n".join(f"{turn['role']}: {turn['content']}" for turn in record["context"])
            rows.append(
                {
                    "split": number,
                    "level": record["difficulty"],
                    "context": pool.number(turns) if turns else None,
                    "prompt": pool.number(record["prompt"]),
                    "response": pool.number(record["response"]),
                    "answers": [pool.number(texts[name][key]) if key in texts[name] else None for name in names],
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
        "outcomes": outcomes(comparison["binary"], rows),
        "splits": list(records),
        "levels": list(levels),
        "texts": list(pool.numbers),
        "row_count": len(rows),
        "rows": rows,
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def outcomes(binary: bool, rows: Rows) -> list[str]:
    """Return how the served model's answer to a row can compare with another one's, the worst first."""
    ties = ["tied", "tied, both right", "tied, both wrong"] if binary else ["tied"]
    ungraded = any(value is None for row in rows for value in row["values"])
    return ["lost", "won", *ties, *(["not graded"] if ungraded else [])]
