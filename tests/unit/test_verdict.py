"""The verdict follows its rules for every combination of facts, and says why."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from itertools import product

import pytest

from scripts.common.comparison import tell_apart
from scripts.common.experiment_statistics import Components, compare_arms
from scripts.common.hashing import ROOT, sha256_file
from scripts.common.io import write_json
from scripts.common.models import resolve
from scripts.common.verdict import (
    GAIN,
    NO_GAIN,
    OPEN,
    ORDERS,
    Facts,
    Rival,
    Trial,
    decide,
    is_ahead,
    judge,
    of_arms,
    of_models,
    settle,
    to_settle,
)
from scripts.evaluate.compare import compare_values, values_of
from scripts.report.show_verdict import EXIT_CODES, screen
from scripts.report.verdict import collect, lost

MARGIN = 0.01


def rival(gain, low, high, name="linear", rows=400, seeds=1, **more):
    spread = Components(0.0 if seeds == 1 else 0.02**2, 0.25, 0.0 if seeds == 1 else 0.1**2)
    values = {"own_value": 0.5, "value": 0.5 + gain}
    return Rival(name, gain, (low, high), rows, rows, seeds, spread, **{**values, **more})


BETTER = rival(0.06, 0.02, 0.1)
AS_GOOD = rival(0.0, -0.008, 0.008)
WORSE = rival(-0.06, -0.1, -0.02)  # the served model is worse
UNCLEAR = rival(0.03, -0.02, 0.08)
AHEAD = rival(-0.05, -0.09, -0.01, "nearest", p=0.005, p_holm=0.01)
BEHIND = rival(0.2, 0.1, 0.3, "majority", p=0.0001, p_holm=0.001)
FORGOT = {"facts": "facts 10.0% instead of 60.0%", "perplexity": "perplexity on general text 30 instead of 20"}


def facts(best=BETTER, **more):
    return Facts(**{"served": "tuned", "metric": "exact", "best": best, "forgotten": {}, "failed_gates": (), **more})


def trial(found, margin=MARGIN):
    return Trial("curriculum", "loss", "test", replace(found, name="growing-random"), margin)


# --- outcomes


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (BETTER, GAIN),
        (rival(0.011, 0.001, 0.021), GAIN),
        (rival(0.009, 0.001, 0.017), OPEN),  # above 0, but perhaps not above the margin
        (rival(0.005, 0.001, 0.009), NO_GAIN),  # above 0, and too little to matter
        (rival(0.06, -0.001, 0.121), OPEN),
        (rival(0.06, 0.0, 0.12), OPEN),  # above 0, not at it
        (AS_GOOD, NO_GAIN),
        (rival(0.0, -0.01, 0.01), NO_GAIN),
        (WORSE, NO_GAIN),
        (rival(-0.01, -0.05, 0.03), OPEN),
        (rival(0.0, -0.011, 0.011), OPEN),
        (rival(0.0, -0.011, 0.011, equivalent=True), NO_GAIN),  # the 90% interval of two arms is within the margin
        (replace(BETTER, interval=None), OPEN),
        (None, OPEN),
    ],
)
def test_a_lead_is_settled_by_the_margin_and_the_interval(found, expected):
    assert settle(found, MARGIN) == expected


def compared(first, other, binary=True):
    """The comparison of two models' values, as `of_models` takes it."""
    rows = ([{"id": str(n), "exact": value} for n, value in enumerate(values)] for values in (first, other))
    return of_models("linear", compare_values(*(values_of(list(values), "exact", binary) for values in rows)))


@pytest.mark.parametrize(
    ("first", "other", "binary"),
    [
        ([0.0], [1.0], True),  # p = 1
        ([0.1, 0.2, 0.1], [0.8, 0.9, 1.0], False),  # p = 0.25, and the bootstrap excludes 0
        ([0.2, 0.2, 0.2], [0.7, 0.7, 0.7], False),  # the interval has no width
        ([0.0] * 4 + [1.0] * 6, [1.0] * 10, True),  # 4 to 0, p = 0.125
        ([0.0] * 10, [1.0] * 10, True),  # p = 0.002, but of ten rows
        ([0.0] * 30, [0.5] * 30, False),  # the same on all rows
    ],
)
def test_few_rows_settle_nothing(first, other, binary):
    """Whichever of the two models is the better one."""
    for found in (compared(first, other, binary), compared(other, first, binary)):
        assert settle(found, MARGIN) == OPEN
        assert judge(facts(found)).verdict == "not shown"
        assert judge(facts(others=(replace(found, p_holm=0.01),))).verdict == "worth it"


