"""Make a page on which people say which of two answers is better, without knowing whose they are.

In: the answers of pairs of models to the same rows, the rows, the template. Out: rate.html, one file for the raters,
and key.json, which says whose the answers are and stays with the owner of the run.
"""

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from scripts.common.hashing import sha256_json
from scripts.common.html import write_page
from scripts.common.io import read_jsonl, write_json
from scripts.common.job import find_job
from scripts.common.logs import logging_to
from scripts.common.records import Record, read_records

# by the number of the answer: the keys of the left hand for the left one
MARK_BUTTONS = {
    number: [
        {"key": good, "passes": "true", "word": "Acceptable"},
        {"key": bad, "passes": "false", "word": "Not acceptable"},
    ]
    for number, (good, bad) in {1: ("q", "a"), 2: ("p", "l")}.items()
}

Texts = Mapping[str, str]  # {record id: answer} of one model and split, in the order of the answers


@dataclass(frozen=True)
class Pair:
    """Two answers to one row, as they are shown."""

    record: Record
    split: str
    models: tuple[str, str]  # in the order of the config
    shown: tuple[str, str]  # the same, in the order of the page
    texts: tuple[str, str]  # what these answered

    @property
    def id(self) -> str:
        """Return a hash that does not say which answer is whose."""
        return sha256_json([self.split, self.record.id, *self.models])[:12]


def pick_pairs(
    models: Sequence[str], splits: Sequence[str], rows: int, answers: Mapping[tuple[str, str], Texts]
) -> tuple[list[tuple[str, str]], list[dict[str, Any]]]:
    """Return [(split, record id)] whose answers differ, and of each split {a, b, split, rows, identical}.

    `answers`: by (model, split). At most `rows` rows of a split are taken, the first; answers are in the order of the
    ids, which are hashes. Answers that differ only in white space around them are identical.
    """
    a, b = models
    differing: list[tuple[str, str]] = []
    counts = []
    for split in splits:
        first, second = answers[a, split], answers[b, split]
        taken = [key for key in first if key in second][:rows]
        different = [key for key in taken if first[key].strip() != second[key].strip()]
        differing += [(split, key) for key in different]
        counts.append(
            {"a": a, "b": b, "split": split, "rows": len(taken), "identical": len(taken) - len(different)},
        )
    return differing, counts


def choose_sides(models: tuple[str, str], count: int, lots: random.Random) -> list[tuple[str, str]]:
    """Return for each of `count` pairs which model comes first: each as often as the other, or once more."""
    a, b = models
    began = lots.randrange(2)
    sides = [(a, b) if (number + began) % 2 else (b, a) for number in range(count)]
    lots.shuffle(sides)
    return sides


def make_pairs(
    compared: Iterable[Sequence[str]],
    splits: Sequence[str],
    rows: int,
    seed: int,
    answers: Mapping[tuple[str, str], Texts],
    records: Mapping[str, Mapping[str, Record]],
) -> tuple[list[Pair], list[dict[str, Any]]]:
    """Return the pairs in the order of the page, and of each two models and split {a, b, split, rows, identical}.

    `compared`: pairs of names of models; `answers`: by (model, split); `records`: by split and id.
    """
    lots = random.Random(seed)
    pairs: list[Pair] = []
    counts: list[dict[str, Any]] = []
    for a, b in compared:
        differing, found = pick_pairs((a, b), splits, rows, answers)
        counts += found
        for (split, key), shown in zip(differing, choose_sides((a, b), len(differing), lots), strict=True):
            texts = (answers[shown[0], split][key], answers[shown[1], split][key])
            pairs.append(Pair(records[split][key], split, (a, b), shown, texts))
    lots.shuffle(pairs)
    return pairs, counts


def shown_pairs(pairs: Sequence[Pair], reference: bool) -> list[dict[str, Any]]:
    """Return what the page shows of each pair, and nothing else; `reference`: also the expected answer."""
    return [
        {
            "id": pair.id,
            "turns": [
                {"role": turn["role"], "text": turn["content"]}
                for turn in [*pair.record.context, {"role": "user", "content": pair.record.prompt}]
            ],
            "reference": pair.record.response if reference else None,
            "answers": [
                {"number": number, "text": text, "empty": not text.strip()} for number, text in enumerate(pair.texts, 1)
            ],
        }
        for pair in pairs
    ]


def make_page(
    run: str, settings: Mapping[str, Any], pairs: Sequence[Pair], counts: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """Return what the template prints; `page` hashes what raters see. `settings`: {question, marks, reference}."""
    shown = shown_pairs(pairs, settings["reference"])
    seen = {"run": run, "question": settings["question"], "marks": settings["marks"], "pairs": shown}
    return {
        **seen,
        "page": sha256_json(seen)[:16],
        "total": len(pairs),
        "rows": sum(count["rows"] for count in counts),
        "identical": sum(count["identical"] for count in counts),
        "mark_buttons": MARK_BUTTONS,
    }


def make_key(page: str, run: str, pairs: Sequence[Pair], counts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return key.json: whose the answers are."""
    return {
        "page": page,
        "run": run,
        "comparisons": list(counts),
        "pairs": [
            {
                "pair": pair.id,
                "record": pair.record.id,
                "split": pair.split,
                "a": pair.models[0],
                "b": pair.models[1],
                "first": pair.shown[0],
                "second": pair.shown[1],
            }
            for pair in pairs
        ],
    }


if job := find_job(globals()):
    with logging_to(job.log[0]):
        params = job.params
        asked = [(model, split) for model in params.models for split in params.splits]
        answers = {
            pair: {row["id"]: row["text"] for row in read_jsonl(path)}
            for pair, path in zip(asked, job.input.answers, strict=True)
        }
        records = {
            split: {record.id: record for record in read_records(path)}
            for split, path in zip(params.splits, job.input.records, strict=True)
        }
        pairs, counts = make_pairs(params.pairs, params.splits, params.rows, params.seed, answers, records)
        page = make_page(params.run, params.shown, pairs, counts)
        write_page(job.input.template, page, job.output.page)
        write_json(job.output.key, make_key(page["page"], params.run, pairs, counts))
