"""What the arms of an experiment see, step by step. An arm is data (config/schema.yaml, `curriculum.definitions`).

All arms of a seed spend the same: as many optimizer steps, and as many tokens to within one row. The budget is that of
the config's phases as they are, which is the `curriculum` arm. Only what a step holds differs.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

from scripts.common.curriculum import Curriculum, by_phase
from scripts.common.errors import GradusError
from scripts.common.hashing import sha256_text
from scripts.common.records import Record

Steps = list[list[Record]]


@dataclass
class Arm:
    """See config/schema.yaml, `curriculum.definitions`, for each."""

    levels: str | Mapping[str, Sequence[str]] | None = None
    difficulty: str = "given"
    order: str = "random"
    shares: Mapping[str, float] | None = None
    pool_shares: Mapping[str, float] = field(default_factory=dict)
    replay: float = 0.0
    pacing: str | None = None
    start: float = 0.1

    def drawn_levels(self, curriculum: Curriculum) -> dict[str, Sequence[str]]:
        """Return the levels that each phase draws from: the phase's own, or as `levels` says."""
        own = {phase.name: phase.levels for phase in curriculum.phases}
        every = list(curriculum.levels)
        if self.levels == "all":
            return dict.fromkeys(own, every)
        if self.levels == "new":
            new = curriculum.new_levels()
            return {name: new[name] or levels for name, levels in own.items()}
        if self.levels == "reversed":
            mirror = dict(zip(every, reversed(every), strict=True))
            mirrored = {name: {mirror[level] for level in levels} for name, levels in own.items()}
            return {name: [level for level in every if level in levels] for name, levels in mirrored.items()}
        return {**own, **(self.levels if isinstance(self.levels, Mapping) else {})}

    def step_shares(self, names: Sequence[str]) -> dict[str, float]:
        """Return each phase's share of the steps, in the order of `names`; phases that `shares` leaves out divide what
        is left of 1 equally.
        """
        given = by_phase(self.shares or {}, names)
        others = [name for name in names if name not in given]
        return {name: given[name] if name in given else (1 - sum(given.values())) / len(others) for name in names}


def lot(*what: object) -> str:
    """Return a hash to sort by: lots hang on each record's id, so that an edited row moves no other."""
    return sha256_text(" ".join(map(str, what)))


def shuffle(rows: Sequence[Record], *what: object) -> list[Record]:
    """Return rows, some perhaps more than once, in an order by lot."""
    return [rows[i] for i in sorted(range(len(rows)), key=lambda i: lot(*what, i, rows[i].id))]


@dataclass
class Dealer:
    """Deals records to phases: those seen least often so far come first, and by lot among equals."""

    seed: int
    lengths: Mapping[str, int]  # tokens of each record, by id
    scores: Mapping[str, float]  # mixed difficulty score, by id
    seen: Counter[str] = field(default_factory=Counter)

    def tokens(self, records: Sequence[Record]) -> int:
        """Return the tokens of some records."""
        return sum(self.lengths[record.id] for record in records)

    def draw(
        self, pool: Sequence[Record], what: str, rows: int | None = None, tokens: float = math.inf
    ) -> list[Record]:
        """Return so many rows of the pool, or rows of about so many tokens; goes round again when all were taken."""
        drawn: list[Record] = []
        held = 0.0
        while pool and (rows is None or len(drawn) < rows) and held < tokens:
            ranked = sorted(pool, key=lambda r: (self.seen[r.id], lot(self.seed, what, "draw", len(drawn), r.id)))
            taken: list[Record] = []
            for record in ranked[: None if rows is None else rows - len(drawn)]:
                length = self.lengths[record.id]
                if held + length / 2 > tokens:  # it would end further from the target than without it
                    held = math.inf
                    break
                held += length
                taken.append(record)
            self.seen.update(record.id for record in taken)
            drawn += sorted(taken, key=lambda r: lot(self.seed, what, "order", len(drawn), r.id))
            if not taken:
                break
        return drawn

    def cut(self, rows: Sequence[Record], steps: int) -> Steps:
        """Cut rows, in their order, into steps of about as many tokens each, none empty.

        Raises GradusError if there are fewer rows than steps.
        """
        if len(rows) < steps:
            raise GradusError(
                f"{steps} optimizer steps, but this arm has only {len(rows)} rows for their tokens: they are longer. "
                "Raise train.batch_size, so that a step of the budget holds several rows."
            )
        made: Steps = []
        share, held, number = self.tokens(rows) / steps, 0, 0
        for step in range(steps):
            start, last = number, len(rows) - (steps - step - 1)  # each step after this one needs a row
            while number < last:
                length = self.lengths[rows[number].id]
                if number > start and step < steps - 1 and held + length / 2 > (step + 1) * share:
                    break
                held += length
                number += 1
            made.append(list(rows[start:number]))
        return made


