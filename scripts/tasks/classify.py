"""Task `classify`: a text and its label."""

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from scripts.common.records import Record
from scripts.tasks.task import Metric, Task, text_exact

Words = tuple[str, ...]


def words_of(text: str) -> Words:
    """Return the words of a text: runs of letters and digits, in NFKC, regardless of case."""
    return tuple(re.findall(r"[^\W_]+", unicodedata.normalize("NFKC", text).casefold()))


def label_finder(labels: Sequence[str]) -> Callable[[str], set[str]]:
    """Return a function: which of `labels` a text contains as whole words, regardless of case and punctuation.

    Labels with more words are looked for first, and words that belong to one are not part of another: "flake8-bandit"
    does not contain the label "flake8". Labels without words, or with the same words as another (C, C++), are never
    found.
    """
    by_words: dict[Words, list[str]] = {}
    for label in labels:
        by_words.setdefault(words_of(label), []).append(label)
    patterns = [
        (re.compile(rf"(?<!\S){re.escape(' '.join(words))}(?!\S)"), same[0])
        for words, same in sorted(by_words.items(), key=lambda item: (-len(item[0]), item[0]))
        if words and len(same) == 1
    ]

    def find(text: str) -> set[str]:
        found, rest = set(), " ".join(words_of(text))
        for pattern, label in patterns:
            rest, times = pattern.subn("|", rest)
            found |= {label} if times else set()
        return found

    return find


def accuracy_normalized(labels: Sequence[str]) -> Metric:
    """Return the metric that is 1 if the answer means the record's label, however it is put: it equals the label, or
    contains it and no other of `labels` (`label_finder`). "The answer is flake8-bandit." counts; two labels do not.

    It ignores case, punctuation and the words around the label, like the quasi-exact match of HELM (Liang et al. 2022,
    arXiv 2211.09110) and the normalization of SQuAD (Rajpurkar et al. 2016). "Not spam" contains "spam".
    """
    find = label_finder(labels)

    def metric(record: Record, answer: str, stopped: bool) -> float:
        return float(text_exact(record, answer, stopped) or find(answer) == {record.response.strip()})

    return metric


def chance(labels: Sequence[str]) -> Mapping[str, float]:
    """Return the expected accuracy of guessing: one divided by the number of labels."""
    return dict.fromkeys(("accuracy", "accuracy_normalized"), 1 / len(labels))


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
    binary=frozenset({"accuracy", "accuracy_normalized"}),
    whole={"macro_f1": macro_f1},
    label_metrics=lambda labels: {"accuracy_normalized": accuracy_normalized(labels)},
    chance=chance,
    details=confusion,
)
