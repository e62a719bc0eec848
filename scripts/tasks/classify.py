"""Task `classify`: a text and its label."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from scripts.common.records import Record
from scripts.tasks.task import Task, text_exact


def macro_f1(records: Sequence[Record], answers: Sequence[str]) -> float:
    """Mean over the labels of each label's F1 (Sokolova and Lapalme 2009, table 3, M-averaged), by scikit-learn.

    An answer that is not a label counts as a miss for the expected label.
    """
    from sklearn.metrics import f1_score

    wanted = [record.response.strip() for record in records]
    given = [answer.strip() for answer in answers]
    return float(f1_score(wanted, given, labels=sorted(set(wanted)), average="macro", zero_division=0))


def confusion(records: Sequence[Record], answers: Sequence[str]) -> dict[str, Any]:
    """Return {labels, matrix}: how often each label (row) was answered as each label (column). The last column,
    "(other)", counts answers that are not labels of the split.
    """
    labels = sorted({record.response.strip() for record in records})
    counts = {label: Counter[str]() for label in labels}
    for record, answer in zip(records, answers, strict=True):
        given = answer.strip()
        counts[record.response.strip()][given if given in counts else "(other)"] += 1
    return {"labels": labels, "matrix": [[counts[row][column] for column in [*labels, "(other)"]] for row in labels]}


CLASSIFY = Task(
    name="classify",
    metrics={"accuracy": text_exact},
    headline="accuracy",
    binary=frozenset({"accuracy"}),
    whole={"macro_f1": macro_f1},
    details=confusion,
)
