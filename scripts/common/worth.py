"""The verdict of a run: was training worth it, and did the order of the rows matter?

A pure function of what other stages found: the comparison with the best contender, the advice before training, what the
model forgot, and the gates. docs/statistics.md has the rules and their truth table.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from math import ceil
from typing import Any

from scipy.stats import norm

from scripts.common.experiment_statistics import (
    ALPHA,
    MARGIN,
    Comparison,
    Components,
    Interval,
    detectable,
    needed_items,
    needed_seeds,
    six_digits,
)
from scripts.common.verdict import GO_ON, LIMIT

WORTH_IT, NOT_WORTH_IT, NOT_SHOWN = "worth it", "not worth it", "not shown"
EXIT_CODES = {WORTH_IT: 0, NOT_WORTH_IT: 10, NOT_SHOWN: 11}
GAIN, NO_GAIN, OPEN = "gain", "no gain", "open"
FEWEST = 20  # units; intervals of fewer are too narrow (bootstrap), or of hardly any rows that differ
ORDERS = {GAIN: "the order helped", NO_GAIN: "the order did not help", OPEN: NOT_SHOWN}


@dataclass(frozen=True)
class Rival:
    """What a model or an arm is compared with. `gain` is its lead over this rival in the metric's unit: positive if it
    is better, whichever way the metric runs.
    """

    name: str
    gain: float
    interval: Interval | None  # 95 %; None if the rows show no spread
    rows: int
    units: int  # rows, or the groups of rows that hang together
    seeds: int  # 1: two single models
    components: Components | None  # None if there is no spread to plan with
    p: float | None = None  # None if there is no test of this metric
    p_holm: float | None = None


@dataclass(frozen=True)
class Facts:
    """What is known once a run is done."""

    served: str
    metric: str
    best: Rival | None  # the contender that did best on validation rows; None if none was asked, or no row says which
    others: Sequence[Rival] = ()  # further contenders, with p_holm
    advice: str | None = None
    forgotten: Sequence[str] | None = None  # kinds of knowledge that dropped beyond their threshold; None: not measured
    failed_gates: Sequence[str] | None = None  # None: not measured
    order: Rival | None = None  # the same rows in random order; None if no such arm was trained
    margin: float = MARGIN  # differences up to it do not matter


@dataclass(frozen=True)
class Order:
    """Whether the order of the rows mattered."""

    outcome: str
    control: str
    difference: float
    interval: Interval | None
    n: int
    seeds: int
    minimum_detectable_effect: float | None
    reason: str


@dataclass(frozen=True)
class Verdict:
    """The outcome, with what it rests on. `difference` and `interval` are the served model's lead."""

    verdict: str
    primary_metric: str
    best_contender: str | None
    difference: float | None
    interval: Interval | None
    n: int
    seeds: int
    minimum_detectable_effect: float | None
    order: Order | None
    reasons: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return verdict.json."""
        return {name: six_digits(value) for name, value in asdict(self).items()}


def of_models(name: str, pair: Mapping[str, Any]) -> Rival | None:
    """Return a contender from its cell of comparison.json, under `served`; None if no row counts.

    Only the interval says how much the rows differ, so the plan for more of them is a normal approximation.
    """
    if not pair["n"] or pair["difference"] is None:
        return None
    bounds = pair["difference_interval"]
    spread = None
    if bounds is not None and bounds[0] < bounds[1]:
        error = (bounds[1] - bounds[0]) / (2 * norm.ppf(1 - ALPHA / 2))
        spread = Components(0.0, error**2 * pair["n"], 0.0)
    interval = None if bounds is None else (bounds[0], bounds[1])
    n = pair["n"]
    return Rival(name, pair["difference"], interval, n, n, 1, spread, pair["p"], pair.get("p_holm"))


def of_arms(found: Comparison) -> Rival:
    """Return the control of a comparison of two arms."""
    sign = 1 if found.higher_is_better else -1
    interval = None
    if found.interval is not None:
        low, high = sorted(sign * bound for bound in found.interval)
        interval = (low, high)
    return Rival(
        found.control,
        sign * found.difference,
        interval,
        found.items,
        found.clusters,
        found.seeds,
        found.components if interval else None,
        found.p,
        found.p_holm,
    )


def settle(rival: Rival | None, margin: float) -> str:
    """Return GAIN: the lead is larger than the margin, its interval above 0, and p, if there is one, below LIMIT;
    NO_GAIN: the whole interval is at or below the margin, so the rival is as good, or better; else OPEN, as always if
    the rows show no spread or are fewer than FEWEST.
    """
    if rival is None or (bounds := _telling(rival)) is None:
        return OPEN
    low, high = bounds
    if high <= margin:
        return NO_GAIN
    return GAIN if rival.gain > margin and low > 0 and (rival.p is None or rival.p < LIMIT) else OPEN


def _telling(rival: Rival) -> Interval | None:
    """Return the interval if it tells anything: there are enough units, and they show some spread."""
    if rival.units < FEWEST or rival.interval is None or rival.interval[0] == rival.interval[1]:
        return None
    return rival.interval


def decide(best: str, beaten: bool, faithful: bool) -> str:
    """Return the verdict. `best`: what `settle` says of the best contender; `beaten`: whether another one is better
    after Holm's correction; `faithful`: whether no gate failed, so that what was measured is what is served.
    """
    if beaten or best == NO_GAIN:
        return NOT_WORTH_IT
    return WORTH_IT if best == GAIN and faithful else NOT_SHOWN


def judge(facts: Facts) -> Verdict:
    """Return the verdict with its reasons.

    What was advised and what was forgotten are told, and change no outcome: whether it matters that the model forgot
    depends on what else it is meant to do.
    """
    ahead = [rival for rival in facts.others if _is_ahead(rival)]
    outcome = settle(facts.best, facts.margin)
    rival = min(ahead, key=lambda other: other.gain) if ahead and outcome != NO_GAIN else facts.best
    verdict = decide(outcome, bool(ahead), not facts.failed_gates)
    reasons = [
        _compared(facts, rival, NO_GAIN if rival in ahead else outcome),
        _one_training(facts, rival),
        _gates(facts),
        _forgetting(facts),
        _advice(facts, verdict),
    ]
    return Verdict(
        verdict,
        facts.metric,
        rival.name if rival else None,
        rival.gain if rival else None,
        rival.interval if rival else None,
        rival.rows if rival else 0,
        rival.seeds if rival else 0,
        _detectable(rival) if rival else None,
        _order(facts.order, facts.margin),
        tuple(reason for reason in reasons if reason),
    )


def _is_ahead(rival: Rival) -> bool:
    bounds = _telling(rival)
    return bounds is not None and bounds[1] < 0 and rival.p_holm is not None and rival.p_holm < LIMIT


def _order(rival: Rival | None, margin: float) -> Order | None:
    if rival is None:
        return None
    outcome = settle(rival, margin) if rival.seeds > 1 else OPEN
    said = f"The curriculum against the same rows in random order: {_figures(rival)}"
    if rival.seeds == 1:
        said += ". One seed cannot tell the order from chance: train several."
    elif outcome == OPEN:
        said += f", which does not tell whether it helps by more than the margin of {margin:g}. {_plan(rival, margin)}"
    elif outcome == GAIN:
        said += f", more than the margin of {margin:g}."
    else:
        said += f": even the upper end is not more than the margin of {margin:g}."
    return Order(
        ORDERS[outcome],
        rival.name,
        rival.gain,
        rival.interval,
        rival.rows,
        rival.seeds,
        _detectable(rival) if rival.seeds > 1 else None,
        said,
    )


def _compared(facts: Facts, rival: Rival | None, outcome: str) -> str:
    if rival is None:
        return (
            f"No cheap alternative was compared with {facts.served}, so nothing shows that training was needed. Set "
            "contenders: true, and keep validation rows, which say which alternative is the best."
        )
    against, margin = f"{facts.served} against {rival.name}: {_figures(rival, facts.metric)}", f"{facts.margin:g}"
    if outcome == GAIN:
        return f"{against}, more than the margin of {margin}."
    if outcome == OPEN:
        plan = _plan(rival, facts.margin)
        return f"{against}, which does not tell whether it is better by more than the margin of {margin}. {plan}"
    if rival.interval is not None and rival.interval[1] < 0:
        return f"{rival.name} is better. {against}."
    return f"{rival.name} is as good. {against}: even the upper end is not more than the margin of {margin}."


def _figures(rival: Rival, metric: str = "") -> str:
    interval = "no interval, since the rows show no spread"
    if rival.interval is not None:
        interval = f"95 % interval {rival.interval[0]:+.3g} to {rival.interval[1]:+.3g}"
    if rival.p is not None:
        interval += f", p = {rival.p:.3g}"
    rows = f"{rival.rows} rows" if rival.units == rival.rows else f"{rival.rows} rows in {rival.units} groups"
    seeds = "1 seed" if rival.seeds == 1 else f"{rival.seeds} seeds"
    return f"{rival.gain:+.3g}{f' of {metric}' if metric else ''} ({interval}; {rows}, {seeds})"


def _detectable(rival: Rival) -> float | None:
    if rival.components is None or rival.units < 2:
        return None
    return detectable(rival.components, rival.seeds, rival.units)


def to_settle(gain: float, margin: float) -> float:
    """Return the difference that a larger trial has to detect if the true lead is the one found: from 0 if it is above
    the margin, else from the margin, and never less than the margin, since a lead near it can hardly be settled.
    """
    return gain if gain > margin else max(margin, margin - gain)


def _plan(rival: Rival, margin: float) -> str:
    if rival.units < FEWEST:
        return f"Fewer than {FEWEST} {'rows' if rival.units == rival.rows else 'groups'} tell nothing; ask more."
    if rival.components is None:
        return "These rows show no spread to plan with; ask more."
    effect = to_settle(rival.gain, margin)
    items = needed_items(rival.components, rival.seeds, effect)
    ways = [f"about {ceil(items * rival.rows / rival.units):,} rows like these"] if items else []
    if rival.seeds > 1 and (seeds := needed_seeds(rival.components, rival.units, effect)):
        ways.insert(0, f"about {seeds} seeds")
    either = " or ".join(ways) or "more of both seeds and rows than is practical"
    return f"To settle it in 4 of 5 trials, if the difference found is the true one, would take {either}."


def _one_training(facts: Facts, rival: Rival | None) -> str:
    if rival is None or rival.seeds > 1:
        return ""
    return f"This is of one training: it holds for the model {facts.served}, and another seed gives another model."


def _gates(facts: Facts) -> str:
    if facts.failed_gates is None:
        return "Whether the served model is the trained one was not measured."
    if not facts.failed_gates:
        return ""
    return f"What is served is not what was trained: {', '.join(facts.failed_gates)} failed."


def _forgetting(facts: Facts) -> str:
    if facts.forgotten is None:
        return "What the model forgot was not measured."
    if not facts.forgotten:
        return ""
    return f"The model forgot: {', '.join(facts.forgotten)} dropped more than allowed."


def _advice(facts: Facts, verdict: str) -> str:
    if facts.advice is None:
        return ""
    said = f"Before training, the advice was “{facts.advice}”."
    if verdict == NOT_SHOWN:
        return f"{said} Whether that was right is not shown."
    right = (facts.advice == GO_ON) == (verdict == WORTH_IT)
    return f"{said} That was {'right' if right else 'wrong'}."
