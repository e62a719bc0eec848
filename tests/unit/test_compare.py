"""Models are compared row by row, each with every other, and what is said of a difference is what the rows allow."""

import numpy as np
import pytest

from scripts.common.comparison import tell_apart
from scripts.common.records import Record
from scripts.common.statistics import holm, mcnemar, mean_interval, paired_shares, sign_flips, wilson
from scripts.common.verdict import of_models
from scripts.evaluate.compare import compare, compare_values, over_seeds, read_values, values_of, values_over_all
from scripts.evaluate.validity import judged
from scripts.tasks.task import Task


def rows(values, metric="exact"):
    return [{"id": str(n), metric: float(value)} for n, value in enumerate(values)]


def binary(values):
    return values_of(rows(values), "exact", True)


def graded(values):
    return values_of(rows(values), "exact", False)


def test_wilson_interval_of_a_published_example():
    # 15 of 148: 0.0624 to 0.1605 (Newcombe 1998, table I, method 3)
    assert wilson(15, 148) == pytest.approx([0.0624, 0.1605], abs=1e-4)


def test_interval_of_a_paired_difference_of_a_published_example():
    # 36, 12, 2, 0: 0.0569 to 0.3404 (Newcombe 1998, paired data, table II, method 10)
    assert paired_shares(36, 2, 12, 0) == pytest.approx([0.0569, 0.3404], abs=1e-4)
    assert paired_shares(36, 12, 2, 0) == pytest.approx([-0.3404, -0.0569], abs=1e-4)
    assert paired_shares(10, 0, 0, 0)[0] < 0  # ten rows that both get right do not show that both are the same


def test_holm_of_a_worked_example():
    assert holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005}) == pytest.approx(
        {"a": 0.03, "b": 0.06, "c": 0.06, "d": 0.02}
    )
    assert holm({}) == {}


def test_of_zeros_and_ones_sign_flips_are_mcnemars_test():
    assert sign_flips([1] * 6 + [0] * 5 + [-1]) == pytest.approx(mcnemar(1, 6))
    assert sign_flips([0.0] * 5) == 1
    assert sign_flips([0.5]) == 1  # one row has no spread


def test_pairs_of_zeros_and_ones():
    found = compare_values(binary([n < 2 for n in range(20)]), binary([n >= 1 for n in range(20)]))
    assert (found["first_right"], found["right"], found["only_first"], found["only_other"]) == (2, 19, 1, 18)
    assert found["p"] == pytest.approx(2 * (1 + 19) / 2**19, rel=0.01)
    assert found["difference"] == 0.85
    assert found["difference_interval"][0] > 0.45


def test_pairs_of_shares_have_an_interval_of_their_difference():
    """The rows differ much, the models by a little on each: only the pairs show it."""
    first = np.random.default_rng(0).uniform(0, 0.8, 60)
    found = compare_values(graded(first), graded(first + [0.04, 0.06] * 30))
    assert found["difference_interval"] == pytest.approx([0.05, 0.05], abs=0.005)
    assert found["interval"][1] - found["interval"][0] > 0.1
    assert found["p"] < 0.001
    assert "right" not in found
    assert compare_values(graded(first), graded(first))["p"] == 1


def test_the_same_difference_on_every_row_is_one():
    found = compare_values(graded([0.25, 0.5, 0] * 4), graded([0.5, 0.75, 0.25] * 4))
    assert (found["difference"], found["difference_interval"]) == (0.25, [0.25, 0.25])
    assert tell_apart(found) == "better"
    found = compare_values(graded([0.5]), graded([0.25]))
    assert (tell_apart(found), found["difference_interval"]) == ("even", None)  # one row shows nothing
    assert compare_values(graded([0.5] * 9), graded([0.5] * 9))["difference_interval"] is None


