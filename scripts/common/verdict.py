"""The verdict of a run: was training worth it, and did the order of the rows matter?

A pure function of what other stages found: the comparison with the best contender, the advice before training, what the
model forgot, and the gates. docs/statistics.md has the rules and their truth table. scripts/report/verdict.py collects
the facts and writes verdict.json, which all others read.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from math import ceil
from typing import Any

from scipy.stats import norm

from scripts.common.comparison import LIMIT
from scripts.common.experiment_statistics import (
    ALPHA,
    MARGIN,
    Components,
    Interval,
    detectable,
    needed_items,
    needed_seeds,
    six_digits,
)
from scripts.common.html import percent, points

WORTH_IT, NOT_WORTH_IT, NOT_SHOWN = "worth it", "not worth it", "not shown"
GAIN, NO_GAIN, OPEN = "gain", "no gain", "open"
ORDERS = {GAIN: "helped", NO_GAIN: "did not help", OPEN: NOT_SHOWN}
FEWEST = 20  # units; intervals of fewer are too narrow (bootstrap), or of hardly any rows that differ
GO_ON = "go on"  # the advice that expects training to pay
NO_EXPERIMENT = "no experiment was made, so nothing is known about it."


@dataclass(frozen=True)
class Rival:
    """What a model or an arm is compared with. `gain` is its lead over this rival in the metric's unit: positive if it
    is better, whichever way the metric runs.
    """

    name: str
    gain: float
    interval: Interval | None  # 95%; None if the rows show no spread
    rows: int
    units: int  # rows, or the groups of rows that hang together
    seeds: int  # 1: two single models
    components: Components | None  # None if there is no spread to plan with
    p: float | None = None  # None if there is no test of this metric
    p_holm: float | None = None
    value: float | None = None  # of what is compared with it
    own_value: float | None = None
    what: str = ""  # in words, for a model
    equivalent: bool = False  # for an arm: the 90% interval is within the margin on both sides


@dataclass(frozen=True)
class Trial:
    """An arm against its control over several seeds, of an experiment's primary comparison."""

    arm: str
    metric: str
    split: str
    rival: Rival  # the control
    margin: float


@dataclass(frozen=True)
class Facts:
    """What is known once a run is done."""

    served: str
    metric: str
    best: Rival | None  # the contender that did best on validation rows
    split: str | None = "test"
    others: Sequence[Rival] = ()  # further contenders, with p_holm
    missing: str = "no cheap alternative was asked."  # why there is no `best`
    contended: bool = True  # whether any was asked but the untuned base, to beat which proves little
    advice: str | None = None
    because: str = ""
    forgotten: Mapping[str, str] | None = None  # {what dropped beyond its threshold: its figures}; None: not measured
    failed_gates: Sequence[str] | None = None  # None: not measured
    order: Trial | None = None
    no_order: str = NO_EXPERIMENT  # why there is none
    context: Mapping[str, str] = field(default_factory=dict)  # {model that is no contender: a sentence on it}
    margin: float = MARGIN  # leads up to it do not matter


@dataclass(frozen=True)
class Order:
    """Whether the order of the rows mattered. `difference` is the arm's lead over its control."""

    outcome: str
    arm: str | None
    control: str | None
    metric: str | None
    split: str | None
    difference: float | None
    interval: Interval | None
    margin: float | None
    n: int
    seeds: int
    minimum_detectable_effect: float | None
    reason: str