def budget(train: Sequence[Record], curriculum: Curriculum, dealer: Dealer, batch_size: int) -> dict[str, Steps]:
    """Return the layout of the phases as they are, which all arms' budgets are taken from: the `curriculum` arm itself.

    Raises GradusError if a phase would be empty.
    """
    made = {}
    for phase in curriculum.phases:
        pool = [r for r in train if curriculum.level(r.difficulty) in phase.levels]
        if not pool:
            raise GradusError(
                f"no training row is {' or '.join(phase.levels)}, so the {phase.name} phase would be empty. Look at "
                "the difficulty mix in curriculum/score.json; change score in the config, or the rows' own difficulty."
            )
        rows = max(1, round(len(pool) * phase.epochs)) if phase.rows is None else phase.rows
        drawn = dealer.draw(pool, phase.name, rows=rows)
        made[phase.name] = [drawn[i : i + batch_size] for i in range(0, len(drawn), batch_size)]
    return made


def deal_out(train: Sequence[Record], arm: Arm, curriculum: Curriculum, seed: int) -> dict[str, str]:
    """Return each record's level by id: its own, or, for `difficulty: random`, as many of each dealt at random."""
    own = {record.id: curriculum.level(record.difficulty) for record in train}
    if arm.difficulty == "given":
        return own
    dealt = sorted(own, key=lambda key: lot(seed, "deal", key))
    return dict(zip(dealt, sorted(own.values(), key=list(curriculum.levels).index), strict=True))


def phase_steps(arm: Arm, reference: Mapping[str, Steps]) -> dict[str, int]:
    """Return the steps of each phase: the budget's, or its sum divided by the arm's shares."""
    if arm.shares is None:
        return {phase: len(steps) for phase, steps in reference.items()}
    names = list(reference)
    shares = arm.step_shares(names)
    total = sum(map(len, reference.values()))
    whole = sum(shares.values())
    ends = [round(total * sum(shares[p] for p in names[: n + 1]) / whole) for n in range(len(names))]
    counts = {phase: end - start for phase, start, end in zip(names, [0, *ends], ends, strict=False)}
    if empty := [phase for phase, count in counts.items() if not count]:
        raise GradusError(
            f"{total} optimizer steps, and this arm's share of them for the {empty[0]} phase is none. Give the phases "
            "more rows, or lower train.batch_size."
        )
    return counts


def order_rows(rows: list[Record], arm: Arm, dealer: Dealer, place: Mapping[str, int]) -> list[Record]:
    """Return a phase's rows in the arm's order: random (as drawn), file, or difficulty."""
    if arm.order == "file":
        return sorted(rows, key=lambda r: place[r.id])
    if arm.order == "difficulty":
        return sorted(rows, key=lambda r: (dealer.scores[r.id], lot(dealer.seed, "rank", r.id)))
    return rows


def pace(train: Sequence[Record], arm: Arm, dealer: Dealer, counts: Mapping[str, int], tokens: int) -> dict[str, Steps]:
    """Lay out competence-based pacing: at step t of T a step draws from the easiest share
    min(1, √(t·(1-c₀²)/T + c₀²)) of the rows, c₀ = `start` (Platanios et al. 2019, arXiv 1903.09848, equation 6).
    """
    ranked = sorted(train, key=lambda r: (dealer.scores[r.id], lot(dealer.seed, "rank", r.id)))
    total, held = sum(counts.values()), 0
    steps: Steps = []
    for step in range(total):
        share = min(1.0, math.sqrt(step * (1 - arm.start**2) / total + arm.start**2))
        pool = ranked[: max(1, math.ceil(share * len(ranked)))]
        steps.append([])
        while True:
            drawn = pool[int(lot(dealer.seed, "step", step, len(steps[-1])), 16) % len(pool)]
            length = dealer.lengths[drawn.id]
            if steps[-1] and held + length / 2 > tokens * (step + 1) / total:
                break
            steps[-1].append(drawn)
            held += length
    ends = list(accumulate(counts.values()))
    return {phase: steps[start:end] for phase, start, end in zip(counts, [0, *ends], ends, strict=False)}


