"""Score each record's difficulty, and move hard test rows to eval-hard.

In: the dataset. Out: one file per split, each record with its `difficulty`; scores.jsonl, the value of each scorer;
counts: the difficulty mix. Scores have a separate file because some depend on other rows; a record's bytes must not.
Rejected answers are in rejected.jsonl alone, with their training rows: an edit of one retrains no supervised phase.

Difficulty comes from a weighted combination of scorers, by thresholds or quantiles; a row's own difficulty is kept.
Scorers of weight 0 are only compared, on a sample, to test whether the levels are meaningful (rule `validity`). The run
stops here, before training, if a phase would get no rows of its own.
"""

import heapq
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import rankdata
from tqdm import tqdm

from scripts.common.curriculum import read_curriculum
from scripts.common.difficulty import check_phases, to_levels
from scripts.common.errors import GradusError
from scripts.common.io import atomic_open, dump_line, read_json, read_jsonl, write_json
from scripts.common.job import find_job
from scripts.common.logs import logging_to
from scripts.common.parallel import chunks, in_order
from scripts.common.records import SPLITS, Record, StoredRecords
from scripts.curriculum.scorers import SCORERS, Known

PART = 8192  # records that a process reads at a time


@dataclass
class ScoreParams:
    """See `score` in config/schema.yaml. weights: None disables a scorer, 0 only compares it."""

    weights: Mapping[str, float | None]
    thresholds: Sequence[float] | None
    quantiles: Sequence[float] | None
    rules: Mapping[str, Any]
    mixed: list[str] = field(init=False)
    compared: list[str] = field(init=False)

    def __post_init__(self) -> None:
        self.mixed = [name for name in SCORERS if self.weights.get(name)]
        self.compared = [name for name in SCORERS if self.weights.get(name) == 0]


def sample(records: Iterable[Record], sizes: Mapping[str, int]) -> list[Record]:
    """Return the records with the smallest ids of each split; `sizes` gives their number. Ids are hashes, so this is a
    random but stable sample, and the evaluation starts with the same rows.
    """
    heaps: dict[str, list[tuple[int, int, Record]]] = defaultdict(list)
    for number, record in enumerate(records):
        heap = heaps[record.split]
        item = (-int(record.id, 16), number, record)
        (heapq.heappush if len(heap) < sizes[record.split] else heapq.heappushpop)(heap, item)
    return [record for name in sorted(heaps) for _, _, record in sorted(heaps[name], reverse=True)]


def numbered(records: Sequence[Record]) -> Iterator[range]:
    """Yield the numbers of the records, PART at a time."""
    return chunks(range(len(records)), PART)


def score_all(records: Sequence[Record], names: Sequence[str], known: Known, processes: int) -> dict[str, np.ndarray]:
    """Return each named scorer's value of every record, in their order. Reads a few thousand records at a time."""

    def work(numbers: range) -> list[list[float]]:
        batch = records[numbers.start : numbers.stop]
        return [SCORERS[name](batch, known) for name in names]

    scores: dict[str, list[float]] = {name: [] for name in names}
    with tqdm(desc="scoring", total=len(records), unit="row", mininterval=1) as bar:
        for values in in_order(work, numbered(records), processes):
            for name, some in zip(names, values, strict=True):
                scores[name] += some
            bar.update(min(PART, len(records) - bar.n))
    return {name: np.array(values) for name, values in scores.items()}


def mix(scores: Mapping[str, np.ndarray], params: ScoreParams) -> np.ndarray:
    """Return the weighted mean. A single scorer keeps its unit; several are first converted to ranks from 0 to 1."""
    if len(params.mixed) == 1:
        return scores[params.mixed[0]]
    ranks = {name: (rankdata(scores[name]) - 0.5) / max(1, len(scores[name])) for name in params.mixed}
    total = sum(params.weights[name] or 0 for name in params.mixed)
    return np.asarray(sum((params.weights[name] or 0) / total * ranks[name] for name in params.mixed))


def place(record: Record, given: set[str], hardest: int) -> str:
    """Return the record's split: eval-hard for a test row of the hardest level whose split was not given."""
    hard = record.split == "test" and record.difficulty == hardest and record.id not in given
    return "eval-hard" if hard else record.split


def scored(
    records: Sequence[Record], numbers: Iterable[int], given: set[str], found: np.ndarray, hardest: int
) -> Iterator[Record]:
    """Yield each record of these numbers with its difficulty and split."""
    for number in numbers:
        record = records[number]
        if record.difficulty is None:
            record.difficulty = int(found[number])
        record.split = place(record, given, hardest)
        yield record


@dataclass
class Scores:
    """Results of scoring, in file order: the combined score, the level, and the values of each weighted scorer; for
    scorers that are only compared, {id: {scorer: value}} of the sample; and every scorer's values of the sample's
    training rows.
    """

    mix: np.ndarray
    level: np.ndarray
    mixed: dict[str, np.ndarray]
    compared: dict[str, dict[str, float]]
    training: dict[str, list[float]]


