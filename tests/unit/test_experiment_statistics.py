"""Two arms compared over seeds and rows: held against other packages, and against data whose truth is known."""

import json
import math

import numpy as np
import pandas
import pytest
from scipy.stats import binom, bootstrap
from statsmodels.regression.linear_model import OLS
from statsmodels.regression.mixed_linear_model import MixedLM
from statsmodels.stats.contingency_tables import mcnemar as statsmodels_mcnemar
from statsmodels.stats.multitest import multipletests

from scripts.bench.calibration import WORLDS, World, draw, hold
from scripts.common.errors import GradusError
from scripts.common.experiment_statistics import (
    Components,
    compare_arms,
    components_of,
    correct,
    crossed_bootstrap,
    crossed_t,
    detectable,
    needed_items,
    needed_seeds,
    power,
    resampled_means,
    seeds_t,
    standard_error,
    sum_clusters,
)
from scripts.common.statistics import holm, linearize, mcnemar


def crossed(seeds=6, items=15, seed=0.3, item=0.5, rest=0.4, mean=0.2, number=1):
    """Differences (seeds, items)."""
    rng = np.random.default_rng(number)
    return (
        mean
        + seed * rng.normal(size=(seeds, 1))
        + item * rng.normal(size=(1, items))
        + rest * rng.normal(size=(seeds, items))
    )


def table_of(differences, control=2.0, **more):
    """The table of two arms with these differences; seeds from 1, items a0, a1, …"""
    seeds, items = differences.shape
    base = np.random.default_rng(9).normal(control, 0.5, items)  # rows differ much, in both arms alike
    return {
        "random": {s + 1: {f"a{i}": base[i] for i in range(items)} for s in range(seeds)},
        "curriculum": {s + 1: {f"a{i}": base[i] + differences[s, i] for i in range(items)} for s in range(seeds)},
        **more,
    }


def long(differences):
    seeds, items = differences.shape
    return pandas.DataFrame(
        {"value": differences.ravel(), "seed": np.repeat(range(seeds), items), "item": np.tile(range(items), seeds)}
    )


# --- against other packages


def test_the_standard_error_is_that_of_a_mixed_model_with_crossed_effects():
    differences = crossed()
    parts = {"seed": "0 + C(seed)", "item": "0 + C(item)"}
    rows = long(differences)
    model = MixedLM.from_formula("value ~ 1", rows, groups=np.ones(len(rows)), vc_formula=parts, re_formula="0")
    fitted = model.fit(reml=True)
    spread = components_of(differences)
    assert standard_error(spread, 6, 15)[0] == pytest.approx(fitted.bse["Intercept"], rel=1e-3)
    assert sorted([spread.seed, spread.item]) == pytest.approx(sorted(fitted.vcomp), rel=1e-2)
    assert spread.rest == pytest.approx(fitted.scale, rel=1e-2)


def test_the_bootstraps_variance_follows_from_two_way_clustered_errors():
    """Resampling both factors has the variance of two-way clustering (Cameron, Gelbach and Miller 2011) without
    subtracting the part that both ways share, and once more that of the rest (Owen 2007, section 3).
    """
    differences = crossed()
    rows = long(differences)
    clustered = OLS(rows["value"], np.ones(len(rows))).fit(
        cov_type="cluster", cov_kwds={"groups": rows[["seed", "item"]].to_numpy(), "use_correction": False}
    )
    additive = OLS.from_formula("value ~ C(seed) + C(item)", rows).fit()
    expected = clustered.cov_params().iloc[0, 0] + (clustered.ssr + additive.ssr) / len(rows) ** 2
    assert resampled_means(differences, np.ones(15), 9999).var() == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize("axis", [0, 1])
def test_if_only_one_factor_differs_it_is_the_ordinary_bootstrap(axis):
    values = crossed(12, 12)[0]
    table = np.repeat(np.expand_dims(values, 1 - axis), 12, axis=1 - axis)
    expected = bootstrap((values,), np.mean, method="percentile", n_resamples=9999, rng=1).confidence_interval
    found = crossed_bootstrap(table, np.ones(12))
    assert found == pytest.approx([expected.low, expected.high], abs=0.05 * (expected.high - expected.low))