@pytest.mark.parametrize("n", [1, 3, 10, 19])
def test_so_few_rows_tell_nothing_even_with_a_narrow_interval(n):
    assert settle(rival(0.06, 0.02, 0.1, rows=n), MARGIN) == OPEN
    assert settle(rival(0.0, -0.008, 0.008, rows=n), MARGIN) == OPEN
    assert "Fewer than 20 rows tell nothing; ask more." in judge(facts(rival(0.06, 0.02, 0.1, rows=n))).reasons[0]


def test_a_lead_needs_its_p_where_there_is_one():
    """Newcombe's interval of 5 to 0 of 25 rows excludes 0, McNemar's exact test does not."""
    found = compared([0.0] * 5 + [1.0] * 20, [1.0] * 25)
    assert found.interval[0] > 0
    assert found.p == 0.0625
    assert settle(found, MARGIN) == OPEN
    assert "25 rows of test; difference +20.0 points, " in judge(facts(found)).sentence
    assert ", p = 0.0625)" in judge(facts(found)).sentence
    assert settle(replace(found, p=0.049), MARGIN) == settle(replace(found, p=None), MARGIN) == GAIN


@pytest.mark.parametrize("margin", [0, 0.01, 0.5])
def test_every_lead_has_one_outcome(margin):
    for gain, low, high in product((-0.6, -0.01, 0, 0.01, 0.02, 0.6), repeat=3):
        if low <= gain <= high and low < high:
            gains, as_good = gain > margin and low > 0, high <= margin
            assert not (gains and as_good)
            expected = GAIN if gains else NO_GAIN if as_good else OPEN
            assert settle(rival(gain, low, high), margin) == expected


# (best contender, another is better, gates hold, more than the untuned base was asked): verdict
TABLE = {
    (GAIN, False, True, True): "worth it",
    (GAIN, False, True, False): "not shown",
    (GAIN, False, False, True): "not shown",
    (GAIN, False, False, False): "not shown",
    (GAIN, True, True, True): "not worth it",
    (GAIN, True, True, False): "not worth it",
    (GAIN, True, False, True): "not worth it",
    (GAIN, True, False, False): "not worth it",
    (NO_GAIN, False, True, True): "not worth it",
    (NO_GAIN, False, True, False): "not worth it",
    (NO_GAIN, False, False, True): "not worth it",
    (NO_GAIN, False, False, False): "not worth it",
    (NO_GAIN, True, True, True): "not worth it",
    (NO_GAIN, True, True, False): "not worth it",
    (NO_GAIN, True, False, True): "not worth it",
    (NO_GAIN, True, False, False): "not worth it",
    (OPEN, False, True, True): "not shown",
    (OPEN, False, True, False): "not shown",
    (OPEN, False, False, True): "not shown",
    (OPEN, False, False, False): "not shown",
    (OPEN, True, True, True): "not worth it",
    (OPEN, True, True, False): "not worth it",
    (OPEN, True, False, True): "not worth it",
    (OPEN, True, False, False): "not worth it",
}
CONTENDERS = {GAIN: [BETTER], NO_GAIN: [AS_GOOD, WORSE], OPEN: [UNCLEAR, None, replace(BETTER, interval=None)]}


def test_the_table_has_every_combination_of_conditions():
    assert set(TABLE) == set(product((GAIN, NO_GAIN, OPEN), *[(False, True)] * 3))
    assert {row: decide(*row) for row in TABLE} == TABLE


