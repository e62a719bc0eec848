"""Give each record its difficulty, and carve eval-hard out of the held-out rows by it.

In: split records. Out: the same with `scores` and `difficulty`, one file a split, and counts: the difficulty mix.
A new scorer is a function here, entered in SCORERS, and a section of its name under `score` in the config.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from scripts.common.errors import GradusError
from scripts.common.io import write_json, write_jsonl
from scripts.common.logs import logging_to
from scripts.common.records import LEVELS, SPLITS, Record, read_records


@dataclass
class RuleParams:
    """What the rules scorer counts; see config/schema.yaml, `score.rules`, for each."""

    words_per_point: int
    max_length_points: int
    reasoning_words: Sequence[str]
    reasoning_points: int
    many_checks: int
    checks_points: int
    conditional_words: Sequence[str]
    conditional_points: int


def has_word(text: str, words: Sequence[str]) -> bool:
    """Say whether one of `words` stands in `text` as a whole word (no letter, digit or _ beside it), in any case."""
    if not words:
        return False
    return re.search(rf"(?<!\w)(?:{'|'.join(map(re.escape, words))})(?!\w)", text, re.IGNORECASE) is not None


def score_by_rules(record: Record, params: Mapping[str, Any]) -> float:
    """Return a record's points, from 0 up: long prompt, reasoning asked for, many checks, conditions in the answer.

    By default +1 per 40 prompt words up to 2, and +1 for each of the three others.
    """
    rules = RuleParams(**params)
    points = min(rules.max_length_points, len(record.prompt.split()) // rules.words_per_point)
    points += rules.reasoning_points * has_word(record.prompt, rules.reasoning_words)
    points += rules.checks_points * (len(record.checks) >= rules.many_checks)
    points += rules.conditional_points * has_word(record.response, rules.conditional_words)
    return float(points)


SCORERS: dict[str, Callable[[Record, Mapping[str, Any]], float]] = {"rules": score_by_rules}


def carve_hard(records: Sequence[Record], given: set[str]) -> None:
    """Move test rows of difficulty 2 to eval-hard, in place; those in `given` (by id) brought their split and stay."""
    for record in records:
        if record.split == "test" and record.difficulty == 2 and record.id not in given:
            record.split = "eval-hard"


def score(records: Sequence[Record], given: set[str], scorer: str, params: Mapping[str, Any]) -> dict[str, Any]:
    """Score records in place (difficulty: points capped at 2; one that a row brings is kept); return the counts."""
    for record in records:
        points = SCORERS[scorer](record, params)
        record.scores[scorer] = points
        if record.difficulty is None:
            record.difficulty = min(2, int(points))
    carve_hard(records, given)
    for split in ("train", "test"):
        if not any(record.split == split for record in records):
            raise GradusError(
                f"of {len(records)} records none is in {split}. There are too few rows, too many near-copies, or "
                "every row is of one split or difficulty: look at data/split.json, and at split in the config."
            )
    mix: dict[str, Counter[str]] = defaultdict(Counter)
    known: Counter[str] = Counter()
    trained = {record.group for record in records if record.split == "train"}
    for record in records:
        mix[record.split][LEVELS[record.difficulty or 0]] += 1
        known[record.split] += record.group in trained
    return {
        "scorer": scorer,
        "mix": {name: dict(levels) for name, levels in mix.items()},
        "rows_whose_group_is_trained": dict(known),
    }


if "snakemake" in globals():
    job = globals()["snakemake"]
    with logging_to(job.log[0]):
        rows = list(read_records(job.input.records))
        brought = {record.id for record in read_records(job.input.ingested) if record.split}
        summary = score(rows, brought, job.params.scorer, job.params.settings)
        for split in SPLITS:  # a file each, so that an edited training row touches no evaluation
            name = split.replace("-", "_")
            write_jsonl(job.output[name], (record.to_json() for record in rows if record.split == split))
        write_json(job.output.counts, summary)