def test_without_row_effects_the_interval_is_the_paired_t_interval():
    differences = np.repeat(crossed(8, 1), 20, axis=1)
    assert crossed_t(differences) == pytest.approx(seeds_t(differences, np.ones(20)))


def test_mcnemar_and_holm_are_those_of_statsmodels():
    assert mcnemar(3, 12) == pytest.approx(statsmodels_mcnemar([[40, 3], [12, 20]], exact=True).pvalue)
    p = {"a": 0.012, "b": 0.2, "c": 0.011, "d": 0.04}
    assert list(holm(p).values()) == pytest.approx(multipletests(list(p.values()), method="holm")[1])


# --- clusters


def test_rows_that_hang_together_are_resampled_whole():
    """Ten groups of identical rows say as much as ten rows."""
    ten = crossed(12, 10, seed=0.01, item=0.5, rest=0.1)
    copied = np.repeat(ten, 8, axis=1)
    groups = {f"a{i}": f"g{i // 8}" for i in range(80)}
    one = compare_arms(table_of(ten), "curriculum", "random", margin=0.4)
    whole = compare_arms(table_of(copied), "curriculum", "random", groups, margin=0.4)
    assert (whole.items, whole.clusters, one.clusters) == (80, 10, 10)
    assert whole.interval == pytest.approx(one.interval)
    assert whole.bootstrap == pytest.approx(one.bootstrap)
    assert whole.items_needed == 8 * one.items_needed
    split = compare_arms(table_of(copied), "curriculum", "random")  # as if they were 80 rows of their own
    assert np.ptp(split.interval) < 0.5 * np.ptp(whole.interval)


def test_groups_of_different_sizes_count_by_their_rows():
    differences = crossed(4, 9)
    sums, sizes = sum_clusters(differences, np.array([0, 0, 0, 0, 0, 1, 1, 2, 3]))
    assert sizes.tolist() == [5, 2, 1, 1]
    assert linearize(sums, sizes).mean() == pytest.approx(differences.mean())
    assert resampled_means(sums, sizes, 4000).mean() == pytest.approx(differences.mean(), abs=0.05)
    low, high = crossed_bootstrap(sums, sizes)
    assert low < differences.mean() < high


# --- against data whose truth is known


def allowed(share, draws, error=1e-4):
    """The counts out of `draws` that a true share makes likely."""
    return binom.ppf(error / 2, draws, share), binom.ppf(1 - error / 2, draws, share)


@pytest.mark.parametrize("truth", [0.0, 0.02])
@pytest.mark.parametrize("world", WORLDS, ids=lambda world: world.name)
def test_the_interval_holds_the_truth_in_95_of_100_experiments(world, truth):
    low, high = allowed(0.95, 1000)
    held = hold(world, truth, 8, 50, 1000, resamples=2)["interval"]
    assert held >= low
    assert held <= high or world.name in ("neither differs", "right or wrong")  # too wide, if anything


def test_each_interval_fails_where_the_docs_say_so():
    seeds, rows = World("", 0.03, 0.02, 0.05), World("", 0.002, 0.15, 0.1)
    few = hold(seeds, 0, 3, 50, 500, resamples=999)
    assert few["bootstrap"] < allowed(0.9, 500)[0]  # three seeds are too few for a bootstrap
    assert few["seeds_t"] >= allowed(0.95, 500)[0]
    fixed = hold(rows, 0, 8, 50, 500, resamples=999)
    assert fixed["seeds_t"] < allowed(0.8, 500)[0]  # it takes the rows for the only ones there are
    assert fixed["bootstrap"] >= allowed(0.93, 500)[0]
    together = World("", 0.002, 0.15, 0.1, together=5)
    differences, _ = draw(together, 0, 8, 50, 500, np.random.default_rng(1))
    low, high = crossed_t(differences)  # groups ignored
    assert ((low <= 0) & (0 <= high)).sum() < allowed(0.85, 500)[0]