@pytest.mark.parametrize(("row", "expected"), TABLE.items())
def test_the_verdict_of_all_facts(row, expected):
    """What was forgotten, advised and shown of the order is told, and changes no outcome."""
    best, beaten, faithful, contended = row
    for contender, forgotten, advice, order in product(
        CONTENDERS[best], (None, {}, FORGOT), (None, "go on", "a linear model is enough"), (None, BETTER)
    ):
        found = judge(
            facts(
                contender,
                others=(BEHIND, AHEAD) if beaten else (BEHIND,),
                failed_gates=() if faithful else ("quant.agreement",),
                contended=contended,
                forgotten=forgotten,
                advice=advice,
                order=order and trial(replace(order, seeds=8)),
            )
        )
        assert found.verdict == expected
        assert found.sentence.lower().startswith(f"{expected}: ")
        text = " ".join(found.reasons)
        assert ("quant.agreement failed" in text) == (not faithful)
        assert ("proves little" in text) == (not contended and found.best_contender is not None)
        assert found.forgotten == (None if forgotten is None else tuple(forgotten))
        assert ("⚠ tuned has forgotten: facts 10.0% instead of 60.0%; perplexity" in text) == bool(forgotten)
        assert ("It has forgotten what the base knew (facts, perplexity)." in found.sentence) == bool(forgotten)
        assert ("was not measured" in text) == (forgotten is None)
        assert ("Before training" in text) == (advice is not None)
        assert (found.order.control is None) == (order is None)
        json.dumps(found.to_dict(), allow_nan=False)


def test_another_contender_is_ahead_only_after_correction():
    assert judge(facts(others=(AHEAD,))).verdict == "not worth it"
    assert judge(facts(others=(replace(AHEAD, p_holm=0.06),))).verdict == "worth it"
    assert judge(facts(others=(replace(AHEAD, p_holm=None),))).verdict == "worth it"
    assert judge(facts(None, others=(AHEAD,))).best_contender == "nearest"  # no validation row chose a best one


def test_without_a_test_the_interval_is_widened_for_the_number_of_contenders():
    """1.96 standard errors become 2.24 for two comparisons, and 2.81 for ten (Bonferroni)."""
    found = rival(-0.05, -0.09, -0.01, "nearest")  # a metric over all rows: -0.05 is 2.45 standard errors
    assert is_ahead(found, 2)
    assert not is_ahead(found, 10)
    assert judge(facts(others=(found,))).verdict == "not worth it"
    assert judge(facts(others=(found, *[BEHIND] * 8))).verdict == "worth it"


# --- what it says


def test_verdict_json():
    told = judge(facts(order=trial(rival(0.03, 0.01, 0.05, seeds=8, p=0.004)))).to_dict()
    assert list(told) == [
        "verdict", "served", "primary_metric", "split", "best_contender", "value", "contender_value", "difference",
        "interval", "p", "margin", "n", "seeds", "minimum_detectable_effect", "order", "forgotten", "sentence",
        "reasons",
    ]  # fmt: skip
    assert (told["best_contender"], told["difference"], told["interval"]) == ("linear", 0.06, [0.02, 0.1])
    assert (told["n"], told["seeds"], told["margin"], told["forgotten"]) == (400, 1, 0.01, [])
    assert told["minimum_detectable_effect"] == pytest.approx(2.8 * 0.5 / 20, rel=0.01)
    assert told["sentence"] == (
        "Worth it: tuned beats linear, the strongest cheap alternative, 56.0% against 50.0% (exact on 400 rows of "
        "test; difference +6.0 points, 95% interval +2.0 to +10.0)."
    )
    order = told["order"]
    assert (order["outcome"], order["control"], order["n"], order["seeds"]) == ("helped", "growing-random", 400, 8)
    assert order["reason"] == (
        "The order of the rows: helped. curriculum is better than growing-random by 0.03 nats a token (loss on test; "
        "lead: 95% interval +0.01 to +0.05, p = 0.004; 400 rows, 8 seeds), more than the margin of 0.01."
    )


