"""Answer with the label that a linear model finds: TF-IDF with logistic regression, by scikit-learn.

In: the training rows, the rows of each split. Out: answers and speed of each split, and choice.json: the setting that
cross-validation on the training rows chose, and the accuracy of each one.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from scripts.common.answers import read_training, sample
from scripts.common.io import write_json
from scripts.common.job import find_job
from scripts.common.logs import logging_to
from scripts.common.records import Record
from scripts.contenders.contender import Respond, number_kin, without_mixed, write_answers
from scripts.contenders.similarity import character_features, word_features

FOLDS, SEED = 5, 0
MOST_TRIED = 1000  # training rows of the cross-validation; those with the smallest ids, a fair sample
STRENGTHS = (0.1, 1, 10, 100)  # C, the inverse strength of regularization
DEFAULT = {"features": "both", "C": 10}  # if there are too few rows for cross-validation


def _both() -> Any:
    from sklearn.pipeline import FeatureUnion

    return FeatureUnion([("words", word_features()), ("characters", character_features(5))])


FEATURES: dict[str, Callable[[], Any]] = {
    "words": word_features,
    "characters": lambda: character_features(5),
    "both": _both,
}


def _train(features: Any, labels: np.ndarray, strength: float) -> Any:
    """Return a classifier, the constant one if there is a single label. L-BFGS has no random element."""
    from sklearn.dummy import DummyClassifier
    from sklearn.linear_model import LogisticRegression

    single = len(set(labels)) == 1
    model = DummyClassifier() if single else LogisticRegression(C=strength, solver="lbfgs", max_iter=1000)
    return model.fit(features, labels)


def labels_of(records: Sequence[Record]) -> np.ndarray:
    """Return the labels, shape (records)."""
    return np.array([record.response.strip() for record in records])


def fit(train: Sequence[Record], setting: dict[str, Any]) -> Respond:
    """Return a function that labels records. `setting`: features, a key of FEATURES, and C."""
    features = FEATURES[setting["features"]]()
    model = _train(features.fit_transform([row.asked for row in train]), labels_of(train), setting["C"])

    def respond(asked: Sequence[Record]) -> list[str]:
        return model.predict(features.transform([record.asked for record in asked])).tolist() if asked else []

    return respond


def fit_answer(train: Sequence[Record], asked: Sequence[Record], setting: dict[str, Any] | None = None) -> list[str]:
    """Return the answers to `asked`."""
    return list(fit(train, setting or DEFAULT)(asked))


def make_folds(labels: np.ndarray, kin: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the places of (rows to fit, rows to answer); nothing if there are too few rows.

    Each label has about the same share in all folds, and kin are in one fold.

    Labels with fewer rows than folds are in some folds only. Where all rows of a label are to be answered, they count
    as wrong, as they would be in held-out data.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    folds = min(FOLDS, len(set(kin)), max(Counter(labels.tolist()).values(), default=0))
    if folds < 2:
        return
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=SEED)
    for fitted, answered in splitter.split(labels, labels, kin):
        if len(fitted) and len(answered):
            yield fitted, answered


def choose(train: Sequence[Record], by: str) -> dict[str, Any]:
    """Return {features, C, folds, rows, tried}: the setting of the highest accuracy, the first if several have it.

    Inverse document frequencies are those of all rows that take part, for which no label is needed.
    """
    rows = sample(without_mixed(train), MOST_TRIED)
    labels = labels_of(rows)
    folds = list(make_folds(labels, number_kin(rows, by)))
    tried = []
    for name in FEATURES if folds else ():
        features = FEATURES[name]().fit_transform([row.asked for row in rows])
        for strength in STRENGTHS:
            right = 0
            for fitted, asked in folds:
                model = _train(features[fitted], labels[fitted], strength)
                right += int((model.predict(features[asked]) == labels[asked]).sum())
            tried.append({"features": name, "C": strength, "accuracy": round(right / len(rows), 6)})
    best = max(tried, key=lambda row: row["accuracy"], default=DEFAULT)
    return {"features": best["features"], "C": best["C"], "folds": len(folds), "rows": len(rows), "tried": tried}


if job := find_job(globals()):
    with logging_to(job.log[0]):
        began = time.monotonic()
        rows = read_training(job.input.train)
        choice = choose(rows, job.params.by)
        respond = fit(rows, choice)
        write_answers(job, respond, time.monotonic() - began)
        write_json(job.output.choice, choice)