def score(
    records: Sequence[Record],
    params: ScoreParams,
    known: Known,
    given: set[str],
    hardest: int,
    sizes: Mapping[str, int],
    processes: int = 1,
) -> Scores:
    """Return all scores of the records. The sample is taken after eval-hard is split off, to match the evaluation."""
    if "retrieval" in params.mixed:
        known.corpus = list(records)
    mixed = score_all(records, params.mixed, known, processes)
    values = mix(mixed, params)
    level = to_levels(values, params.thresholds, params.quantiles)

    def work(numbers: range) -> list[Record]:
        return sample(scored(records, numbers, given, level, hardest), sizes)

    # a sample of the parts' samples is that of all
    rows = sample(chain.from_iterable(in_order(work, numbered(records), processes)), sizes)
    known.corpus = known.corpus or rows
    compared: dict[str, dict[str, float]] = defaultdict(dict)
    for name in params.compared:
        for record, value in zip(rows, SCORERS[name](rows, known), strict=True):
            compared[record.id][name] = value
    train = [record for record in rows if record.split == "train"]
    training = {name: SCORERS[name](train, known) for name in [*params.mixed, *params.compared]} if train else {}
    return Scores(values, level, mixed, compared, training)


class Written(NamedTuple):
    """What is written of a record, each a line, and what is counted; `rejected`: empty if it is in no pair."""

    split: str
    difficulty: int
    group: str
    row: str
    rejected: str
    scores: str


def written(
    records: Sequence[Record], numbers: range, given: set[str], found: Scores, hardest: int
) -> Iterator[Written]:
    """Yield what is written of the records of these numbers."""
    for number, row in zip(numbers, scored(records, numbers, given, found.level, hardest), strict=True):
        each = {name: float(column[number]) for name, column in found.mixed.items()}
        line = {"id": row.id, "split": row.split, "difficulty": row.difficulty, "score": float(found.mix[number])}
        yield Written(
            row.split,
            row.difficulty or 0,
            row.group,
            dump_line((replace(row, rejected=[]) if row.rejected else row).to_json()),
            dump_line(row.to_json()) if row.rejected and row.split == "train" else "",
            dump_line({**line, "scores": {**each, **found.compared.get(row.id, {})}}),
        )


def check_splits(mix: Mapping[str, Counter[str]], evaluated: str) -> None:
    """Raise GradusError if there is nothing to train on, or nothing in the first split that is evaluated: its answers
    are also what the served file, its quantizations and its speed are measured by.
    """
    total = sum(sum(counts.values()) for counts in mix.values())
    for split in ("train", evaluated):
        if not sum(mix[split].values()):
            found = ", ".join(f"{name} {sum(mix[name].values())}" for name in SPLITS if mix[name])
            advice = {
                "eval-hard": "It is made of test rows of the hardest level that bring no split",
                "eval-unseen": "It is made of whole groups; rows without a group never get there",
            }.get(split, "There are too few rows, too many near-copies, or every row is of one split or difficulty")
            raise GradusError(
                f"of {total} records none is in {split} ({found or 'no rows'}). {advice}: look at data/split.json, "
                "and at split in the config"
                + ("" if split == "train" else ", or name another split first in evaluate.splits")
                + "."
            )


def read_tables(paths: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """Return {name: {id: line}} of files that other rules made for scorers, one line for each row."""
    return {name: {line["id"]: line for line in read_jsonl(path)} for name, path in paths.items()}


if job := find_job(globals()):
    with logging_to(job.log[0]), ExitStack() as files:
        settings = ScoreParams(**job.params.score)
        curriculum = read_curriculum(job.params.curriculum)
        tables = read_tables({name: path for name, path in job.input.items() if name not in ("records", "given")})
        brought, last = set(read_json(job.input.given)), len(curriculum.levels) - 1
        known, stored = Known(settings.rules, tables), StoredRecords(job.input.records)
        found = score(stored, settings, known, brought, last, job.params.sample, job.threads)
        # one file per split, so that an edited training row does not rerun the evaluation
        outputs = {name: files.enter_context(atomic_open(job.output[name.replace("-", "_")])) for name in SPLITS}
        table = files.enter_context(atomic_open(job.output.scores))
        wrong = files.enter_context(atomic_open(job.output.rejected))
        counted: dict[str, Counter[str]] = defaultdict(Counter)
        groups: dict[str, Counter[str]] = defaultdict(Counter)  # rows of each group, by split
        lines = in_order(
            lambda numbers: list(written(stored, numbers, brought, found, last)), numbered(stored), job.threads
        )
        for line in chain.from_iterable(lines):
            outputs[line.split].write(line.row)
            wrong.write(line.rejected)
            table.write(line.scores)
            counted[line.split][curriculum.level(line.difficulty)] += 1
            groups[line.split][line.group] += 1
        check_splits(counted, job.params.evaluated)
        check_phases(counted["train"], curriculum, found.training)
        trained = set(groups["train"]) - {""}
        write_json(
            job.output.counts,
            {
                "weights": {name: settings.weights[name] for name in settings.mixed},
                "compared": settings.compared,
                "mix": {name: dict(by_level) for name, by_level in counted.items()},
                "rows_whose_group_is_trained": {
                    name: sum(count for group, count in by_group.items() if group in trained)
                    for name, by_group in groups.items()
                },
            },
        )