@pytest.mark.parametrize(
    ("best", "others", "name", "said"),
    [
        (AS_GOOD, (), "linear", "linear is as good as tuned to within the margin of 1 point: 50.0% against 50.0%"),
        (rival(-0.01, -0.03, 0.0), (), "linear", "linear is as good as tuned, or better, to within the margin of"),
        (WORSE, (), "linear", "use linear instead. It does better than tuned, 50.0% against 44.0%"),
        (BETTER, (AHEAD,), "nearest", "use nearest instead. It does better than tuned"),
        (UNCLEAR, (AHEAD, replace(AHEAD, name="far", gain=-0.2)), "far", "use far instead."),
        (WORSE, (AHEAD,), "linear", "use linear instead."),  # the one that was chosen before training comes first
    ],
)
def test_what_is_not_worth_it_names_the_contender(best, others, name, said):
    found = judge(facts(best, others=others))
    assert (found.verdict, found.best_contender) == ("not worth it", name)
    assert found.sentence.startswith(f"Not worth it: {said}")
    assert ("p = 0.01 after Holm's correction" in found.sentence) == (name in ("nearest", "far"))
    assert found.p == (0.01 if name in ("nearest", "far") else None)


@pytest.mark.parametrize(
    ("gain", "effect"), [(0.05, 0.05), (0.0, 0.01), (0.005, 0.01), (0.0101, 0.0101), (-0.03, 0.04)]
)
def test_what_a_larger_trial_has_to_detect(gain, effect):
    assert to_settle(gain, MARGIN) == pytest.approx(effect)


def test_not_shown_says_what_it_would_take():
    found = judge(facts(UNCLEAR))
    assert found.sentence.startswith(
        "Not shown: whether tuned beats linear, the strongest cheap alternative, by more than the margin of 1 point is open: "
        "53.0% against 50.0%"
    )
    # 0.03 of a standard deviation of 0.5: (1.96 + 0.84)² · 0.25 / 0.03², about 2,181 rows
    assert "would take about 2,183 rows like these." in found.reasons[0]
    assert "This is of one training" in found.reasons[1]
    several = judge(facts(rival(0.03, -0.02, 0.08, rows=2500, seeds=8)))
    assert "seeds or about" in several.reasons[0]
    assert len(several.reasons) == 1
    hopeless = judge(facts(rival(0.0, -0.5, 0.5, rows=20, seeds=2), margin=0.0001))
    assert "more of both seeds and rows than is practical" in hopeless.reasons[0]
    blank = judge(facts(Rival("linear", 0.0, None, 20, 20, 1, None, value=1.0, own_value=1.0)))
    assert "difference +0.0 points, no interval)" in blank.sentence
    assert "no spread to plan with" in blank.reasons[0]
    assert blank.minimum_detectable_effect is None
    nothing = judge(facts(None))
    assert nothing.sentence == "Not shown: no cheap alternative was asked."
    assert (nothing.best_contender, nothing.n, nothing.seeds) == (None, 0, 0)


def test_a_lead_that_is_not_enough_says_why():
    assert judge(facts(failed_gates=("quant.mean_kl (tuned/quantization)",))).sentence.endswith(
        "+10.0), but gates failed: quant.mean_kl (tuned/quantization)."
    )
    told = judge(facts(replace(BETTER, name="base", what="the untuned base"), contended=False))
    assert told.sentence.startswith("Not shown: tuned beats base (the untuned base), the only alternative, 56.0%")
    assert told.sentence.endswith("+10.0), and to beat that proves little.")
    assert "Set contenders: true" in " ".join(told.reasons)


@pytest.mark.parametrize(
    ("best", "advice", "said"),
    [
        (BETTER, "go on", "That was right."),
        (BETTER, "too few rows", "That was wrong."),
        (AS_GOOD, "go on", "That was wrong."),
        (AS_GOOD, "prompting is enough", "That was right."),
        (UNCLEAR, "go on", "Whether that was right is not shown."),
        (UNCLEAR, "too few rows", "Whether that was right is not shown."),
    ],
)
def test_whether_the_advice_was_right(best, advice, said):
    found = judge(facts(best, advice=advice, because="a: few rows."))
    assert found.reasons[-1] == f"Before training, the advice was “{advice}”: a: few rows. {said}"


# --- the order


