"""The rows that the arms of an experiment see, step by step. Arms are defined in config/schema.yaml,
`curriculum.definitions`.

All arms of a seed have the same budget: the same number of optimizer steps, and the same number of tokens to within one
row. The budget is that of the config's phases, which is the `curriculum` arm. Only the rows of each step differ.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

from scripts.common.curriculum import Curriculum, by_phase
from scripts.common.errors import GradusError
from scripts.common.hashing import sha256_text
from scripts.common.records import Record

Steps = list[list[Record]]
Measure = Callable[[Sequence[Record]], Sequence[float]]  # the loss of rows, of the model as it is trained so far


@dataclass
class Arm:
    """One arm; the fields are those of `curriculum.definitions` in config/schema.yaml."""

    levels: str | Mapping[str, Sequence[str]] | None = None
    difficulty: str = "given"
    order: str = "random"
    shares: Mapping[str, float] | None = None
    pool_shares: Mapping[str, float] = field(default_factory=dict)
    replay: float = 0.0
    pacing: str | None = None
    start: float = 0.1

    def drawn_levels(self, curriculum: Curriculum) -> dict[str, Sequence[str]]:
        """Return the levels that each phase draws from: the phase's own, or those given by `levels`."""
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
        """Return each phase's share of the steps, in the order of `names`. Phases that `shares` does not list divide
        the rest equally.
        """
        given = by_phase(self.shares or {}, names)
        others = [name for name in names if name not in given]
        return {name: given[name] if name in given else (1 - sum(given.values())) / len(others) for name in names}


def lot(*what: object) -> str:
    """Return a hash as a random sort key. It depends on the record's id, so an edited row does not move others."""
    return sha256_text(" ".join(map(str, what)))


def shuffle(rows: Sequence[Record], *what: object) -> list[Record]:
    """Return rows, which may contain duplicates, in random order."""
    return [rows[i] for i in sorted(range(len(rows)), key=lambda i: lot(*what, i, rows[i].id))]


@dataclass
class Dealer:
    """Draws records for phases: the least often seen come first, in random order among equals."""

    seed: int
    lengths: Mapping[str, int]  # tokens of each record, by id
    scores: Mapping[str, float]  # mixed difficulty score, by id
    seen: Counter[str] = field(default_factory=Counter)

    def tokens(self, records: Sequence[Record]) -> int:
        """Return the number of tokens of records."""
        return sum(self.lengths[record.id] for record in records)

    def draw(
        self, pool: Sequence[Record], what: str, rows: int | None = None, tokens: float = math.inf
    ) -> list[Record]:
        """Return `rows` rows of the pool, or rows of about `tokens` tokens; starts over when all rows were taken."""
        drawn: list[Record] = []
        held = 0.0
        while pool and (rows is None or len(drawn) < rows) and held < tokens:
            ranked = sorted(pool, key=lambda r: (self.seen[r.id], lot(self.seed, what, "draw", len(drawn), r.id)))
            taken: list[Record] = []
            for record in ranked[: None if rows is None else rows - len(drawn)]:
                length = self.lengths[record.id]
                if held + length / 2 > tokens:  # with this row, the sum would be further from the target
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
        """Divide rows, in their order, into non-empty steps with about the same number of tokens each.

        Raises GradusError if there are fewer rows than steps.
        """
        if len(rows) < steps:
            raise GradusError(
                f"the budget has {steps} optimizer steps, but this arm fills its tokens with only {len(rows)} rows, "
                "since they are longer. Raise train.batch_size, so that each step has several rows."
            )
        divided: Steps = []
        share, held, number = self.tokens(rows) / steps, 0, 0
        for step in range(steps):
            start, last = number, len(rows) - (steps - step - 1)  # each step after this one needs a row
            while number < last:
                length = self.lengths[rows[number].id]
                if number > start and step < steps - 1 and held + length / 2 > (step + 1) * share:
                    break
                held += length
                number += 1
            divided.append(list(rows[start:number]))
        return divided


