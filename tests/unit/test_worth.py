"""The verdict follows its rules for every combination of facts, and says why."""

import json
from dataclasses import replace
from itertools import product

import pytest

from scripts.common.experiment_statistics import Components, compare_arms
from scripts.common.worth import (
    EXIT_CODES,
    GAIN,
    NO_GAIN,
    OPEN,
    Facts,
    Rival,
    decide,
    judge,
    of_arms,
    of_models,
    settle,
    to_settle,
)
from scripts.evaluate.compare import compare_values, values_of

MARGIN = 0.01


def rival(gain, low, high, name="linear", rows=400, seeds=1, **more):
    spread = Components(0.0 if seeds == 1 else 0.02**2, 0.25, 0.0 if seeds == 1 else 0.1**2)
    return Rival(name, gain, (low, high), rows, rows, seeds, spread, **more)


BETTER = rival(0.06, 0.02, 0.1)
AS_GOOD = rival(0.0, -0.008, 0.008)
WORSE = rival(-0.06, -0.1, -0.02)  # the served model is worse
UNCLEAR = rival(0.03, -0.02, 0.08)
AHEAD = rival(-0.05, -0.09, -0.01, "nearest", p_holm=0.01)
BEHIND = rival(0.2, 0.1, 0.3, "majority", p_holm=0.001)


def facts(best=BETTER, **more):
    return Facts(**{"served": "tuned", "metric": "exact", "best": best, "forgotten": (), "failed_gates": (), **more})


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


@pytest.mark.parametrize("n", [1, 3, 10])
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
    assert "p = 0.0625; 25 rows" in judge(facts(found)).reasons[0]
    assert settle(replace(found, p=0.049), MARGIN) == settle(replace(found, p=None), MARGIN) == GAIN


def test_arms_without_spread_are_not_shown():
    table = {arm: {seed: {str(n): 1.0 for n in range(30)} for seed in (1, 2)} for arm in ("curriculum", "random")}
    found = judge(facts(order=of_arms(compare_arms(table, "curriculum", "random")))).order
    assert (found.outcome, found.minimum_detectable_effect) == ("not shown", None)
    assert "no spread to plan with" in found.reason


@pytest.mark.parametrize("margin", [0, 0.01, 0.5])
def test_every_lead_has_one_outcome(margin):
    for gain, low, high in product((-0.6, -0.01, 0, 0.01, 0.02, 0.6), repeat=3):
        if low <= gain <= high and low < high:
            gains, as_good = gain > margin and low > 0, high <= margin
            assert not (gains and as_good)
            expected = GAIN if gains else NO_GAIN if as_good else OPEN
            assert settle(rival(gain, low, high), margin) == expected


# (best contender, another is better, gates hold): verdict
TABLE = {
    (GAIN, False, True): "worth it",
    (GAIN, False, False): "not shown",
    (GAIN, True, True): "not worth it",
    (GAIN, True, False): "not worth it",
    (NO_GAIN, False, True): "not worth it",
    (NO_GAIN, False, False): "not worth it",
    (NO_GAIN, True, True): "not worth it",
    (NO_GAIN, True, False): "not worth it",
    (OPEN, False, True): "not shown",
    (OPEN, False, False): "not shown",
    (OPEN, True, True): "not worth it",
    (OPEN, True, False): "not worth it",
}
CONTENDERS = {GAIN: [BETTER], NO_GAIN: [AS_GOOD, WORSE], OPEN: [UNCLEAR, None, replace(BETTER, interval=None)]}


@pytest.mark.parametrize("row", product((GAIN, NO_GAIN, OPEN), (False, True), (False, True)))
def test_every_combination_of_conditions_has_one_verdict(row):
    assert decide(*row) == TABLE[row]


@pytest.mark.parametrize(("row", "expected"), TABLE.items())
@pytest.mark.parametrize("forgotten", [None, (), ("arithmetic",)])
@pytest.mark.parametrize("advice", [None, "go on", "a linear model is enough"])
@pytest.mark.parametrize("order", [None, BETTER, WORSE])
def test_the_verdict_of_all_facts(row, expected, forgotten, advice, order):
    """What was forgotten, advised and shown of the order is told, and changes no outcome."""
    best, beaten, faithful = row
    for contender in CONTENDERS[best]:
        found = judge(
            facts(
                contender,
                others=(BEHIND, AHEAD) if beaten else (BEHIND,),
                failed_gates=() if faithful else ("quant.agreement",),
                forgotten=forgotten,
                advice=advice,
                order=order,
            )
        )
        assert found.verdict == expected
        text = " ".join(found.reasons)
        assert ("quant.agreement failed" in text) == (not faithful)
        assert ("The model forgot: arithmetic" in text) == bool(forgotten)
        assert ("was not measured" in text) == (forgotten is None)
        assert ("Before training" in text) == (advice is not None)
        assert (found.order is None) == (order is None)
        json.dumps(found.to_dict())


def test_exit_codes_tell_the_outcomes_apart():
    assert EXIT_CODES == {"worth it": 0, "not worth it": 10, "not shown": 11}
    assert set(EXIT_CODES) == set(TABLE.values())


def test_verdict_json():
    told = judge(facts(order=rival(0.03, 0.01, 0.05, "growing-random", seeds=8))).to_dict()
    assert list(told) == [
        "verdict", "primary_metric", "best_contender", "difference", "interval", "n", "seeds",
        "minimum_detectable_effect", "order", "reasons",
    ]  # fmt: skip
    assert (told["best_contender"], told["difference"], told["n"], told["seeds"]) == ("linear", 0.06, 400, 1)
    assert told["minimum_detectable_effect"] == pytest.approx(2.8 * 0.5 / 20, rel=0.01)
    assert (told["order"]["outcome"], told["order"]["control"]) == ("the order helped", "growing-random")
    assert told["reasons"][0] == (
        "tuned against linear: +0.06 of exact (95 % interval +0.02 to +0.1; 400 rows, 1 seed), more than the margin of 0.01."
    )