def test_the_minimum_detectable_effect_is_found_four_times_in_five():
    world = World("", 0.02, 0.05, 0.1)
    spread = Components(world.seed**2, world.item**2, world.rest**2)
    effect = detectable(spread, 8, 100)
    differences, _ = draw(world, effect, 8, 100, 1000, np.random.default_rng(1))
    low, _ = crossed_t(differences)
    assert (low > 0).mean() == pytest.approx(0.8, abs=0.06)
    assert power(spread, 8, 100, effect) == pytest.approx(0.8, abs=1e-3)


# --- planning


@pytest.mark.parametrize(("seeds", "expected"), [(6, 1.43), (8, 1.15), (10, 1.00), (16, 0.75), (20, 0.66)])
def test_the_minimum_detectable_effect_of_so_many_seeds(seeds, expected):
    # in standard deviations; paired t test, 80% power, 5% two-sided
    assert detectable(Components(1.0, 0.0, 0.0), seeds, 100) == pytest.approx(expected, abs=0.01)


def test_of_one_pair_of_models_it_is_the_rows_that_decide():
    # 787 pairs for a tenth of a standard deviation (Cohen 1988, table 2.4.1, for a one-sample test)
    assert needed_items(Components(0.0, 1.0, 0.0), 1, 0.1) == pytest.approx(787, abs=3)


def test_a_plan_is_the_smallest_that_detects_the_effect():
    spread = Components(0.02**2, 0.05**2, 0.1**2)
    seeds, items = needed_seeds(spread, 200, 0.02), needed_items(spread, 12, 0.02)
    assert power(spread, seeds, 200, 0.02) >= 0.8 > power(spread, seeds - 1, 200, 0.02)
    assert power(spread, 12, items, 0.02) >= 0.8 > power(spread, 12, items - 1, 0.02)
    assert needed_seeds(spread, 10, 0.02) is None  # no number of seeds makes up for ten rows
    assert needed_items(spread, 3, 0.005) is None


# --- a comparison


def test_a_comparison_says_all_that_a_table_needs():
    found = compare_arms(table_of(crossed(mean=-0.8)), "curriculum", "random", margin=0.05)
    assert found.difference == pytest.approx(found.value - found.control_value)
    assert found.seed_sd == pytest.approx(crossed(mean=-0.8).mean(axis=1).std(ddof=1))
    for low, high in (found.interval, found.bootstrap, found.seeds_t):
        assert low < found.difference < high < 0
    assert found.p < 0.05
    assert not found.equivalent
    assert found.tost_p > 0.9
    told = json.loads(json.dumps(found.to_dict()))
    assert (told["seeds"], told["items"], told["clusters"], told["p_holm"]) == (6, 15, 15, None)
    assert set(told["components"]) == {"seed", "item", "rest"}
    assert told["interval"] == pytest.approx(found.interval, rel=1e-5)


def test_p_is_below_5_percent_where_the_interval_excludes_0():
    decided = []
    for number in range(40):
        found = compare_arms(table_of(crossed(mean=0.25, number=number)), "curriculum", "random")
        assert (found.p < 0.05) == (found.interval[0] > 0 or found.interval[1] < 0)
        decided.append(found.p < 0.05)
    assert 0 < sum(decided) < 40


def test_equivalence_is_the_interval_within_the_margin():
    small = crossed(8, 100, 0.001, 0.01, 0.02, mean=0.001)
    found = compare_arms(table_of(small), "curriculum", "random", margin=0.01)
    assert found.equivalent
    assert found.tost_p < 0.05
    narrow = compare_arms(table_of(small), "curriculum", "random", margin=0.001)
    assert not narrow.equivalent
    assert narrow.tost_p > 0.05


def test_the_same_table_gives_the_same_digits_in_any_order():
    table = table_of(crossed())
    turned = {arm: {s: dict(reversed(row.items())) for s, row in reversed(by.items())} for arm, by in table.items()}
    assert compare_arms(table, "curriculum", "random") == compare_arms(turned, "curriculum", "random")