@pytest.mark.parametrize(
    ("order", "outcome", "said"),
    [
        (rival(0.03, 0.01, 0.05, seeds=8), "helped", "more than the margin of 0.01."),
        (rival(0.001, -0.005, 0.007, seeds=8), "did not help", "even the upper end is not more than the margin"),
        (rival(0.0, -0.011, 0.011, seeds=8, equivalent=True), "did not help", "equivalent within the margin of 0.01"),
        (rival(-0.03, -0.05, -0.01, seeds=8), "did not help", "curriculum is worse than growing-random by 0.03 nats"),
        (rival(0.03, -0.01, 0.07, seeds=3), "not shown", "To settle it in 4 of 5 trials"),
        (rival(0.03, 0.01, 0.05, seeds=1), "not shown", "One seed cannot tell the order from chance: train several."),
        (rival(0.03, 0.01, 0.05, rows=12, seeds=8), "not shown", "Fewer than 20 rows tell nothing"),
    ],
)
def test_the_order_is_judged_apart(order, outcome, said):
    found = judge(facts(WORSE, order=trial(order)))
    assert (found.verdict, found.order.outcome) == ("not worth it", outcome)
    assert said in found.order.reason
    assert found.order.reason.startswith(f"The order of the rows: {outcome}. ")
    assert outcome in ORDERS.values()


def test_without_an_experiment_only_that_is_said():
    order = judge(facts()).order
    assert order.reason == "The order of the rows: no experiment was made, so nothing is known about it."
    assert (order.outcome, order.difference, order.seeds) == ("not shown", None, 0)


def test_the_order_has_the_experiment_s_own_margin():
    order = rival(0.03, 0.01, 0.05, seeds=8)
    assert judge(facts(order=trial(order, 0.04), margin=0.01)).order.outcome == "not shown"
    assert judge(facts(order=trial(order, 0.06), margin=0.01)).order.outcome == "did not help"


def table(lead=0.2, items=30, seeds=(1, 2, 3)):
    """Losses of two arms: the curriculum's are lower by `lead`, a little more on later items."""
    return {
        "random": {seed: {str(n): 2.0 + 0.01 * (n + seed) for n in range(items)} for seed in seeds},
        "curriculum": {seed: {str(n): 2.0 - lead + 0.011 * (n + seed) for n in range(items)} for seed in seeds},
    }


def test_a_lower_loss_is_a_lead():
    found = compare_arms(table(items=8), "curriculum", "random")
    down, up = (of_arms(replace(found, higher_is_better=better).to_dict()) for better in (False, True))
    assert (down.name, down.rows, down.units, down.seeds) == ("random", 8, 8, 3)
    low, high = down.interval
    assert 0 < low < down.gain < high
    assert 0 < down.p < 0.05
    assert (up.gain, up.interval) == (-down.gain, (-high, -low))


def test_arms_without_spread_are_not_shown():
    same = {arm: {seed: {str(n): 1.0 for n in range(30)} for seed in (1, 2)} for arm in ("curriculum", "random")}
    found = judge(facts(order=trial(of_arms(compare_arms(same, "curriculum", "random").to_dict())))).order
    assert (found.outcome, found.minimum_detectable_effect) == ("not shown", None)
    assert "no spread to plan with" in found.reason


def test_contenders_come_from_the_comparison_of_models():
    cell = {"n": 100, "difference": 0.1, "difference_interval": [0.0, 0.2], "p": 0.04, "p_holm": 0.08}
    cell |= {"value": 0.6, "first_value": 0.5}
    found = of_models("linear", cell)
    assert (found.gain, found.interval, found.seeds, found.p, found.p_holm) == (0.1, (0.0, 0.2), 1, 0.04, 0.08)
    assert (found.value, found.own_value) == (0.6, 0.5)
    assert found.components.item == pytest.approx((0.2 / 3.92) ** 2 * 100, rel=1e-3)
    assert of_models("linear", {**cell, "difference_interval": None}).interval is None
    assert of_models("linear", {"n": 0, "difference": None, "difference_interval": None}) is None


# --- the facts, from a run's files