def mixed(reference: Mapping[str, Steps], seed: int) -> dict[str, Steps]:
    """Lay the budget's own rows out in random order over all phases, each step as many rows as it had."""
    rows = [row for steps in reference.values() for some in steps for row in some]
    stream = iter(shuffle(rows, seed, "mixed"))
    return {phase: [[next(stream) for _ in some] for some in steps] for phase, steps in reference.items()}


def draw_phases(
    train: Sequence[Record],
    arm: Arm,
    curriculum: Curriculum,
    dealer: Dealer,
    counts: Mapping[str, int],
    tokens: Mapping[str, int],
) -> dict[str, Steps]:
    """Lay an arm out phase by phase: draw rows of its levels for so many `tokens`, cut them into so many steps."""
    level = deal_out(train, arm, curriculum, dealer.seed)
    levels, pool_shares = arm.drawn_levels(curriculum), by_phase(arm.pool_shares, curriculum.names)
    place = {record.id: number for number, record in enumerate(train)}
    made: dict[str, Steps] = {}
    before: list[Record] = []  # what phases so far could draw from
    spent = due = 0
    for phase in counts:
        due += tokens[phase]
        pool = [r for r in train if level[r.id] in levels[phase]]
        if (share := pool_shares.get(phase, 1.0)) < 1:
            pool = sorted(pool, key=lambda r: lot(dealer.seed, "pool", r.id))[: max(1, round(share * len(pool)))]
        if not pool:
            wanted = " or ".join(levels[phase])
            raise GradusError(f"no training row is {wanted}: this arm's {phase} phase would be empty")
        again = dealer.draw(before, f"{phase} replay", tokens=arm.replay * (due - spent)) if arm.replay else []
        drawn = again + dealer.draw(pool, phase, tokens=due - spent - dealer.tokens(again))
        if again:
            drawn = shuffle(drawn, dealer.seed, phase, "replay")
        spent += dealer.tokens(drawn)
        made[phase] = dealer.cut(order_rows(drawn, arm, dealer, place), counts[phase])
        known = {r.id for r in before}
        before += [r for r in pool if r.id not in known]
    return made


def lay_out(
    train: Sequence[Record],
    arm: Arm,
    curriculum: Curriculum,
    seed: int,
    batch_size: int,
    lengths: Mapping[str, int],
    scores: Mapping[str, float],
) -> dict[str, Steps]:
    """Return the records of each step of each phase. `lengths` (tokens) and `scores` by id.

    Raises GradusError if a phase would be empty.
    """
    reference = budget(train, curriculum, Dealer(seed, lengths, scores), batch_size)
    if arm == Arm():
        return reference
    if arm.order == "mixed":
        return mixed(reference, seed)
    dealer = Dealer(seed, lengths, scores)
    counts = phase_steps(arm, reference)
    tokens = {phase: sum(map(dealer.tokens, steps)) for phase, steps in reference.items()}
    total, all_steps = sum(tokens.values()), sum(counts.values())
    if arm.pacing == "sqrt":
        return pace(train, arm, dealer, counts, total)
    if arm.shares is not None:
        tokens = {phase: total * count // all_steps for phase, count in counts.items()}
    return draw_phases(train, arm, curriculum, dealer, counts, tokens)


def ledger(
    phases: Mapping[str, Steps], curriculum: Curriculum, lengths: Mapping[str, int]
) -> dict[str, dict[str, Any]]:
    """Return what each phase, and all together, spend: steps, rows, distinct rows, tokens, rows by difficulty."""
    found = {}
    parts: dict[str, Steps] = {**phases, "all": [step for steps in phases.values() for step in steps]}
    for name, steps in parts.items():
        rows = [row for step in steps for row in step]
        by = Counter(curriculum.level(row.difficulty) for row in rows)
        found[name] = {
            "steps": len(steps),
            "rows": len(rows),
            "distinct_rows": len({row.id for row in rows}),
            "tokens": sum(lengths[row.id] for row in rows),
            "by_difficulty": {level: by[level] for level in curriculum.levels},
        }
    return found
