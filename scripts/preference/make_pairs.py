"""Make the pairs of answers for preference tuning: the user's own rejected answers, and the model's answers.

In: the training rows, those with rejected answers, the model's answers to some of them (rule sample_answers) unless the
config wants none, the held-out rows, and what the task's metrics need. Out: the pairs (scripts/common/pairs.py), and
counts: how many there are of each kind, and why the other rows have none.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any

from scripts.common.errors import GradusError
from scripts.common.hashing import sha256_file
from scripts.common.io import read_jsonl, write_json
from scripts.common.job import find_job
from scripts.common.logs import logging_to
from scripts.common.near_copies import near_copies, shingles
from scripts.common.pairs import Pair, write_pairs
from scripts.common.records import Record, normal, read_records
from scripts.common.strict_json import read_schema
from scripts.preference.check_pairs import own_pairs
from scripts.tasks.table import load_task
from scripts.tasks.task import Task, labels_of

# why a row that was asked gives no pair; each is a count
ALL_RIGHT, ALL_WRONG, NO_GAP, SAME = "all_right", "all_wrong", "no_gap", "same"
CUT_OFF, NOT_GRADED = "cut_off", "not_graded"
HALF_CHARACTER = "\ufffd"  # what stands for bytes that are no character
LEFT_OUT = ("near_copies", "unusable", "held_out")  # the first and last are pairs, the second answers
REASONS = (ALL_RIGHT, ALL_WRONG, NO_GAP, SAME, CUT_OFF, NOT_GRADED)


@dataclass(frozen=True)
class Graded:
    """One of the different answers to a row."""

    sample: int  # the number of the first such answer
    text: str
    stopped: bool
    times: int  # among the answers to the row
    value: float | None  # by the metric; None if the row does not count for it

    def describe(self) -> dict[str, Any]:
        """Return it as a pair's origin names it."""
        return {"sample": self.sample, "value": self.value, **({} if self.stopped else {"stopped": False})}


def usable(samples: Iterable[Mapping[str, Any]], max_length: int) -> list[Mapping[str, Any]]:
    """Return the answers that training can take: whole characters, and with prompt and end of turn at most `max_length`
    tokens. A text hardly ever has more tokens than were drawn for it.
    """
    return [
        row
        for row in samples
        if row["prompt_tokens"] + row["tokens"] + 1 <= max_length
        and HALF_CHARACTER not in row["text"]
        and (row["text"] or row["stopped"])  # control tokens alone are no text
    ]


def grade_samples(
    train: Iterable[Record], samples: Iterable[Mapping[str, Any]], task: Task, metric: str, schema: Any = None
) -> dict[str, list[Graded]]:
    """Return the different answers to each row that was asked, by its id, with their values of `metric`.

    Raises GradusError if an answer belongs to no training row, or if the task has no such metric.
    """
    by_id = {record.id: record for record in train}
    given: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for row in samples:
        if row["id"] not in by_id:
            raise GradusError(f"the answer {row['id']} belongs to no training row; delete the answers and run again")
        given[row["id"]].append(row)
    different = []  # (id, first such answer, how often)
    for name, rows in given.items():
        times = Counter((row["text"], row["stopped"]) for row in rows)
        first = {(row["text"], row["stopped"]): row for row in reversed(rows)}
        different += [(name, first[key], times[key]) for key in times]
    values = task.grade(
        metric,
        [by_id[name] for name, _, _ in different],
        [row["text"] for _, row, _ in different],
        [row["stopped"] for _, row, _ in different],
        schema,
        labels_of(record.response for record in by_id.values()),
    )
    graded: dict[str, list[Graded]] = defaultdict(list)
    for (name, row, count), value in zip(different, values, strict=True):
        graded[name].append(Graded(row["sample"], row["text"], row["stopped"], count, value))
    return graded


def choose_two(record: Record, answers: Sequence[Graded], gap: float) -> tuple[Graded, Graded] | str:
    """Return the best and the worst of the answers to a row, or the reason (REASONS) why they are no pair.

    Of equal values the commoner answer is taken, then the earlier. An answer that was cut off is never the best.
    """
    values = {answer.value for answer in answers}
    if None in values:
        return NOT_GRADED
    if values == {1.0}:
        return ALL_RIGHT
    if values == {0.0}:
        return ALL_WRONG
    if not (ended := [answer for answer in answers if answer.stopped]):
        return CUT_OFF
    best = min(ended, key=lambda answer: (-(answer.value or 0), -answer.times, answer.sample))
    worst = min(answers, key=lambda answer: (answer.value or 0, -answer.times, answer.sample))
    # rounded, because 0.7 - 0.2 is less than 0.5
    if round((best.value or 0) - (worst.value or 0), 6) < gap:
        return NO_GAP
    right = {best.text, *(version.response for version in record.versions())}
    return SAME if normal(worst.text) in map(normal, right) else (best, worst)