SPLITS = ["test", "eval-hard", "eval-unseen"]
ONE = {"base": {}, "tuned": {"trained": {"arm": "curriculum", "seed": 1}}}
MORE = {
    **ONE,
    "few-shot": {"examples": {"count": 4, "choose": "nearest"}},
    "linear": {"linear": {}},
    "tuned-schema": {"trained": {"arm": "curriculum", "seed": 1}, "constrained": "schema"},
    "larger": {"endpoint": {"url": "http://localhost", "model": "m"}},
}
GO_ON = {"advice": "go on", "because": "`linear` is not enough."}
PASSED = {"gates": [{"name": "quant.mean_kl", "check": "tuned/quantization", "passed": True}]}


def cell(first=0.1, value=0.3, low=0.05, high=0.35, p=0.01, n=100, holm=None):
    """A comparison of the served model (`value`) with another one (`first`)."""
    if not n:
        names = ("first_value", "value", "interval", "difference", "difference_interval", "p", "p_holm")
        return {**dict.fromkeys(names), "n": 0}
    tests = {"p": p, "p_holm": p if holm is None else holm, "right": round(value * n), "first_right": round(first * n)}
    between = {"difference": round(value - first, 6), "difference_interval": [low, high], "interval": [0.1, 0.6]}
    return {"n": n, "first_value": first, "value": value, **between, **tests}


LEAD, LOSS = cell(), cell(first=0.9, low=-0.8, high=-0.3)
EVEN = cell(low=-0.1, high=0.4, p=0.3)


def verdict_of(entries=MORE, strongest="linear", pairs=None, empty=(), whole=None, **more):
    """The verdict of a run whose comparisons are LEAD, but for `pairs`; splits in `empty` have no rows. `whole`: what
    the served model reaches on all rows.
    """
    models = [model.describe() for model in resolve(entries).values()]
    names = [model["name"] for model in models]
    found = {
        name: {split: {"exact": cell(n=0) if split in empty else (pairs or {}).get(name, LEAD)} for split in SPLITS}
        for name in names
    }
    metrics = {name: {split: {"exact": {"n": 0 if split in empty else 100}} for split in SPLITS} for name in names}
    comparison = {
        "first": "base",
        "headline": "exact",
        "models": found,
        "served": {"model": "tuned", "strongest": strongest, "models": found},
        "intervals": {"tuned": {"test": {"exact": [0.25, 0.45]}}},
    }
    metrics["tuned"]["test"]["exact"] |= whole or {}
    given = {"advice": GO_ON, "fidelity": PASSED, "splits": SPLITS, "margin": MARGIN, **more}
    return judge(collect(models, metrics, comparison, **given))


def test_the_served_models_value_on_all_rows_is_told_if_its_contender_was_asked_fewer():
    said = (
        "On all 300 rows of test, tuned gets 35.0% (exact; 95% interval 25.0% to 45.0%). linear was asked 100 of them."
    )
    assert said in verdict_of(whole={"n": 300, "value": 0.35}).reasons
    assert not any("On all" in reason for reason in verdict_of().reasons)


@pytest.mark.parametrize(
    ("strongest", "pairs", "verdict", "contender"),
    [
        ("linear", {}, "worth it", "linear"),
        ("linear", {"linear": LOSS}, "not worth it", "linear"),
        ("linear", {"linear": EVEN}, "not shown", "linear"),
        ("base", {"base": EVEN}, "not shown", "base"),  # a contender like all
        # another contender is better than the served model
        ("linear", {"few-shot": LOSS}, "not worth it", "few-shot"),
        ("linear", {"linear": EVEN, "few-shot": LOSS}, "not worth it", "few-shot"),
        (None, {"few-shot": LOSS}, "not worth it", "few-shot"),
        # but not after the correction
        ("linear", {"few-shot": {**LOSS, "p_holm": 0.06}}, "worth it", "linear"),
        ("linear", {"linear": {**LOSS, "p_holm": 0.06}}, "not worth it", "linear"),  # one comparison needs none
        # neither a trained model nor one behind an API is a cheap alternative
        ("linear", {"larger": LOSS}, "worth it", "linear"),
        ("linear", {"tuned-schema": LOSS}, "worth it", "linear"),
        (None, {}, "not shown", None),
        ("linear", {"linear": cell(n=0)}, "not shown", None),  # its rows do not count
    ],
)
def test_the_verdict_is_over_the_strongest_contender(strongest, pairs, verdict, contender):
    found = verdict_of(strongest=strongest, pairs=pairs)
    assert (found.verdict, found.best_contender, found.split) == (verdict, contender, "test")


