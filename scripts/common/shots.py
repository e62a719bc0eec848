"""The solved examples that are shown before a request: `examples` of an entry of `models`.

`fixed`: the same for all requests. `nearest`: the training rows that are most like the request (rule `neighbors`).
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import islice, zip_longest
from pathlib import Path
from statistics import median_low
from typing import Any

from scripts.common.errors import GradusError
from scripts.common.io import read_json, read_jsonl
from scripts.common.records import Record, read_records

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
) -> Shots:
    """Return the examples of each record. `neighbors`: the ids of training rows by the record's id, the nearest first.

    The nearest example is the last, beside the request, because models lean towards what they read last (Zhao et al.
    2021, arXiv 2102.09690). Liu et al. (2022, arXiv 2101.06804) found that the order matters little, and which one is
    best depends on the data.
    Raises GradusError if there are fewer than `count` training rows.
    """
    if count > len(train):
        raise GradusError(
            f"examples.count is {count}, and there are only {len(train)} training rows to choose from; "
            "lower it, add rows, or leave out the model few-shot with `contenders: false`"
        )
    if choose == "fixed":
        same = choose_fixed(train, count)
        return {record.id: same for record in records}
    by_id = {row.id: row for row in train}
    return {record.id: [by_id[key] for key in reversed(neighbors[record.id][:count])] for record in records}


def read_neighbors(path: str | Path) -> dict[str, list[str]]:
    """Return the ids of the training rows that are nearest to each row of a split, by its id, the nearest first."""
    return {line["id"]: line["neighbors"] for line in read_jsonl(path)}


def read_shots(examples: Mapping[str, Any], records: Sequence[Record], files: Any) -> Shots:
    """Return the examples of each record. `examples`: the option in the config.

    `files`: the inputs of the job, those of `Model.needs` among them: train; neighbors, if the nearest may be chosen;
    chosen, the output of rule `choose_examples`, if the config leaves a choice.
    """
    decided = read_json(files.get("chosen")) if files.get("chosen") else examples
    neighbors = read_neighbors(files.get("neighbors")) if decided["choose"] == "nearest" else {}
    return shots(records, list(read_records(files.get("train"))), neighbors, decided["count"], decided["choose"])