def test_the_same_rows_give_the_same_digits_however_many_resamples_are_made_at_once(monkeypatch):
    values = list(np.random.default_rng(0).uniform(0, 1, 61))
    wanted = (mean_interval(values), sign_flips([value - 0.4 for value in values]))
    assert 0.01 < wanted[1] < 0.99
    mean, at_once = np.mean, []
    monkeypatch.setattr(np, "mean", lambda rows, axis: at_once.append(rows.size) or mean(rows, axis=axis))
    monkeypatch.setattr("scripts.common.statistics.AT_ONCE", 61 * 1000)
    assert (mean_interval(values), sign_flips([value - 0.4 for value in values])) == wanted
    assert max(at_once) == 61 * 1000


def agreement(records, answers):
    """A metric over all rows that is quick: the larger share of right and wrong answers."""
    right = sum(record.response == answer for record, answer in zip(records, answers, strict=True)) / len(records)
    return max(right, 1 - right)


def test_a_metric_over_all_rows_has_an_interval_too():
    records = {str(n): Record(f"q{n}", "ab"[n % 2], "classify", id=str(n)) for n in range(40)}
    good = [{"id": str(n), "text": "ab"[n % 2]} for n in range(40)]
    bad = [{"id": str(n), "text": "a" if n < 30 else "b"} for n in range(40)]
    first, other = values_over_all(records, bad, agreement, 0.5), values_over_all(records, good, agreement, 1.0)
    assert other.interval is None  # no resample differs, which shows no certainty
    low, high = first.interval
    assert 0.5 <= low < high < 0.8
    found = compare_values(first, other)
    assert (found["first_value"], found["difference"], found["p"]) == (0.5, 0.5, None)
    assert found["difference_interval"] == pytest.approx([1 - high, 1 - low], abs=1e-3)


def test_a_metric_over_all_rows_is_compared_on_the_rows_that_both_answered():
    """Untrained models may be asked the first rows only (`evaluate.untrained_rows`)."""
    records = {str(n): Record(f"q{n}", str(n % 2), "mine", id=str(n)) for n in range(40)}

    def share(asked, texts):
        return sum(record.response == text for record, text in zip(asked, texts, strict=True)) / len(texts)

    def answers(right, count):
        return [{"id": str(n), "text": str(n % 2) if n in right else "x"} for n in range(count)]

    first = values_over_all(records, answers(range(5), 20), share, 0.25)
    other = values_over_all(records, answers(range(10, 40), 40), share, 0.75)
    found = compare_values(first, other)
    assert (found["n"], found["first_value"], found["value"], found["difference"]) == (20, 0.25, 0.5, 0.25)
    same = values_over_all(records, answers(range(10, 40), 20), share, 0.5)
    assert found == compare_values(first, same)
    assert found["difference_interval"] is not None
    assert compare_values(other, first)["difference"] == -0.25


PAIRS = {str(n): f"page {n // 2}" for n in range(80)}  # each group has two rows


def doubled(values, is_binary=True):
    """The same value on both rows of each group: twice the rows, and nothing more known."""
    return values_of(rows(np.repeat(values, 2)), "exact", is_binary, PAIRS)


@pytest.mark.parametrize("is_binary", [True, False])
def test_rows_that_hang_together_count_as_one(is_binary):
    first, other = [n < 10 for n in range(40)], [4 <= n < 22 for n in range(40)]
    kind = binary if is_binary else graded
    alone, found = (
        compare_values(kind(first), kind(other)),
        compare_values(doubled(first, is_binary), doubled(other, is_binary)),
    )
    assert found["units"] == 40 and found["n"] == 80 and "units" not in alone
    for key in ("difference", "difference_interval", "interval"):
        assert found[key] == pytest.approx(alone[key], abs=0.003 if is_binary else 0)
    assert found["p"] == pytest.approx(mcnemar(4, 12), abs=0.01)
    assert mcnemar(8, 24) < found["p"] / 5  # as if all rows were apart
    assert ("right" in found) == is_binary
    rival = of_models("linear", found)
    assert (rival.rows, rival.units) == (80, 40)