def sampled_pairs(
    train: Iterable[Record], graded: Mapping[str, Sequence[Graded]], gap: float, gguf_sha256: str
) -> tuple[list[Pair], Counter[str]]:
    """Return the pairs of the model's own answers, in the order of the training rows, and how many rows have none, by
    reason.
    """
    pairs, without = [], Counter[str]()
    for record in (record for record in train if record.id in graded):
        found = choose_two(record, graded[record.id], gap)
        if isinstance(found, str):
            without[found] += 1
            continue
        best, worst = found
        two = {"chosen": best.describe(), "rejected": worst.describe()}
        origin = {"made": "sampled", "gguf_sha256": gguf_sha256, **two}
        pairs.append(Pair(replace(record, response=best.text), worst.text, origin))
    return pairs, without


def apart(pairs: Iterable[Pair], held_out: Iterable[Record]) -> list[Pair]:
    """Return the pairs that ask nothing that a held-out row asks."""
    asked = {normal(record.asked) for record in held_out}
    return [pair for pair in pairs if normal(pair.record.asked) not in asked]


def drop_copies(pairs: Sequence[Pair], threshold: float) -> list[Pair]:
    """Return the pairs without those that nearly copy an earlier one: their whole texts are similar, and so are their
    wrong answers by themselves. Two wrong answers to one row share prompt and right answer, and are two pairs.
    """

    def text(number: int) -> str:
        pair = pairs[number]
        return "\n".join([pair.record.asked, pair.record.response, pair.rejected])

    dropped = set[int]()
    for first, second, _ in near_copies(len(pairs), text, threshold, anchors=4):
        left, right = shingles(pairs[first].rejected), shingles(pairs[second].rejected)
        if first not in dropped and len(left & right) >= threshold * len(left | right):
            dropped.add(second)
    return [pair for number, pair in enumerate(pairs) if number not in dropped]


def count(pairs: Sequence[Pair], asked: int, without: Mapping[str, int], left_out: Mapping[str, int]) -> dict[str, Any]:
    """Return the counts that go with the pairs: of pairs, of rows that were asked and have none, of what was left out
    (LEFT_OUT), and lengths.

    Lengths are in characters, because the texts of the user's own were never tokens of this model.
    """
    made = Counter(pair.origin["made"] for pair in pairs)
    lengths = [(len(pair.record.response), len(pair.rejected)) for pair in pairs]
    return {
        "pairs": len(pairs),
        "own": made["own"],
        "sampled": made["sampled"],
        "rows_asked": asked,
        "rows_with_pairs": len({pair.record.id for pair in pairs}),
        **{reason: without.get(reason, 0) for reason in REASONS},
        **{what: left_out.get(what, 0) for what in LEFT_OUT},
        "mean_characters": {
            "chosen": round(fmean(chosen for chosen, _ in lengths), 1) if lengths else None,
            "rejected": round(fmean(rejected for _, rejected in lengths), 1) if lengths else None,
        },
        "chosen_longer": sum(chosen > rejected for chosen, rejected in lengths),
    }


def require_enough(counts: Mapping[str, Any], least: int, after: str) -> None:
    """Raise GradusError if there are fewer than `least` pairs, with what would give more."""
    if counts["pairs"] >= least:
        return
    asked, right, wrong = counts["rows_asked"], counts["all_right"], counts["all_wrong"]
    if not asked:
        tell = "The model was asked no rows. Set preference.rows, or give more rows a field `rejected`"
    elif right > asked / 2:
        tell = (
            "The model is mostly right already: raise preference.rows or preference.temperature, give rows a field "
            "`rejected`, or remove the phase of preference tuning"
        )
    else:
        tell = (
            "Raise preference.rows or preference.samples; if most rows are all wrong, train the supervised phase "
            "longer, or choose a metric with values in between and a smaller gap (preference.metric, preference.gap); "
            "or give rows a field `rejected`"
        )
    raise GradusError(
        f"only {counts['pairs']} pairs for preference tuning after phase {after}; preference.min_pairs is {least}. "
        f"Rows asked: {asked}; all answers right: {right}; all wrong: {wrong}; too small a gap: {counts['no_gap']}; "
        f"cut off: {counts['cut_off']}; without a grade: {counts['not_graded']}; near-copies: "
        f"{counts['near_copies']}; answers left out: {counts['unusable']}; pairs that ask what a held-out row "
        f"asks: {counts['held_out']}. {tell}"
    )


if job := find_job(globals()):
    with logging_to(job.log[0]):
        records = list(read_records(job.input.train))
        task = load_task(job.params.task, job.params.headline)
        given = list(read_jsonl(job.input.samples)) if job.input.get("samples") else []
        lines = usable(given, job.params.max_length)
        schema = read_schema(job.input.schema) if job.input.get("schema") else None
        graded = grade_samples(records, lines, task, job.params.metric or task.headline, schema)
        gguf = sha256_file(job.input.gguf) if given else ""
        made, without = sampled_pairs(records, graded, job.params.gap, gguf)
        sampled = apart(made, (record for path in job.input.held_out for record in read_records(path)))
        every = [*own_pairs(read_records(job.input.rejected)), *sampled]
        kept = drop_copies(every, job.params.near)
        left_out = {
            "near_copies": len(every) - len(kept),
            "unusable": len(given) - len(lines),
            "held_out": len(made) - len(sampled),
        }
        counts = count(kept, len({row["id"] for row in given}), without, left_out)
        require_enough(counts, job.params.min_pairs, job.wildcards.after)
        write_pairs(job.output.pairs, kept)
        write_json(job.output.counts, counts)
