"""Pairs for raters, and what is made of their files; the page in a browser: test_rating_page.py."""

import json
import random

import pytest

from scripts.common.errors import GradusError
from scripts.common.hashing import ROOT
from scripts.common.html import write_page
from scripts.common.records import Record
from scripts.config.check import check_config
from scripts.judge.agreement import with_marks
from scripts.rating.raters import Rater, read_rater, read_raters
from scripts.rating.rating_page import make_key, make_page, make_pairs
from scripts.rating.ratings import (
    agreement,
    alpha,
    beyond_chance,
    compare,
    find_copies,
    summarize,
)
from scripts.report.sections.rating import rating

SHOWN = {"question": "Better?", "marks": True, "reference": False}


def make(rows=40, same=0, models=("tuned", "base"), seed=1, limit=100, splits=("test",)):
    """Return pairs and counts of `rows` rows, of which `same` have identical answers."""
    records = {
        split: {record.id: record for record in (Record(f"{split} {n}", "r", "qa") for n in range(rows))}
        for split in splits
    }
    answers = {
        (model, split): {
            key: "same" if number < same else f"{model} {key}" for number, key in enumerate(records[split])
        }
        for model in models
        for split in splits
    }
    compared = [models[:2]] if len(models) == 2 else [models[:2], models[1:]]
    return make_pairs(compared, splits, limit, seed, answers, records)


def key_of(pairs, counts):
    return make_key(make_page("mine", SHOWN, pairs, counts)["page"], "mine", pairs, counts)


KEY = key_of(*make(24))


def chosen(key, better, rng=None, wrong=0.0, limit=None, tie=0.0):
    """Return what an honest rater chooses who finds the answers of `better` better, but for a share of errors."""
    rng = rng or random.Random(0)
    winners = {}
    for pair in key["pairs"][:limit]:
        right = "1" if pair["first"] == better else "2"
        other = "2" if right == "1" else "1"
        lot = rng.random()
        winners[pair["pair"]] = other if lot < wrong else "tie" if lot < wrong + tie else right
    return winners


def rater(name, winners, marks=None):
    return Rater(name, dict(winners), marks or dict.fromkeys(winners, {}))


def test_each_model_comes_first_as_often_as_the_other_in_an_order_that_the_seed_decides():
    pairs, counts = make(41, models=("tuned", "base", "few-shot"), splits=("test", "eval-hard"))
    for models in (("tuned", "base"), ("base", "few-shot")):
        mine = [pair for pair in pairs if pair.models == models]
        assert len(mine) == 82
        assert sum(pair.shown == models for pair in mine) == 41
    assert all(pair.texts == tuple(f"{model} {pair.record.id}" for model in pair.shown) for pair in pairs)
    assert [count["rows"] for count in counts] == [41] * 4
    assert make(41)[0] == make(41)[0]
    assert {p.id for p in make(41)[0]} == {p.id for p in make(41, seed=2)[0]}
    assert [p.shown for p in make(41)[0]] != [p.shown for p in make(41, seed=2)[0]]
    assert len({p.id for p in pairs}) == len(pairs)


def test_identical_answers_are_left_out_of_the_rows_that_are_taken():
    pairs, (count,) = make(40, same=10, limit=15)
    assert (count["rows"], count["identical"], len(pairs)) == (15, 10, 5)


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (make(40, same=40, limit=15), "Nothing to rate: on all 15 rows, the two answers are identical."),
        (make(0), "Nothing to rate: the splits have no rows that both models answered"),
    ],
)
def test_a_page_without_pairs_says_why(tmp_path, made, said):
    page = make_page("mine", SHOWN, *made)
    assert make_key(page["page"], "mine", *made)["pairs"] == []
    write_page(ROOT / "scripts/rating/rating_page.html.j2", page, tmp_path / "rate.html")
    text = (tmp_path / "rate.html").read_text()
    assert said in text
    assert "<script" not in text
    assert "<button" not in text