@dataclass(frozen=True)
class Verdict:
    """The outcome, with what it rests on. `difference` and `interval` are the served model's lead."""

    verdict: str
    served: str
    primary_metric: str
    split: str | None
    best_contender: str | None
    value: float | None
    contender_value: float | None
    difference: float | None
    interval: Interval | None
    p: float | None
    margin: float
    n: int
    seeds: int
    minimum_detectable_effect: float | None
    order: Order
    forgotten: tuple[str, ...] | None
    sentence: str
    reasons: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return verdict.json."""
        return {name: six_digits(value) for name, value in asdict(self).items()}


def of_models(name: str, pair: Mapping[str, Any], what: str = "") -> Rival | None:
    """Return a contender from its cell of comparison.json, under `served`; None if no row counts.

    Only the interval says how much the rows differ, so the plan for more of them is a normal approximation.
    """
    if not pair["n"] or pair["difference"] is None:
        return None
    bounds, units = pair["difference_interval"], pair.get("units", pair["n"])
    spread = None
    if bounds is not None and bounds[0] < bounds[1]:
        error = (bounds[1] - bounds[0]) / (2 * norm.ppf(1 - ALPHA / 2))
        spread = Components(0.0, error**2 * units, 0.0)
    return Rival(
        name,
        pair["difference"],
        None if bounds is None else (bounds[0], bounds[1]),
        rows=pair["n"],
        units=units,
        seeds=1,
        components=spread,
        p=pair["p"],
        p_holm=pair.get("p_holm"),
        value=pair["value"],
        own_value=pair["first_value"],
        what=what,
    )


def of_arms(found: Mapping[str, Any]) -> Rival:
    """Return the control of a comparison of two arms, as `Comparison.to_dict` has it."""
    sign = 1 if found["higher_is_better"] else -1
    interval = None
    if found["interval"] is not None:
        low, high = sorted(sign * bound for bound in found["interval"])
        interval = (low, high)
    return Rival(
        found["control"],
        sign * found["difference"],
        interval,
        rows=found["items"],
        units=found["clusters"],
        seeds=found["seeds"],
        components=Components(**found["components"]) if interval else None,
        p=found["p"],
        p_holm=found["p_holm"],
        value=found["value"],
        own_value=found["control_value"],
        equivalent=found["equivalent"],
    )


# --- outcomes


def settle(rival: Rival | None, margin: float) -> str:
    """Return GAIN: the lead is larger than the margin, its interval above 0, and p, if there is one, below LIMIT;
    NO_GAIN: the whole interval is at or below the margin, so the rival is as good, or better, or two arms are
    equivalent; else OPEN, as always if the rows show no spread or are fewer than FEWEST.
    """
    if rival is None or (bounds := _telling(rival)) is None:
        return OPEN
    low, high = bounds
    if high <= margin or rival.equivalent:
        return NO_GAIN
    return GAIN if rival.gain > margin and low > 0 and (rival.p is None or rival.p < LIMIT) else OPEN


def _telling(rival: Rival) -> Interval | None:
    """Return the interval if it tells anything: there are enough units, and they show some spread."""
    if rival.units < FEWEST or rival.interval is None or rival.interval[0] == rival.interval[1]:
        return None
    return rival.interval


def decide(best: str, beaten: bool, faithful: bool, contended: bool) -> str:
    """Return the verdict. `best`: what `settle` says of the best contender; `beaten`: whether another one is better
    after Holm's correction; `faithful`: whether no gate failed, so that what was measured is what is served;
    `contended`: whether any contender was asked but the untuned base.
    """
    if beaten or best == NO_GAIN:
        return NOT_WORTH_IT
    return WORTH_IT if best == GAIN and faithful and contended else NOT_SHOWN


def is_ahead(rival: Rival, compared: int) -> bool:
    """Return whether a contender is better than the served model, allowing for the number `compared`: by Holm's
    correction, or, where the metric has no test, by its interval widened for as many (Bonferroni, by the normal
    distribution).
    """
    bounds = _telling(rival)
    if bounds is None:
        return False
    if rival.p is None:
        wider = norm.isf(ALPHA / 2 / compared) / norm.isf(ALPHA / 2)
        return bool(rival.gain + wider * (bounds[1] - rival.gain) < 0)
    return bounds[1] < 0 and rival.p_holm is not None and rival.p_holm < LIMIT


def judge(facts: Facts) -> Verdict:
    """Return the verdict with its reasons.

    What was advised and what was forgotten are told, and change no outcome: whether it matters that the model forgot
    depends on what else it is meant to do.
    """
    compared = len(facts.others) + (facts.best is not None)
    ahead = [rival for rival in facts.others if is_ahead(rival, compared)]
    outcome = settle(facts.best, facts.margin)
    beaten_by = min(ahead, key=lambda other: other.gain) if ahead and outcome != NO_GAIN else None
    rival = beaten_by or facts.best
    verdict = decide(outcome, bool(ahead), not facts.failed_gates, facts.contended)
    reasons = [
        _loss(facts),
        _why(facts, rival, NO_GAIN if beaten_by else outcome),
        _contended(facts, rival),
        _gates(facts),
        _one_training(facts, rival),
        _advice(facts, verdict),
        *(said for model, said in facts.context.items() if rival is None or model != rival.name),
        "What the model forgot was not measured." if facts.forgotten is None else "",
    ]
    return Verdict(
        verdict,
        facts.served,
        facts.metric,
        facts.split,
        best_contender=rival.name if rival else None,
        value=rival.value if rival else None,
        contender_value=rival.own_value if rival else None,
        difference=rival.gain if rival else None,
        interval=rival.interval if rival else None,
        p=(rival.p_holm if beaten_by else rival.p) if rival else None,
        margin=facts.margin,
        n=rival.rows if rival else 0,
        seeds=rival.seeds if rival else 0,
        minimum_detectable_effect=_detectable(rival) if rival else None,
        order=judge_order(facts.order, facts.no_order),
        forgotten=None if facts.forgotten is None else tuple(facts.forgotten),
        sentence=_sentence(facts, verdict, outcome, rival, beaten_by is not None),
        reasons=tuple(reason for reason in reasons if reason),
    )


def judge_order(trial: Trial | None, missing: str = NO_EXPERIMENT) -> Order:
    """Return whether the order helped; of one seed, or without an experiment, that is never shown. `missing`: why there
    is no experiment, or no primary comparison of it.
    """
    if trial is None:
        told = f"The order of the rows: {missing}"
        return Order(NOT_SHOWN, None, None, None, None, None, None, None, 0, 0, None, told)
    rival, margin = trial.rival, trial.margin
    unit = " nats a token" if trial.metric == "loss" else ""
    outcome = settle(rival, margin) if rival.seeds > 1 else OPEN
    interval = "no interval, since it has no spread"
    if rival.interval is not None:
        interval = f"95% interval {rival.interval[0]:+.3g} to {rival.interval[1]:+.3g}"
    said = (
        f"The order of the rows: {ORDERS[outcome]}. {trial.arm} is {_better(rival.gain)} than {rival.name} by "
        f"{abs(rival.gain):.3g}{unit} ({trial.metric} on {trial.split}; lead: {interval}{_p(rival.p)}; {_rows(rival)}, "
        f"{rival.seeds} seed{'s' if rival.seeds > 1 else ''})"
    )
    if rival.seeds == 1:
        said += ". One seed cannot tell the order from chance: train several."
    elif outcome == OPEN:
        said += f", which does not tell whether it helps by more than the margin of {margin:g}. {_plan(rival, margin)}"
    elif outcome == GAIN:
        said += f", more than the margin of {margin:g}."
    elif rival.equivalent:
        said += f": the two are equivalent within the margin of {margin:g}."
    else:
        said += f": even the upper end is not more than the margin of {margin:g}."
    return Order(
        ORDERS[outcome],
        trial.arm,
        rival.name,
        trial.metric,
        trial.split,
        rival.gain,
        rival.interval,
        margin,
        rival.rows,
        rival.seeds,
        _detectable(rival) if rival.seeds > 1 else None,
        said,
    )


def _rows(rival: Rival) -> str:
    return f"{rival.rows} rows" + ("" if rival.units == rival.rows else f" in {rival.units} groups")


def _better(gain: float) -> str:
    return "worse" if gain < 0 else "better"


# --- words


def _sentence(facts: Facts, verdict: str, outcome: str, rival: Rival | None, corrected: bool) -> str:
    """Return the verdict with effect, interval and n, and what the model has lost."""
    forgot = f" ⚠ It has forgotten what the base knew ({', '.join(facts.forgotten)})." if facts.forgotten else ""
    opening = f"{verdict[0].upper()}{verdict[1:]}:"
    if rival is None:
        return f"{opening} {facts.missing}{forgot}"
    mine, other, margin = percent(rival.value), percent(rival.own_value), _points(facts.margin)
    what = f" ({rival.what})" if rival.what else ""
    place = "" if corrected else f", the {'strongest cheap' if facts.contended else 'only'} alternative"
    low, high = rival.interval or (None, None)
    interval = f"95% interval {points(low)} to {points(high)}" if rival.interval else "no interval"
    holm = " after Holm's correction" if corrected and rival.p is not None else ""
    figures = (
        f"({facts.metric} on {_rows(rival)} of {facts.split}; difference {points(rival.gain)} points, {interval}"
        f"{_p(rival.p_holm if holm else rival.p)}{holm})"
    )
    if verdict == NOT_WORTH_IT and rival.interval is not None and rival.interval[1] < 0:
        said = f"use {rival.name} instead. It{what} does better than {facts.served}, {other} against {mine} {figures}"
    elif verdict == NOT_WORTH_IT:
        better = ", or better," if low is None or low < -facts.margin else ""
        said = f"{rival.name}{what} is as good as {facts.served}{better} to within the margin of {margin}"
        said += f": {other} against {mine} {figures}"
    elif outcome == GAIN:  # if it is not worth it, a gate failed, or there was nothing to beat
        but = f", but gates failed: {', '.join(facts.failed_gates)}" if facts.failed_gates else ""
        but = but or ("" if facts.contended else ", and to beat that proves little")
        said = f"{facts.served} beats {rival.name}{what}{place}, {mine} against {other} {figures}{but}"
    else:
        said = f"whether {facts.served} beats {rival.name}{what}{place}, by more than the margin of {margin} is open"
        said += f": {mine} against {other} {figures}"
    return f"{opening} {said}.{forgot}"


def _points(share: float) -> str:
    value = f"{100 * share:g}"
    return f"{value} point" if value == "1" else f"{value} points"


def _p(p: float | None) -> str:
    return "" if p is None else f", p = {p:.3g}"


def _why(facts: Facts, rival: Rival | None, outcome: str) -> str:
    if rival is None:
        return ""
    margin = f"the margin of {_points(facts.margin)}"
    if outcome == GAIN:
        return f"The lead is more than {margin}, and its interval above 0."
    if outcome == OPEN:
        more = "" if rival.components is None else " More rows: split.test_share, evaluate.max_rows."
        return f"These rows do not tell whether the lead is more than {margin}. {_plan(rival, facts.margin)}{more}"
    if rival.interval is not None and rival.interval[1] < 0:
        return "The whole interval is below 0."
    return f"Even the upper end of the interval is not more than {margin}."


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


def _loss(facts: Facts) -> str:
    return f"⚠ {facts.served} has forgotten: {'; '.join(facts.forgotten.values())}." if facts.forgotten else ""


def _one_training(facts: Facts, rival: Rival | None) -> str:
    if rival is None or rival.seeds > 1:
        return ""
    return f"This is of one training: it holds for the model {facts.served}, and another seed gives another model."


def _contended(facts: Facts, rival: Rival | None) -> str:
    if facts.contended or rival is None:
        return ""
    return (
        "No cheap alternative was asked but the untuned base, and to beat that proves little. Set contenders: true to "
        "ask them the same rows."
    )


def _gates(facts: Facts) -> str:
    if facts.failed_gates is None:
        return "Whether the served model is the trained one was not measured."
    if not facts.failed_gates:
        return ""
    return f"⚠ What is served is not what was trained: {', '.join(facts.failed_gates)} failed."


def _advice(facts: Facts, verdict: str) -> str:
    if facts.advice is None:
        return ""
    said = f"Before training, the advice was “{facts.advice}”"
    said += f": {facts.because}" if facts.because else "."
    if verdict == NOT_SHOWN:
        return f"{said} Whether that was right is not shown."
    right = (facts.advice == GO_ON) == (verdict == WORTH_IT)
    return f"{said} That was {'right' if right else 'wrong'}."