def test_a_contender_is_described_and_the_base_is_named_once():
    told = verdict_of(pairs={"linear": LOSS})
    assert told.sentence == (
        "Not worth it: use linear instead. It (a linear model) does better than tuned, 90.0% against 30.0% (exact on "
        "100 rows of test; difference -60.0 points, 95% interval -80.0 to -30.0, p = 0.01)."
    )
    assert "tuned answers 30 of 100 held-out requests of test correctly" in " ".join(told.reasons)
    told = verdict_of(strongest="base")
    assert told.sentence.startswith("Worth it: tuned beats base (the untuned base), the strongest cheap alternative")
    assert "base" not in " ".join(told.reasons)


def test_the_untuned_base_alone_is_no_contender_but_may_be_as_good():
    told = verdict_of(ONE, "base")
    assert (told.verdict, told.best_contender) == ("not shown", "base")
    assert "Set contenders: true to ask them the same rows." in " ".join(told.reasons)
    told = verdict_of(ONE, "base", {"base": LOSS})
    assert (told.verdict, told.best_contender) == ("not worth it", "base")
    told = verdict_of({**ONE, "larger": MORE["larger"]}, "base")
    assert told.verdict == "not shown"
    told = verdict_of(ONE, None)
    assert (
        told.sentence == "Not shown: no cheap alternative was compared. Set contenders: true to ask them the same rows."
    )


def test_the_verdict_is_of_the_first_split_that_has_rows():
    assert verdict_of(empty=["test"]).split == "eval-hard"
    told = verdict_of(empty=SPLITS)
    assert (told.verdict, told.split) == ("not shown", None)
    assert told.sentence == "Not shown: no model was asked, since none of the splits has rows."
    assert "no validation row says which" in verdict_of(strongest=None).sentence


def test_what_an_endpoint_reaches_is_said_apart():
    told = verdict_of(pairs={"larger": LOSS})
    assert told.verdict == "worth it"
    assert "tuned is not as good as larger (a model behind an API): 30.0% against 90.0%." in told.reasons


def test_gates_advice_and_margin_reach_the_verdict():
    gate = {"name": "quant.mean_kl", "check": "tuned/quantization"}
    told = verdict_of(fidelity={"gates": [{**gate, "passed": False}, {**gate, "name": "x", "passed": None}]})
    assert told.verdict == "not shown"
    assert "quant.mean_kl (tuned/quantization) failed." in " ".join(told.reasons)
    assert "Before training, the advice was “go on”: linear is not enough. That was right." in verdict_of().reasons
    assert verdict_of(margin=0.3).verdict == "not shown"
    assert verdict_of(margin=0.4).verdict == "not worth it"


def test_what_was_forgotten_reaches_the_verdict():
    kept = {"dropped": False, "value": 0.6, "base_value": 0.6}
    gone = {"dropped": True, "value": 0.4, "base_value": 0.7, "difference": -0.3, "difference_interval": [-0.4, -0.2]}
    text = {"value": 12.8, "base_value": 8.2, "ratio": 1.57, "ratio_interval": [1.4, 1.7], "rose": True}
    measured = {"kinds": {"copying": kept, "facts": gone}, "overall": gone, "perplexity": text}
    told = verdict_of(forgetting={"base": "base", "models": {"tuned": measured}})
    assert (told.verdict, told.forgotten) == ("worth it", ("facts", "overall", "perplexity"))
    assert told.reasons[0] == (
        "⚠ tuned has forgotten: facts 40.0% instead of 70.0%; of all questions outside the task 40.0% instead of "
        "70.0% (difference -30.0 points, 95% interval -40.0 to -20.0); perplexity on general text 12.8 instead of 8.2 "
        "(times 1.57, 95% interval 1.40 to 1.70)."
    )
    assert verdict_of().forgotten is None
    assert lost({"models": {"tuned": {**measured, "overall": None, "kinds": {}}}}, "tuned").keys() == {"perplexity"}
    assert lost({"models": {}}, "tuned") is None