def test_a_page_has_another_hash_if_raters_see_something_else():
    pairs, counts = make()
    page = make_page("mine", SHOWN, pairs, counts)["page"]
    assert make_page("mine", SHOWN, *make())["page"] == page
    others = [(SHOWN, make(39)), (SHOWN, make(seed=2)), ({**SHOWN, "reference": True}, (pairs, counts))]
    assert page not in [make_page("mine", shown, *of)["page"] for shown, of in others]


# --- files


def saved(folder, name="ann", key=KEY, **changes):
    ratings = [{"pair": pair, "winner": winner, "marks": {}} for pair, winner in chosen(key, "tuned").items()]
    content = {"page": key["page"], "run": "mine", "rater": name, "ratings": ratings, **changes}
    path = folder / f"{name}.json"
    path.write_text(json.dumps(content))
    return path


def test_a_file_is_read_as_the_page_saved_it(tmp_path):
    found = read_rater(saved(tmp_path), KEY)
    assert (found.name, found.winners) == ("ann", chosen(KEY, "tuned"))


PAIR = KEY["pairs"][0]["pair"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"page": "0123"}, "ann.json: rates another page (0123 of run mine) than this run's rate.html"),
        ({"ratings": []}, "ann.json: not a file of ratings, at $.ratings: "),
        ({"rater": " "}, "ann.json: not a file of ratings, at $.rater: "),
        ({"ratings": [{"pair": PAIR, "winner": "left"}]}, "at $.ratings[0].winner: 'left' is not one of"),
        ({"ratings": [{"pair": PAIR, "winner": "1", "marks": {"1": "yes"}}]}, "at $.ratings[0].marks['1']: 'yes'"),
        ({"ratings": [{"pair": "ffffffffffff", "winner": "1"}]}, "ann.json: pair ffffffffffff is not on the page"),
        (
            {"ratings": [{"pair": PAIR, "winner": "1"}, {"pair": PAIR, "winner": "tie"}]},
            f"ann.json: pair {PAIR} is rated twice, and differently",
        ),
        ({"more": 1}, "ann.json: not a file of ratings, at $: "),
    ],
)
def test_a_file_that_cannot_be_used_is_named_with_the_reason(tmp_path, changes, message):
    with pytest.raises(GradusError) as caught:
        read_rater(saved(tmp_path, **changes), KEY)
    assert message in str(caught.value)
    assert "rating.files" in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b'{"page": NaN}', b"[" * 100000])
def test_a_damaged_file_is_named(tmp_path, content):
    (tmp_path / "torn.json").write_bytes(content)
    with pytest.raises(GradusError, match=r"torn\.json: not "):
        read_rater(tmp_path / "torn.json", KEY)


def test_the_same_choice_twice_counts_once_and_a_rater_counts_once(tmp_path):
    twice = [{"pair": PAIR, "winner": "1"}] * 2
    assert read_rater(saved(tmp_path, ratings=twice), KEY).winners == {PAIR: "1"}
    first, second = saved(tmp_path, "Ann"), saved(tmp_path, "ann ")
    with pytest.raises(GradusError, match="both are by 'ann', and a rater counts once") as caught:
        read_raters([first, second], KEY)
    assert "Ann.json" in str(caught.value)
    with pytest.raises(GradusError, match="rating.files: names no file"):
        read_raters([], KEY)


# --- results


def test_alpha_is_krippendorffs():
    # the example of Krippendorff (2011), "Computing Krippendorff's Alpha-Reliability", section C, with missing values
    table = {
        "A": [1, 2, 3, 3, 2, 1, 4, 1, 2, None, None, None],
        "B": [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, None, 3],
        "C": [None, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, None],
        "D": [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, None],
    }
    pairs = [[row[n] for row in table.values() if row[n] is not None] for n in range(12)]
    assert alpha(pairs) == pytest.approx(0.849, abs=0.0005)
    assert str(alpha([[1.0, 1.0], [0.0]])) == "nan"  # all shared choices are the same