def budget(train: Sequence[Record], curriculum: Curriculum, dealer: Dealer, batch_size: int) -> dict[str, Steps]:
    """Return the steps of the phases as configured, the `curriculum` arm, which defines the budget of all arms.

    Raises GradusError if a phase would be empty.
    """
    phases = {}
    for phase in curriculum.phases:
        pool = [r for r in train if curriculum.level(r.difficulty) in phase.levels]
        if not pool:
            raise GradusError(
                f"no training row is {' or '.join(phase.levels)}, so the {phase.name} phase would be empty. Check "
                "the difficulty mix in curriculum/score.json; change score in the config, or the rows' own difficulty."
            )
        rows = max(1, round(len(pool) * phase.epochs)) if phase.rows is None else phase.rows
        drawn = dealer.draw(pool, phase.name, rows=rows)
        phases[phase.name] = [drawn[i : i + batch_size] for i in range(0, len(drawn), batch_size)]
    return phases


def deal_out(train: Sequence[Record], arm: Arm, curriculum: Curriculum, seed: int) -> dict[str, str]:
    """Return each record's level by id: its own, or, with `difficulty: random`, the same levels in random order."""
    own = {record.id: curriculum.level(record.difficulty) for record in train}
    if arm.difficulty != "random":
        return own
    dealt = sorted(own, key=lambda key: lot(seed, "deal", key))
    return dict(zip(dealt, sorted(own.values(), key=list(curriculum.levels).index), strict=True))


def phase_steps(arm: Arm, reference: Mapping[str, Steps]) -> dict[str, int]:
    """Return the number of steps of each phase: that of the budget, or the total divided by the arm's shares."""
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
            f"this arm's share of {total} optimizer steps leaves none for the {empty[0]} phase. Give the phases "
            "more rows, or lower train.batch_size."
        )
    return counts


def order_rows(rows: list[Record], arm: Arm, dealer: Dealer, place: Mapping[str, int]) -> list[Record]:
    """Return a phase's rows in the arm's order: random (as drawn), file or difficulty."""
    if arm.order == "file":
        return sorted(rows, key=lambda r: place[r.id])
    if arm.order == "difficulty":
        return sorted(rows, key=lambda r: (dealer.scores[r.id], lot(dealer.seed, "rank", r.id)))
    return rows


def pace(train: Sequence[Record], arm: Arm, dealer: Dealer, counts: Mapping[str, int], tokens: int) -> dict[str, Steps]:
    """Return the steps of competence-based pacing: step t of T draws from the easiest share
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
    """Return the budget's own rows in random order over all phases; each step keeps its number of rows."""
    rows = [row for steps in reference.values() for step in steps for row in step]
    stream = iter(shuffle(rows, seed, "mixed"))
    return {phase: [[next(stream) for _ in step] for step in steps] for phase, steps in reference.items()}


def deal_again(train: Sequence[Record], dealer: Dealer, curriculum: Curriculum, measure: Measure) -> dict[str, str]:
    """Return each record's level by id, dealt anew: as many rows of each level as before, those already seen first,
    then the others by their loss, the lowest first (self-paced learning, Kumar, Packer and Koller 2010, NIPS 23).
    """
    own = sorted((curriculum.level(record.difficulty) for record in train), key=list(curriculum.levels).index)
    unseen = [record for record in train if not dealer.seen[record.id]]
    losses = dict(zip((record.id for record in unseen), measure(unseen), strict=True))
    ranked = sorted((r.id for r in train), key=lambda key: (losses.get(key, -math.inf), lot(dealer.seed, "deal", key)))
    return dict(zip(ranked, own, strict=True))