def test_a_few_rows_that_hang_together_change_little():
    """The intervals of shares go over into those of rows that all stand alone."""
    values = [n in (3, 50) for n in range(200)]
    groups = {"100": "g", "101": "g"}
    alone, found = binary(values), values_of(rows(values), "exact", True, groups)
    assert found.interval == pytest.approx(alone.interval, abs=1e-3)
    pair = compare_values(found, values_of(rows([n < 20 for n in range(200)]), "exact", True, groups))
    same = compare_values(alone, binary([n < 20 for n in range(200)]))
    assert pair["difference_interval"] == pytest.approx(same["difference_interval"], abs=2e-3)
    assert pair["p"] < 0.001


def test_shares_without_a_spread_between_groups():
    one_of_two = values_of(rows([1, 0] * 40), "exact", True, PAIRS)
    assert one_of_two.interval == pytest.approx(wilson(40, 80), abs=1e-4)
    assert values_of(rows([1] * 9 + [0]), "exact", True, dict.fromkeys("0123456789", "g")).interval[1] > 0.9
    gain = compare_values(doubled([0] * 40), doubled([1] * 40))
    assert gain["difference_interval"] == pytest.approx(paired_shares(0, 0, 40, 0), abs=1e-3)
    even = compare_values(doubled([1] * 40), doubled([1] * 40))
    assert even["difference_interval"] == pytest.approx(paired_shares(40, 0, 0, 0), abs=1e-3)
    cancels = values_of(rows([0.1, 0.2, 0.0] * 20), "exact", False, {str(n): f"g{n // 3}" for n in range(60)})
    shuffled = values_of(rows([0.2, 0.0, 0.1] * 20), "exact", False, cancels.groups)
    found = compare_values(cancels, shuffled)
    assert (found["difference"], found["difference_interval"], found["p"]) == (0, None, 1)


def test_groups_count_by_their_rows():
    sizes = [1, 2, 3, 4] * 10
    groups = {str(n): f"g{name}" for n, name in enumerate(np.repeat(np.arange(40), sizes))}
    values = np.random.default_rng(0).uniform(0, 1, 100)
    found = values_of(rows(values), "exact", False, groups)
    low, high = found.interval
    assert low < values.mean() < high
    same = values_of(rows(np.repeat(np.random.default_rng(0).uniform(0, 1, 40), sizes)), "exact", False, groups)
    alone = graded(same.by_id.values())
    assert same.interval[1] - same.interval[0] > 1.2 * (alone.interval[1] - alone.interval[0])


def test_groups_that_are_all_right_have_an_interval_as_if_each_were_a_row():
    assert doubled([1] * 40).interval == pytest.approx(wilson(40, 40), abs=1e-4)
    assert doubled([0] * 40).interval == pytest.approx(wilson(0, 40), abs=1e-4)