def test_the_share_is_of_pairs_and_a_tie_is_half():
    counted = {"a": "tuned", "b": "base", "split": "test", "rows": 12, "identical": 2}
    row = compare(counted, [1, 1, 1, 1, 1, 1, 1, 0.5, 0.25, 0], 10)
    assert (row["n"], row["a_preferred"], row["b_preferred"], row["ties"]) == (12, 7, 2, 3)
    assert row["share"] == pytest.approx((7 + 0.5 + 0.25 + 1) / 12, abs=1e-6)
    assert row["interval"][0] < row["share"] < row["interval"][1]
    part = compare(counted, [1, 1, 1, 1, 0], 10)  # half of the pairs are rated: half of the identical ones count
    assert (part["n"], part["rated"], part["ties"]) == (6, 5, 1)
    sure = compare({**counted, "identical": 0}, [1] * 10, 10)
    assert sure["interval"] == [0.7225, 1.0]  # Wilson's, of 10 of 10
    assert sure["p"] == pytest.approx(2 / 1024, rel=0.01)
    assert compare(counted, [], 10)["share"] is None


def test_two_honest_raters_agree_and_the_better_model_wins():
    rng = random.Random(3)
    found = summarize(
        KEY, [rater("ann", chosen(KEY, "tuned", rng, 0.1)), rater("bo", chosen(KEY, "tuned", rng, 0.1, tie=0.1))]
    )
    (row,) = rating(found)["comparisons"]
    assert row["preferred"] == "tuned"
    assert row["interval"][0] > 0.5
    assert found["agreement"]["interval"][0] > 0
    assert found["warnings"] == []
    by_id = {pair["id"]: {r["rater"]: r["winner"] for r in pair["ratings"]} for pair in found["pairs"]}
    assert len(by_id) == 24
    assert sum(choice["ann"] == "a" for choice in by_id.values()) > 15


def test_a_rater_at_random_is_found_out():
    rng = random.Random(5)
    honest = [rater(name, chosen(KEY, "tuned", rng, 0.1)) for name in ("ann", "bo")]
    found = summarize(KEY, [*honest, rater("cy", {pair: rng.choice("12") for pair in chosen(KEY, "tuned")})])
    assert [row["at_random"] for row in found["raters"]] == [False, False, True]
    named = [warning for warning in found["warnings"] if "cannot be told from chance" in warning]
    assert named == [
        "cy's agreement with any other rater cannot be told from chance; look at the result without that file."
    ]


def test_a_rater_who_always_takes_the_first_answer_is_found_out():
    found = summarize(
        KEY, [rater("ann", chosen(KEY, "tuned")), rater("lazy", dict.fromkeys(chosen(KEY, "tuned"), "1"))]
    )
    (row,) = [row for row in found["raters"] if row["rater"] == "lazy"]
    assert row["first"]["share"] == 1
    assert "lazy prefers the first answer, whosever it is, more often than chance would." in found["warnings"]
    assert not [warning for warning in found["warnings"] if warning.startswith("ann prefers")]
    assert "The agreement of ann and lazy cannot be told from chance" in found["warnings"][0]


def of_pairs(*choices):
    """Return the key of a page, and what two raters chose on its first pairs, such as "11" and "2t"."""
    names = {"t": "tie"}
    both = zip(KEY["pairs"], choices, strict=False)
    chosen_by = [(pair["pair"], [names.get(choice, choice) for choice in two]) for pair, two in both]
    return [rater(name, {pair: two[n] for pair, two in chosen_by}) for n, name in enumerate(("ann", "bo"))]


