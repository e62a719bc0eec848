"""The solved examples that are shown before a request: `examples` of an entry of `models`.

`fixed`: the same for all requests. `nearest`: the training rows that are most like the request (rule `neighbors`).
A request gets as many of them as fit into the model's context, so they come in versions, from all examples to none.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import islice, zip_longest
from pathlib import Path
from statistics import median_low
from typing import Any

from scripts.common.answers import read_training
from scripts.common.errors import GradusError
from scripts.common.io import read_json, read_jsonl
from scripts.common.records import Record

NEIGHBORS = 16  # largest `examples.count`
CHOICES = ("fixed", "nearest")  # the cheaper one first: prompts with the same examples share them

Shots = dict[str, list[Record]]  # the examples of each record, by its id, in the order in which they are shown


def choose_fixed(train: Sequence[Record], count: int) -> list[Record]:
    """Return `count` training rows that stand for all, in an order that does not depend on the order of the rows.

    One row of each response, the commonest first, then a second of each, and so on: of a classification, one example
    per label. Of each response the rows that are at most as long as the median row come first, because every
    answer pays for their tokens; then those with the smallest ids, which are hashes.
    """
    lengths = {row.id: len(row.asked) + len(row.response) for row in train}
    usual = median_low(lengths.values()) if lengths else 0
    by_response: dict[str, list[Record]] = defaultdict(list)
    for row in sorted(train, key=lambda row: (lengths[row.id] > usual, row.id)):
        by_response[row.response.strip()].append(row)
    first = sorted(by_response.values(), key=lambda rows: (-len(rows), lengths[rows[0].id] > usual, rows[0].id))
    rounds = zip_longest(*first)
    return list(islice((row for each in rounds for row in each if row is not None), count))


def shots(
    records: Sequence[Record],
    train: Sequence[Record],
    neighbors: Mapping[str, Sequence[str]],
    count: int,
    choose: str,
    at_most: bool = False,
) -> list[Shots]:
    """Return the examples of each record in versions: with `count` of them, with one fewer, …, with none. What is left
    out first are the farthest training rows, or the last of the fixed ones.

    `neighbors`: the ids of training rows by the record's id, the nearest first. `at_most`: whether fewer than `count`
    training rows are enough.

    The nearest example is the last, beside the request, because models lean towards what they read last (Zhao et al.
    2021, arXiv 2102.09690). Liu et al. (2022, arXiv 2101.06804) found that the order matters little, and which one is
    best depends on the data.
    Raises GradusError if there are fewer than `count` training rows, unless `at_most`.
    """
    if count > len(train) and not at_most:
        raise GradusError(
            f"examples.count is {count}, and there are only {len(train)} training rows to choose from; "
            "lower it, or add rows"
        )
    fewer = range(min(count, len(train)), -1, -1)
    if choose == "fixed":
        same = choose_fixed(train, count)
        return [{record.id: same[:number] for record in records} for number in fewer]
    by_id = {row.id: row for row in train}
    near = {record.id: [by_id[key] for key in neighbors[record.id][:count]] for record in records}
    return [{key: rows[:number][::-1] for key, rows in near.items()} for number in fewer]


def read_neighbors(path: str | Path) -> dict[str, list[str]]:
    """Return the ids of the training rows that are nearest to each row of a split, by its id, the nearest first."""
    return {line["id"]: line["neighbors"] for line in read_jsonl(path)}


def read_shots(
    examples: Mapping[str, Any], records: Sequence[Record], files: Any, at_most: bool = False
) -> tuple[int, list[Shots]]:
    """Return how many examples are wanted, and the examples of each record in versions; see `shots`. `examples`: the
    option in the config.

    `files`: the inputs of the job, those of `Model.needs` among them: train; neighbors, if the nearest may be chosen;
    chosen, the output of rule `choose_examples`, if the config leaves a choice.
    """
    decided = read_json(files.get("chosen")) if files.get("chosen") else examples
    neighbors = read_neighbors(files.get("neighbors")) if decided["choose"] == "nearest" else {}
    count, train = decided["count"], read_training(files.get("train"))
    return count, shots(records, train, neighbors, count, decided["choose"], at_most)


def count_fewer(wanted: int, shown: Sequence[int]) -> dict[str, int]:
    """Return {count, rows_with_fewer, fewest}, of the number of examples that each row was `shown`."""
    return {
        "count": wanted,
        "rows_with_fewer": sum(number < wanted for number in shown),
        "fewest": min(shown, default=wanted),
    }
