"""Lay out the rows that one arm sees in each phase, in the order in which training takes them.

In: scored training records. Out: one row file a phase, and the schedule: rows and optimizer steps of each phase.
A phase's pool is cumulative: easy; easy and medium; all. A new arm is a function here, entered in ARMS.
"""

import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from scripts.common.errors import GradusError
from scripts.common.hashing import sha256_text
from scripts.common.io import write_json, write_jsonl
from scripts.common.logs import logging_to
from scripts.common.records import LEVELS, Record, read_records


def draw(pool: Sequence[Record], count: int, seen: Counter[str], seed: int, phase: str) -> list[Record]:
    """Return `count` records of `pool` in random order: those seen least often so far, and by lot among equals.

    A count above the pool's size goes round again. Lots hang on each record's id, so that an edited row
    moves no other. `seen` is brought up to date.
    """
    drawn: list[Record] = []
    while len(drawn) < count:
        rank = {r.id: (seen[r.id], sha256_text(f"{seed} {phase} draw {len(drawn)} {r.id}")) for r in pool}
        taken = sorted(pool, key=lambda r: rank[r.id])[: count - len(drawn)]
        seen.update(record.id for record in taken)
        drawn += sorted(taken, key=lambda r: sha256_text(f"{seed} {phase} order {len(drawn)} {r.id}"))
    return drawn


def lay_curriculum(
    train: Sequence[Record], sizes: Mapping[str, int], seed: int, seen: Counter[str]
) -> dict[str, list[Record]]:
    """Easy rows first, cumulatively: each phase draws from every level up to its own."""
    return {
        phase: draw([r for r in train if (r.difficulty or 0) <= LEVELS.index(phase)], size, seen, seed, phase)
        for phase, size in sizes.items()
    }


def lay_shuffled(
    train: Sequence[Record], sizes: Mapping[str, int], seed: int, seen: Counter[str]
) -> dict[str, list[Record]]:
    """The same rows in the same numbers as the curriculum's, in random order: the control for the order alone."""
    drawn = [row for rows in lay_curriculum(train, sizes, seed, seen).values() for row in rows]
    random.Random(seed).shuffle(drawn)
    phases, start = {}, 0
    for phase, size in sizes.items():
        phases[phase] = drawn[start : start + size]
        start += size
    return phases


ARMS: dict[str, Callable[..., dict[str, list[Record]]]] = {"curriculum": lay_curriculum, "shuffled": lay_shuffled}


def lay_out(
    records: Sequence[Record], arm: str, seed: int, rows: Mapping[str, int | None], batch_size: int
) -> tuple[dict[str, list[Record]], dict[str, Any]]:
    """Return each phase's records in order, and the schedule {phase: {rows, steps}} (steps: the last may be short).

    `rows` says how many rows each phase takes; None: its whole pool once.
    """
    sizes = {}
    for phase in LEVELS:
        pool = sum((record.difficulty or 0) <= LEVELS.index(phase) for record in records)
        if not pool:
            raise GradusError(
                f"no training row is {phase} or easier, so the {phase} phase would be empty. Look at the difficulty "
                "mix that the score rule wrote, and change score.rules in the config or the rows' own difficulty."
            )
        sizes[phase] = pool if rows[phase] is None else rows[phase] or 0
    phases = ARMS[arm](records, sizes, seed, Counter())
    schedule = {phase: {"rows": len(items), "steps": -(-len(items) // batch_size)} for phase, items in phases.items()}
    return phases, schedule


if "snakemake" in globals():
    job = globals()["snakemake"]
    with logging_to(job.log[0]):
        laid, plan = lay_out(
            list(read_records(job.input.records)),
            job.wildcards.arm,
            int(job.wildcards.seed),
            job.params.rows,
            job.params.batch_size,
        )
        for name, items in laid.items():
            write_jsonl(job.output[name], (record.to_json() for record in items))
        write_json(job.output.schedule, plan)