@pytest.mark.parametrize(
    ("choices", "told", "said"),
    [
        (["11", "22", "11", "12", "t1"], False, "Too few pairs are shared with other raters (ann 5, bo 5)"),
        (["11", "22", "11", "22", "11"], False, "Too few pairs are shared with other raters (ann 5, bo 5)"),
        (["11", "22", "11", "12", "22", "12"], False, "The agreement of ann and bo cannot be told from chance"),
        (["11", "22", "11", "22", "22", "11"], True, ""),
    ],
)
def test_few_shared_pairs_do_not_pass_for_agreement(choices, told, said):
    raters = of_pairs(*choices)
    found = summarize(KEY, raters)
    together = found["agreement"]
    assert together["alpha"] > 0  # 4 of 6 agree: of two raters at random every second draw or so is above 0
    assert beyond_chance(together) is told
    assert [warning for warning in found["warnings"] if said and said in warning] == found["warnings"]


def test_the_interval_of_the_agreement_leaves_out_resamples_without_two_values():
    found = agreement(tuple((1.0, 1.0) if n else (0.0, 0.5) for n in range(6)))
    assert found["alpha"] is not None
    assert found["interval"] is not None
    assert found["interval"][0] < found["alpha"]


def test_two_files_with_the_same_choices_are_named():
    def copies(one, other):
        return find_copies([rater("ann", one), rater("bo", other)])

    winners = chosen(KEY, "tuned")
    ten = dict(list(winners.items())[:10])
    (warning,) = copies(winners, ten)
    assert warning.startswith("ann and bo chose the same on all 10 pairs that both rated.")
    assert warning in summarize(KEY, [rater("ann", winners), rater("bo", ten)])["warnings"]
    assert copies(winners, dict(list(winners.items())[:9])) == []
    assert copies(winners, {**ten, KEY["pairs"][0]["pair"]: "tie"}) == []


def test_one_rater_alone_shows_no_agreement():
    found = summarize(KEY, [rater("ann", chosen(KEY, "tuned"))])
    assert found["agreement"] == {"alpha": None, "interval": None, "pairs": 0}
    assert found["warnings"] == ["There is one rater only, so nobody knows whether others would choose the same."]
    assert found["comparisons"][0]["interval"] == [0.862, 1.0]


def test_raters_who_share_no_pair_show_no_agreement_either():
    winners = chosen(KEY, "base")
    first = dict(list(winners.items())[:10])
    rest = dict(list(winners.items())[10:])
    found = summarize(KEY, [rater("ann", first), rater("bo", rest)])
    assert "Too few pairs are shared with other raters (ann 0, bo 0)" in found["warnings"][0]
    assert found["comparisons"][0]["rated"] == 24
    assert rating(found)["comparisons"][0]["preferred"] == "base"


def test_marks_name_the_model_of_the_answer_that_was_marked():
    first = KEY["pairs"][0]
    marked = {first["pair"]: {"1": True, "2": False}}
    found = summarize(KEY, [rater("ann", {first["pair"]: "1"}, marked), rater("bo", {first["pair"]: "1"}, marked)])
    assert {(m["id"], m["model"], m["pass"], m["rater"]) for m in found["marks"]} == {
        (first["record"], first[side], passes, name)
        for side, passes in (("first", True), ("second", False))
        for name in ("ann", "bo")
    }
    assert {row["model"]: (row["n"], row["share"]) for row in found["passes"]} == {
        first["first"]: (1, 1.0),
        first["second"]: (1, 0.0),
    }


def printed(folder, found):
    """Return the section of the report on ratings."""
    write_page(ROOT / "scripts/report/templates/rating.html.j2", {"rating": rating(found)}, folder / "part.html")
    return (folder / "part.html").read_text()