def test_the_order_comes_from_the_experiment_s_primary_comparison():
    found = compare_arms(table(), "curriculum", "random").to_dict()
    effects = {"primary": {**found, "metric": "loss", "split": "test", "variant": "main", "primary": True}}
    told = verdict_of(effects=effects).order
    assert (told.outcome, told.arm, told.control, told.seeds, told.n) == ("helped", "curriculum", "random", 3, 30)
    assert verdict_of(effects={"primary": None}).order.reason.startswith(
        "The order of the rows: the experiment has no primary comparison"
    )


@pytest.mark.parametrize(
    ("pair", "outcome"),
    [
        (LEAD, "better"),
        (LOSS, "worse"),
        (EVEN, "even"),
        (cell(p=0.06), "even"),  # the interval and the test must agree
        (cell(low=0.0), "even"),
        (cell(first=0.9, high=0.0, low=-0.8), "even"),
        (cell(n=0), "even"),
        ({**LEAD, "p": None}, "even"),
        ({**LEAD, "difference_interval": None}, "even"),
    ],
)
def test_two_models_are_told_apart_only_if_the_rows_show_it(pair, outcome):
    assert tell_apart(pair) == outcome


# --- the command


def finish(folder, told):
    """Lay out what the command reads of a finished run."""
    write_json(folder / "verdict.json", told.to_dict())
    made = {f"results/{folder.name}/verdict.json": {"sha256": sha256_file(folder / "verdict.json")}}
    write_json(folder / "manifest.json", {"run": folder.name, "artifacts": made})
    return folder


def ask(folder, *command):
    done = subprocess.run(
        [*(command or (sys.executable, "-m", "scripts.report.show_verdict")), str(folder)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def test_exit_codes_tell_the_outcomes_apart():
    assert EXIT_CODES == {"worth it": 0, "not worth it": 10, "not shown": 11}
    assert set(EXIT_CODES) == set(TABLE.values())


@pytest.mark.parametrize(("best", "code"), [(BETTER, 0), (WORSE, 10), (UNCLEAR, 11)])
def test_the_command_prints_one_screen(tmp_path, best, code):
    told = judge(facts(best, forgotten=FORGOT, advice="go on"))
    found, text, errors = ask(finish(tmp_path / "mine", told))
    assert (found, errors) == (code, "")
    assert text == screen(told.to_dict()) + "\n"
    assert len(text.splitlines()) <= 40
    assert max(map(len, text.splitlines())) <= 100
    assert text.replace("\n", " ").startswith(told.sentence)
    assert "minimum_detectable_effect" in text
    assert "no experiment was made" in text


def test_a_run_that_is_missing_or_not_finished_is_another_error(tmp_path):
    finish(tmp_path / "mine", judge(facts()))
    code, text, errors = ask(tmp_path / "other")
    assert (code, text) == (2, "")
    assert "other: no such run; finished ones in" in errors
    assert "mine" in errors
    changed = shutil.copytree(tmp_path / "mine", tmp_path / "changed")
    write_json(changed / "verdict.json", judge(facts(WORSE)).to_dict())
    code, text, errors = ask(changed)
    assert (code, text) == (2, "")
    assert "changed/verdict.json was changed after the run finished" in errors
    assert "Delete it and run `make RUN=changed`, which makes it again" in errors
    failed = shutil.copytree(tmp_path / "mine", tmp_path / "failed")
    write_json(failed / "fidelity" / "failed.json", {})
    code, _, errors = ask(failed)
    assert code == 2
    assert "a gate failed" in errors
    (tmp_path / "mine" / "manifest.json").unlink()
    code, _, errors = ask(tmp_path / "mine")
    assert code == 2
    assert "the run is not finished; finish it with `make RUN=mine`" in errors