def test_a_metric_over_all_rows_takes_groups_whole():
    records = {str(n): Record(f"q{n}", "ab"[n // 2 % 2], "classify", id=str(n), thread=str(n // 2)) for n in range(40)}
    seen = []

    def whole(asked, texts):
        seen.append([record.id for record in asked])
        return len(set(seen[-1])) / len(asked)

    answers = [{"id": key, "text": "a"} for key in records]
    assert values_over_all(records, answers, whole, 1.0).interval is not None
    assert len(seen) == 999
    assert all(str(int(key) ^ 1) in draw for draw in seen for key in draw)


def test_no_rows_no_p():
    found = compare_values(binary([]), binary([]))
    assert (found["n"], found["interval"], found["difference_interval"], found["p"]) == (0, None, None, None)


def test_resampling_rows_that_are_all_the_same_shows_nothing():
    assert graded([0.5] * 9).interval is None
    assert graded([0.5]).interval is None
    assert binary([0.0] * 9).interval[1] > 0.2  # Wilson's interval does


TASK = Task("mine", {"hit": None, "share": None}, "hit", binary=frozenset({"hit"}))
MODELS = [
    {"name": name, "trained": name.startswith("tuned")} for name in ("base", "tuned", "tuned-2", "linear", "nearest")
]


def compared(strongest):
    def grades(name):
        hits = {"base": 0, "tuned": 12, "tuned-2": 12, "linear": 19, "nearest": 6}[name]
        return [{"id": str(n), "hit": float(n < hits), "share": 0.5, "stopped": 1.0} for n in range(20)]

    metrics = {model["name"]: {"test": {"hit": {}, "share": {}, "stopped": {}}} for model in MODELS}
    given = {f"{model['name']}/test": grades(model["name"]) for model in MODELS}
    given["linear/test"][0].pop("share")
    return compare(
        MODELS,
        "base",
        "tuned",
        strongest,
        TASK,
        metrics,
        lambda model, split, metric: read_values(TASK, metrics, given, {}, {"test": {}}, model, split, metric),
    )


def test_the_served_model_is_compared_with_every_other_one():
    found = compared("linear")["served"]
    assert (found["model"], found["strongest"]) == ("tuned", "linear")
    assert set(found["models"]) == {"base", "tuned-2", "linear", "nearest"}
    pair = found["models"]["linear"]["test"]["hit"]
    assert (pair["first_value"], pair["value"], pair["difference"]) == (0.95, 0.6, -0.35)
    assert found["models"]["linear"]["test"]["share"]["n"] == 19


def test_the_correction_is_for_the_number_of_contenders_and_not_of_trainings():
    found = compared("linear")["served"]["models"]
    p = {name: pair["test"]["hit"] for name, pair in found.items()}
    assert p["base"]["p_holm"] == pytest.approx(3 * p["base"]["p"], rel=0.01)
    assert p["linear"]["p_holm"] == pytest.approx(2 * p["linear"]["p"], rel=0.01)
    assert p["tuned-2"]["p_holm"] == p["tuned-2"]["p"] == 1


def test_each_model_is_compared_with_the_first_and_has_intervals():
    found = compared(None)
    assert set(found["models"]) == {"tuned", "tuned-2", "linear", "nearest"}
    assert set(found["models"]["tuned"]["test"]) == {"hit", "share", "stopped"}
    assert found["intervals"]["base"]["test"]["hit"][0] == 0
    assert found["served"]["strongest"] is None
    assert compared("tuned-2")["served"]["strongest"] is None  # it is no contender


def test_failures_are_those_of_models_that_say_something():
    groups = {"base": None, "tuned": None, "order-a-1": "order", "linear": None, "nearest": None}
    assert judged(groups, "base", "tuned", "linear") == ["base", "tuned", "order-a-1", "linear"]


def test_a_metric_over_all_rows_that_fails_on_a_resample_has_no_interval():
    records = {str(n): Record(f"q{n}", str(n), "mine", id=str(n)) for n in range(4)}
    answers = [{"id": key, "text": "x"} for key in records]
    whole = [lambda asked, texts: None, lambda asked, texts: 1 / 0]
    assert [values_over_all(records, answers, each, 0.5).interval for each in whole] == [None, None]


def way(group, arm, seed):
    return {"name": f"{group}-{arm}-{seed}", "group": group, "training": {"arm": arm, "seed": seed}}


def test_ways_of_training_are_compared_over_the_seeds_and_rows_that_they_share():
    lots = np.random.default_rng(1)
    shares = {"sft": 0.5, "dpo": 0.8}
    models = [way(group, "curriculum", seed) for group in shares for seed in (1, 2, 3)]
    models += [way("odds", "curriculum", 3), {"name": "base", "group": None}]
    values = {
        model["name"]: binary(lots.random(200) < shares.get(model["group"], 0.5)) for model in models if model["group"]
    }
    (found,) = over_seeds(models, lambda model, split: values[model], ["test"], "exact")
    assert (found["arm"], found["control"]) == ("dpo-curriculum", "sft-curriculum")
    assert (found["split"], found["metric"], found["seeds"], found["items"]) == ("test", "exact", 3, 200)
    assert found["difference"] == pytest.approx(0.3, abs=0.08)
    assert found["interval"][0] > 0.1
    assert over_seeds(models[-2:], lambda model, split: values[model], ["test"], "exact") == []