def test_a_preference_is_corrected_for_the_comparisons_of_a_split_and_none_vanishes(tmp_path):
    key = key_of(*make(10, models=("tuned", "base", "few-shot"), splits=("test", "eval-hard")))
    winners = {}
    for a, split in (("tuned", "test"), ("base", "test"), ("base", "eval-hard")):
        alike = [pair for pair in key["pairs"] if (pair["a"], pair["split"]) == (a, split)]
        for number, pair in enumerate(alike):  # 6 of 10 for a, 4 ties
            winners[pair["pair"]] = "tie" if number > 5 else "1" if pair["first"] == a else "2"
    found = summarize(key, [rater("ann", winners)])
    assert [
        (row["a"], row["split"], row["p"], row["p_holm"], row["preferred"]) for row in rating(found)["comparisons"]
    ] == [
        ("tuned", "test", 0.0312, 0.0624, None),
        ("tuned", "eval-hard", None, None, None),
        ("base", "test", 0.0312, 0.0624, None),
        ("base", "eval-hard", 0.0312, 0.0312, "base"),
    ]
    part = printed(tmp_path, found)
    assert (part.count(">not rated<"), part.count(">not told apart<"), part.count(">base</td></tr>")) == (1, 2, 1)
    assert "0 of 10 of tuned and base on eval-hard" in part


def test_a_rater_has_one_vote_on_an_answer_that_stands_in_two_pairs():
    key = key_of(*make(2, models=("tuned", "base", "few-shot")))
    rows = sorted({pair["record"] for pair in key["pairs"]})

    def marked(name, *of_base):
        """Mark the answers of base: `of_base` by row, in the pair with tuned and in the one with few-shot."""
        marks = {}
        for pair in key["pairs"]:
            side = "1" if pair["first"] == "base" else "2"
            marks[pair["pair"]] = {side: of_base[rows.index(pair["record"])][pair["a"] == "base"] == "+"}
        return rater(name, dict.fromkeys(marks, "tie"), marks)

    found = summarize(key, [marked("ann", "--", "++"), marked("bo", "++", "+-"), marked("cy", "++", "+-")])
    said = [[mark["pass"] for mark in found["marks"] if mark["id"] == row] for row in rows]
    assert [sorted(votes) for votes in said] == [[False, True, True], [True]]
    assert [(row["model"], row["n"], row["share"]) for row in found["passes"]] == [("base", 2, 0.833333)]
    judged = [{"id": row, "model": "base", "pass": True} for row in rows]
    assert with_marks(judged, found["marks"])["true_positive"]["n"] == 2


def test_the_report_prints_all_of_it(tmp_path):
    pairs, counts = make(20, same=4)
    key = key_of(pairs, counts)
    marks = {pair["pair"]: {"1": True, "2": False} for pair in key["pairs"]}
    raters = [
        rater("<ann>", chosen(key, "tuned", limit=12), marks),
        rater("bo", dict.fromkeys(chosen(key, "base"), "1")),
    ]
    part = printed(tmp_path, summarize(key, raters))
    assert "2 raters saw two answers" in part
    assert "&lt;ann&gt;" in part
    assert "tuned and base answer 4 of 20 rows of test identically" in part
    assert "bo prefers the first answer" in part
    assert "acceptable answers" in part


# --- config

BASE = {"run": "r", "base_model": {"source": "path:base"}, "data": {"files": ["rows.jsonl"]}}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"pairs": [["tuned", "other"]]}, "rating.pairs.0: no model 'other' in models; known models: base, tuned"),
        ({"pairs": [["tuned", "tuned"]]}, "rating.pairs.0: "),
        ({"pairs": [["tuned"]]}, "rating.pairs.0: "),
        ({"pairs": [["tuned", "base"], ["base", "tuned"]]}, "rating.pairs.1: tuned and base are compared already"),
        ({"splits": ["test", "eval-hard"]}, "rating.splits.1: no model answers eval-hard; add it to evaluate.splits"),
        ({"files": ["ann.json"]}, "rating.files: needs rating.pairs"),
    ],
)
def test_a_config_of_ratings_is_checked(settings, message):
    with pytest.raises(GradusError) as caught:
        check_config({**BASE, "evaluate": {"splits": ["test"]}, "rating": settings}, [])
    assert message in str(caught.value)