@pytest.mark.parametrize(
    ("best", "others", "name", "reason"),
    [
        (AS_GOOD, (), "linear", "linear is as good. tuned against linear: +0 of exact"),
        (WORSE, (), "linear", "linear is better. tuned against linear: -0.06"),
        (BETTER, (AHEAD,), "nearest", "nearest is better. tuned against nearest: -0.05"),
        (UNCLEAR, (AHEAD, replace(AHEAD, name="far", gain=-0.2)), "far", "far is better"),
        (WORSE, (AHEAD,), "linear", "linear is better"),  # the one that was chosen before training comes first
    ],
)
def test_what_is_not_worth_it_names_the_contender(best, others, name, reason):
    found = judge(facts(best, others=others))
    assert (found.verdict, found.best_contender) == ("not worth it", name)
    assert found.reasons[0].startswith(reason)


def test_another_contender_is_ahead_only_after_correction():
    assert judge(facts(others=(replace(AHEAD, p_holm=0.06),))).verdict == "worth it"
    assert judge(facts(others=(replace(AHEAD, p_holm=None),))).verdict == "worth it"


@pytest.mark.parametrize(
    ("gain", "effect"), [(0.05, 0.05), (0.0, 0.01), (0.005, 0.01), (0.0101, 0.0101), (-0.03, 0.04)]
)
def test_what_a_larger_trial_has_to_detect(gain, effect):
    assert to_settle(gain, MARGIN) == pytest.approx(effect)


def test_not_shown_says_what_it_would_take():
    found = judge(facts(UNCLEAR))
    # 0.03 of a standard deviation of 0.5: (1.96 + 0.84)² · 0.25 / 0.03², about 2,181 rows
    assert "would take about 2,183 rows like these." in found.reasons[0]
    assert "This is of one training" in found.reasons[1]
    several = judge(facts(rival(0.03, -0.02, 0.08, rows=2500, seeds=8)))
    assert "seeds or about" in several.reasons[0]
    assert len(several.reasons) == 1
    hopeless = judge(facts(rival(0.0, -0.5, 0.5, rows=20, seeds=2), margin=0.0001))
    assert "more of both seeds and rows than is practical" in hopeless.reasons[0]
    blank = judge(facts(Rival("linear", 0.0, None, 20, 20, 1, None)))
    assert "no interval, since the rows show no spread" in blank.reasons[0]
    assert blank.minimum_detectable_effect is None
    assert judge(facts(None)).reasons[0].startswith("No cheap alternative was compared with tuned")


@pytest.mark.parametrize(
    ("best", "advice", "said"),
    [
        (BETTER, "go on", "That was right."),
        (BETTER, "too few rows", "That was wrong."),
        (AS_GOOD, "go on", "That was wrong."),
        (AS_GOOD, "prompting is enough", "That was right."),
        (UNCLEAR, "go on", "Whether that was right is not shown."),
    ],
)
def test_whether_the_advice_was_right(best, advice, said):
    assert judge(facts(best, advice=advice)).reasons[-1].endswith(said)


@pytest.mark.parametrize(
    ("order", "outcome"),
    [
        (rival(0.03, 0.01, 0.05, seeds=8), "the order helped"),
        (rival(0.001, -0.005, 0.007, seeds=8), "the order did not help"),
        (rival(-0.03, -0.05, -0.01, seeds=8), "the order did not help"),
        (rival(0.03, -0.01, 0.07, seeds=3), "not shown"),
        (rival(0.03, 0.01, 0.05, seeds=1), "not shown"),  # one seed shows nothing about an arm
    ],
)
def test_the_order_is_judged_apart(order, outcome):
    found = judge(facts(WORSE, order=order))
    assert (found.verdict, found.order.outcome) == ("not worth it", outcome)
    assert ("One seed cannot tell the order from chance" in found.order.reason) == (order.seeds == 1)


def test_a_lower_loss_is_a_lead():
    table = {
        "random": {seed: {str(n): 2.0 + 0.01 * (n + seed) for n in range(8)} for seed in (1, 2, 3)},
        "curriculum": {seed: {str(n): 1.8 + 0.011 * (n + seed) for n in range(8)} for seed in (1, 2, 3)},
    }
    found = of_arms(compare_arms(table, "curriculum", "random"))
    assert (found.name, found.rows, found.units, found.seeds) == ("random", 8, 8, 3)
    low, high = found.interval
    assert 0 < low < found.gain < high
    assert 0 < found.p < 0.05
    up = of_arms(compare_arms(table, "curriculum", "random", higher_is_better=True))
    assert (up.gain, up.interval) == (pytest.approx(-found.gain), pytest.approx((-high, -low)))


def test_contenders_come_from_the_comparison_of_models():
    cell = {"n": 100, "difference": 0.1, "difference_interval": [0.0, 0.2], "p": 0.04, "p_holm": 0.08}
    found = of_models("linear", cell)
    assert (found.gain, found.interval, found.seeds, found.p, found.p_holm) == (0.1, (0.0, 0.2), 1, 0.04, 0.08)
    assert found.components.item == pytest.approx((0.2 / 3.92) ** 2 * 100, rel=1e-3)
    assert of_models("linear", {**cell, "difference_interval": None}).interval is None
    assert of_models("linear", {"n": 0, "difference": None, "difference_interval": None}) is None