def draw_phases(
    train: Sequence[Record],
    arm: Arm,
    curriculum: Curriculum,
    dealer: Dealer,
    counts: Mapping[str, int],
    tokens: Mapping[str, int],
    measure: Measure | None,
) -> Iterator[tuple[str, Steps]]:
    """Yield an arm's steps, phase by phase: draws rows for `tokens` tokens and divides them into `counts` steps.

    An arm whose difficulty is the model's asks `measure` before each phase that leaves out some level.
    """
    level = deal_out(train, arm, curriculum, dealer.seed)
    levels, pool_shares = arm.drawn_levels(curriculum), by_phase(arm.pool_shares, curriculum.names)
    place = {record.id: number for number, record in enumerate(train)}
    before: list[Record] = []  # the pools of all earlier phases
    spent = due = 0
    for phase in counts:
        due += tokens[phase]
        if arm.difficulty == "model" and set(levels[phase]) != set(curriculum.levels):
            assert measure  # noqa: S101 - lay_out_phases refuses such an arm without it
            level = deal_again(train, dealer, curriculum, measure)
        pool = [r for r in train if level[r.id] in levels[phase]]
        if (share := pool_shares.get(phase, 1.0)) < 1:
            pool = sorted(pool, key=lambda r: lot(dealer.seed, "pool", r.id))[: max(1, round(share * len(pool)))]
        if not pool:
            wanted = " or ".join(levels[phase])
            raise GradusError(
                f"no training row is {wanted}, so this arm's {phase} phase would be empty. Change the arm in "
                "curriculum.definitions, or score"
            )
        again = dealer.draw(before, f"{phase} replay", tokens=arm.replay * (due - spent)) if arm.replay else []
        drawn = again + dealer.draw(pool, phase, tokens=due - spent - dealer.tokens(again))
        if again:
            drawn = shuffle(drawn, dealer.seed, phase, "replay")
        spent += dealer.tokens(drawn)
        yield phase, dealer.cut(order_rows(drawn, arm, dealer, place), counts[phase])
        known = {r.id for r in before}
        before += [r for r in pool if r.id not in known]


def lay_out_phases(
    train: Sequence[Record],
    arm: Arm,
    curriculum: Curriculum,
    seed: int,
    batch_size: int,
    lengths: Mapping[str, int],
    scores: Mapping[str, float],
    measure: Measure | None = None,
) -> Iterator[tuple[str, Steps]]:
    """Yield each phase with the records of its steps. `lengths` (tokens) and `scores` are keyed by record id.

    `measure` is asked just before a phase is due.

    Raises GradusError if a phase would be empty, or if the arm's difficulty is the model's and there is no `measure`.
    """
    if arm.difficulty == "model" and not measure:
        raise GradusError("an arm whose difficulty is the model's loss is trained only as part of an experiment")
    reference = budget(train, curriculum, Dealer(seed, lengths, scores), batch_size)
    if arm == Arm():
        yield from reference.items()
        return
    if arm.order == "mixed":
        yield from mixed(reference, seed).items()
        return
    dealer = Dealer(seed, lengths, scores)
    counts = phase_steps(arm, reference)
    tokens = {phase: sum(map(dealer.tokens, steps)) for phase, steps in reference.items()}
    total, all_steps = sum(tokens.values()), sum(counts.values())
    if arm.pacing == "sqrt":
        yield from pace(train, arm, dealer, counts, total).items()
        return
    if arm.shares is not None:
        tokens = {phase: total * count // all_steps for phase, count in counts.items()}
    yield from draw_phases(train, arm, curriculum, dealer, counts, tokens, measure)


def ledger(
    phases: Mapping[str, Steps], curriculum: Curriculum, lengths: Mapping[str, int]
) -> dict[str, dict[str, Any]]:
    """Return steps, rows, distinct rows, tokens and rows by difficulty of each phase, and of all together."""
    totals = {}
    parts: dict[str, Steps] = {**phases, "all": [step for steps in phases.values() for step in steps]}
    for name, steps in parts.items():
        rows = [row for step in steps for row in step]
        by = Counter(curriculum.level(row.difficulty) for row in rows)
        totals[name] = {
            "steps": len(steps),
            "rows": len(rows),
            "distinct_rows": len({row.id for row in rows}),
            "tokens": sum(lengths[row.id] for row in rows),
            "by_difficulty": {level: by[level] for level in curriculum.levels},
        }
    return totals