def test_arms_that_are_the_same_have_no_interval():
    found = compare_arms(table_of(np.zeros((4, 6))), "curriculum", "random")
    assert (found.difference, found.interval, found.bootstrap, found.p, found.equivalent) == (
        0,
        None,
        None,
        None,
        False,
    )
    shifted = compare_arms(table_of(np.full((4, 6), 0.1)), "curriculum", "random")  # up to rounding
    assert (shifted.interval, shifted.tost_p) == (None, None)


def test_changes_that_cancel_within_each_group_are_no_spread():
    """As where accuracy is near 1 and a seed gets the one row of a group right, and its arm the other."""
    differences = np.zeros((3, 20))
    differences[1, :2] = 1, -1
    found = compare_arms(table_of(differences), "curriculum", "random", {f"a{i}": f"page {i // 2}" for i in range(20)})
    assert (found.clusters, found.difference, found.interval, found.p) == (10, pytest.approx(0), None, None)


def test_seeds_without_spread_leave_the_interval_over_rows():
    found = compare_arms(table_of(np.repeat(crossed(1, 15), 4, axis=0)), "curriculum", "random")
    assert (found.seeds_t, found.tost_p) == (None, None)
    assert found.interval is not None


def test_all_but_the_primary_comparison_are_corrected():
    table = table_of(crossed(mean=0.5))
    table["reversed"] = table_of(crossed(mean=0.6, number=2))["curriculum"]
    table["shuffled"] = table_of(crossed(mean=0.1, number=3))["curriculum"]
    found = {
        each.arm: each
        for each in correct(
            [compare_arms(table, arm, "random") for arm in ("curriculum", "reversed", "shuffled")],
            ("curriculum", "random"),
        )
    }
    assert found["curriculum"].p_holm is None
    smaller, larger = sorted((found["reversed"], found["shuffled"]), key=lambda each: each.p)
    assert (smaller.p_holm, larger.p_holm) == (min(1, 2 * smaller.p), max(2 * smaller.p, larger.p))


def test_an_arm_with_two_controls_has_two_comparisons():
    table = table_of(crossed(mean=0.5))
    table["shuffled"] = table_of(crossed(mean=0.1, number=3))["curriculum"]
    table["reversed"] = table_of(crossed(mean=0.6, number=2))["curriculum"]
    pairs = [("curriculum", "random"), ("curriculum", "shuffled"), ("reversed", "random")]
    compared = [compare_arms(table, *pair) for pair in pairs]
    primary, second, third = correct(compared, pairs[0])
    assert primary.p_holm is None
    expected = holm({"second": compared[1].p, "third": compared[2].p})
    assert {"second": second.p_holm, "third": third.p_holm} == expected


# --- bad input


def without(table, arm, seed):
    return {**table, arm: {s: row for s, row in table[arm].items() if s != seed}}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: {"curriculum": t["curriculum"]}, "The control random has no values; curriculum has"),
        (lambda t: {"random": t["random"], "curriculum": {}}, "The arm curriculum has no values"),
        (lambda t: without(t, "curriculum", 2), "missing: curriculum 2. A seed counts only as a pair"),
        (lambda t: {arm: {1: by[1]} for arm, by in t.items()}, "one seed only (1). That shows how two models differ"),
        (lambda t: {**t, "curriculum": {s: {**row, "b": 1.0} for s, row in t["curriculum"].items()}}, "such as b"),
        (
            lambda t: {**t, "curriculum": {**t["curriculum"], 3: {**t["curriculum"][3], "a1": math.nan}}},
            "curriculum, seed 3: the value of 1 of 15 rows is no number, such as a1 (nan)",
        ),
        (lambda t: {arm: {s: {} for s in by} for arm, by in t.items()}, "no held-out rows"),
    ],
)
def test_what_cannot_be_compared_is_said(change, message):
    with pytest.raises(GradusError) as caught:
        compare_arms(change(table_of(crossed())), "curriculum", "random")
    assert message in str(caught.value)


def test_rows_of_one_group_cannot_be_compared():
    with pytest.raises(GradusError, match="one unit"):
        compare_arms(table_of(crossed()), "curriculum", "random", {f"a{i}": "page" for i in range(15)})
    with pytest.raises(GradusError, match="one unit"):
        compare_arms(table_of(crossed(items=1)), "curriculum", "random")
