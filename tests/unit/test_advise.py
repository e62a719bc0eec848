"""The advice before training follows its rules for every combination of facts, and says how sure it is."""

import re
from itertools import product

import pytest
from scipy.stats import binomtest

from scripts.common.answers import sample
from scripts.common.errors import GradusError
from scripts.common.html import write_page
from scripts.common.records import Record
from scripts.contenders import advice
from scripts.contenders.advice import Conditions, Facts, decide, explain, find_conditions, measured
from scripts.contenders.advise import (
    advise,
    describe,
    draw_contenders,
    draw_curve,
    find_gain,
    find_noise,
    learning_curve,
)
from scripts.contenders.heed_advice import heed
from scripts.tasks.classify import CLASSIFY

# linear enough, retrieval enough, prompting enough, rows < 100, rows < 500, more rows help; *: either
TABLE = {
    "1*****": "a linear model is enough",
    "01****": "retrieval is enough: this asks for knowledge",
    "001***": "prompting is enough",
    "0001**": "too few rows",
    "000011": "too few rows",
    "000010": "go on",
    "00000*": "go on",
}


@pytest.mark.parametrize("values", product((False, True), repeat=6))
def test_every_combination_of_conditions_has_one_advice(values):
    word = "".join("01"[value] for value in values)
    (expected,) = [
        outcome for row, outcome in TABLE.items() if re.fullmatch(row.replace("*", "."), word)
    ]  # exactly one row of the table
    assert decide(Conditions(*values)) == expected


def facts(contenders=(), rows=1000, constant=0.0, ceiling=1.0, more_rows_help=None):
    """Facts with contenders given as (model, kind, rows answered right, rows asked)."""
    found = tuple(measured(name, kind, right / n if n else None, n) for name, kind, right, n in contenders)
    return Facts(rows, constant, ceiling, found, more_rows_help)


def advised(*args, **more):
    return decide(find_conditions(facts(*args, **more)))


@pytest.mark.parametrize(
    ("known", "expected"),
    [
        # request → AWS service, measured: the tuned model came to 88.0% of the test rows, the linear one to 94.1%
        (
            facts(
                [("base", "base", 0, 60), ("nearest", "nearest", 54, 60), ("linear", "linear", 57, 60)], 978, 11 / 60
            ),
            "a linear model is enough",
        ),
        # ten linters by their rules' descriptions, measured: tuned 41.0%, linear 46.7%; more rows would have helped
        (
            facts([("linear", "linear", 33, 52), ("nearest", "nearest", 34, 52)], 449, 14 / 52, more_rows_help=True),
            "too few rows",
        ),
        # user agents → JSON: the nearest row 9%, tuned 20%
        (facts([("nearest", "nearest", 5, 60), ("base", "base", 0, 60)], 900), "go on"),
        # addresses → JSON, measured: tuned 61.9%, few-shot 14%, 15% under the schema's grammar
        (
            facts([("few-shot-schema", "base", 12, 76), ("nearest", "nearest", 1, 76), ("base", "base", 0, 76)], 1241),
            "go on",
        ),
        # an AWS command assistant, measured: tuned 26.0%, nothing else above 5%
        (
            facts([("few-shot", "base", 4, 82), ("nearest", "nearest", 0, 82), ("base", "base", 0, 82)], 2046, 1 / 82),
            "go on",
        ),
    ],
)
def test_the_advice_on_runs_whose_outcome_is_known(known, expected):
    assert decide(find_conditions(known)) == expected


def test_a_value_is_judged_by_the_lower_end_of_its_interval():
    assert advised([("linear", "linear", 9, 10)]) == "go on"  # 90%, but it could be 60%
    assert advised([("linear", "linear", 90, 100)]) == "a linear model is enough"
    assert advised([("few-shot", "base", 83, 100)]) == "go on"  # 74.5% at least
    assert advised([("few-shot", "base", 84, 100)]) == "prompting is enough"  # 75.6% at least


def test_enough_is_measured_from_the_constant_answer_to_the_ceiling():
    assert advised([("linear", "linear", 93, 100), ("majority", "majority", 90, 100)], constant=0.9) == "go on"
    assert advised([("majority", "majority", 99, 100)], constant=0.99) == "go on"
    assert advised([("nearest", "nearest", 70, 100)], ceiling=0.7).startswith("retrieval is enough")
    assert advised([("nearest", "nearest", 100, 100)], constant=1.0) == "go on"  # nothing to gain, nothing to tell
    assert advised([("nearest", "nearest", 100, 100)], constant=None, ceiling=None) == "go on"


def test_of_several_that_are_enough_the_cheapest_is_named_unless_it_is_clearly_worse():
    close = [("few-shot", "base", 97, 100), ("nearest", "nearest", 96, 100), ("linear", "linear", 95, 100)]
    assert advised(close) == "a linear model is enough"
    assert advised(close[:2]).startswith("retrieval is enough")
    behind = [("few-shot", "base", 100, 100), ("nearest", "nearest", 89, 100), ("linear", "linear", 88, 100)]
    assert advised(behind) == "prompting is enough"


@pytest.mark.parametrize(
    ("rows", "helps", "expected"),
    [
        (99, False, "too few rows"),
        (100, False, "go on"),
        (100, None, "go on"),
        (499, True, "too few rows"),
        (500, True, "go on"),
    ],
)
def test_few_rows(rows, helps, expected):
    poor = [("base", "base", 10, 60)]
    assert advised(poor, rows, more_rows_help=helps) == expected
    assert advised([("base", "base", 60, 60)], rows, more_rows_help=helps) == "prompting is enough"


@pytest.mark.parametrize(("right", "n"), [(0, 1), (0, 60), (57, 60), (30, 60), (60, 60)])
def test_intervals_are_wilson_intervals(right, n):
    bounds = binomtest(right, n).proportion_ci(method="wilson")
    assert advice.interval(right / n, n) == pytest.approx((bounds.low, bounds.high), abs=1e-4)


@pytest.mark.parametrize(
    ("known", "because", "do"),
    [
        (
            facts([("linear", "linear", 57, 60)], constant=0.2),
            "linear reaches accuracy 95.0% on 60 validation rows (95% interval 86.3% to 98.3%): even the lower "
            "end is 82.9% of the way from always the same answer (20.0%) to the most that can be reached (100.0%).",
            "train only if you need more than 95.0%.",
        ),
        (facts([("nearest", "nearest", 99, 100)]), "nearest reaches accuracy 99.0%", "Look the answer up"),
        (facts([("few-shot", "base", 99, 100)]), "few-shot reaches", "Ask the model as few-shot does"),
        (facts([("base", "base", 1, 60)], 60), "There are only 60 training rows.", "base (1.7%)"),
        (
            facts([("base", "base", 9, 60)], 400, more_rows_help=True),
            "There are only 400 training rows, and a cheap baseline still clearly gains",
            "Collect about twice as many rows",
        ),
        (facts([], 50), "There are only 50 training rows", "then run again."),
        (facts([("base", "base", 0, 0)]), "no validation row counts", "split.valid_share"),
        (facts([]), "all models of this run are trained, or behind an API", "contenders: true"),
        (
            facts([("linear", "linear", 30, 60), ("base", "base", 0, 60)], constant=0.2),
            "No alternative is enough: the best, linear, reaches accuracy 50.0%",
            "the opponent to beat is linear, and on labels a small tuned model often does not beat a linear one.",
        ),
        (
            facts([("linear", "linear", 17, 17)], constant=0.3),
            "An alternative may be enough, which these validation rows are too few to show: the best, linear, reaches "
            "accuracy 100.0% on 17 validation rows (95% interval 81.6% to 100.0%).",
            "Raise split.valid_share to know; if you train, the opponent to beat is linear, and on labels",
        ),
        (
            facts([("base", "base", 0, 82)], constant=1 / 82),
            "No alternative is clearly better than always the same answer (1.2%)",
            "Train; the opponent to beat is base.",
        ),
    ],
)
def test_the_reason_has_the_figures_and_says_what_to_do(known, because, do):
    said = explain(decide(find_conditions(known)), known, "accuracy")
    assert because in said[0]
    assert do in said[1]


def labeled(count, split="train"):
    """Texts whose label is their first word."""
    return [
        Record(f"{'ab'[n % 2]} text number {n} of {split}", "ab"[n % 2], "classify", split=split) for n in range(count)
    ]


def test_the_learning_curve_is_of_nested_sets_that_do_not_depend_on_the_order_of_rows():
    train, asked = labeled(200), labeled(20, "valid")

    def taught(rows):
        sets = []
        curve = learning_curve(
            CLASSIFY, rows, asked, lambda train, asked: sets.append({r.id for r in train}) or ["a"] * len(asked)
        )
        return sets, curve

    sets, curve = taught(train)
    assert [len(ids) for ids in sets] == [size for size, _ in curve] == [20, 50, 100, 200]
    assert sets[0] < sets[1] < sets[2] < sets[3]
    assert taught(train[::-1])[0] == sets
    assert curve[0][1] == [1.0, 0.0] * 10


def curve_of(*rights, n=60):
    """A curve whose points have so many right answers."""
    return [(size, [1.0] * right + [0.0] * (n - right)) for size, right in zip((10, 25, 50, 100), rights, strict=True)]


def test_more_rows_help_only_if_the_gain_is_beyond_chance_and_lasts():
    assert find_gain(curve_of(10, 20, 22, 25), 0.1)[0] is True  # five better, none worse: p = 0.03
    assert find_gain(curve_of(10, 20, 22, 24), 0.1)[0] is False  # four better: p = 0.06
    assert find_gain(curve_of(10, 20, 30, 30), 0.1)[0] is False  # the last doubling brought nothing
    assert find_gain(curve_of(50, 40, 30, 20), 0.1)[0] is False
    assert find_gain(curve_of(0, 0, 3, 8), 0.1)[0] is None  # not even as good as a constant answer
    assert find_gain(curve_of(1, 1, 1, 1)[:2], 0.1) == (None, {})
    assert find_gain([(size, [None]) for size in (1, 2, 3, 4)], 0.1) == (None, {})
    gain = find_gain(curve_of(10, 20, 22, 26), 0.1)[1]
    assert gain == {"value": 0.1, "better": 6, "worse": 0, "p": 0.0156, "last": 0.066667}


def test_noise_counts_training_rows_that_ask_the_same_and_disagree():
    first = Record("reset my password please", "login", "classify")
    same = Record("reset  my password please", "billing", "classify", near=[first.id])
    copy = Record("reset my password, please", "login", "classify", near=[first.id])
    other = Record("reset my pass word please", "import", "classify", near=[first.id])
    held_out = Record("reset my password please now", "other", "classify", near=[first.id])
    train = [first, same, copy, other, *labeled(6)]
    linked = [first, same, copy, other, held_out]
    assert find_noise(train, linked, "prompt") == {
        "same_prompt": 1,
        "near_copies": 2,
        "near_copies_that_disagree": 1,
        "rows": 3,
        "share": 0.3,
    }
    by_response = find_noise(train, linked, "response")  # such links say nothing about prompts
    assert by_response["near_copies"] == 0 and by_response["rows"] == 2
    assert find_noise([], [], "prompt")["share"] is None


MODELS = [
    {"name": "base", "kind": "base", "options": {}},
    {"name": "few-shot", "kind": "base", "options": {"examples": {"count": 4, "choose": "nearest"}}},
    {"name": "linear", "kind": "linear", "options": {}},
]


def found(rights=(0, 12, 19), asked=20):
    metrics = [{"accuracy": {"value": right / asked if asked else None, "n": asked}} for right in rights]
    points = {"chance": 0.5, "constant": 0.5, "ceiling": 1.0}
    rows = sample(labeled(asked, "valid"), asked)
    return advise(
        CLASSIFY, MODELS, metrics, points, labeled(200), rows, lambda train, asked: [r.prompt[0] for r in asked]
    )


def test_advice_has_the_facts_that_it_is_based_on():
    said = found()
    assert said["advice"] == "go on"
    assert said["strongest"] == "linear" and said["headroom"] == pytest.approx(0.05)
    assert said["contenders"][2] == {
        "model": "linear", "kind": "linear", "value": 0.95, "n": 20, "low": 0.7639, "high": 0.9911,
    }  # fmt: skip
    assert said["rows"] == 200 and said["headline"] == "accuracy"
    assert [point["share"] for point in said["curve"]] == [0.1, 0.25, 0.5, 1.0]
    assert said["more_rows_help"] is False


def test_augmented_rows_do_not_make_few_rows_many():
    made = [Record(f"made {n}", "a", "classify", split="train", augmented=True) for n in range(500)]
    points = {"constant": 0.5, "ceiling": 1.0}
    rows = sample(labeled(20, "valid"), 20)
    said = advise(CLASSIFY, [], [], points, [*labeled(90), *made], rows, lambda train, asked: ["a"] * len(asked))
    assert (said["advice"], said["rows"], said["augmented"]) == ("too few rows", 90, 500)
    assert said["curve"][-1]["rows"] == 90 and "augmented" not in found()
    linked = [Record("made 0", "a", "classify", augmented=True), Record("made 0", "b", "classify")]
    linked[1].near = [linked[0].id]
    assert find_noise(linked, linked, "prompt")["same_prompt"] == 0


def test_without_validation_rows_the_advice_is_to_go_on_and_says_that_nothing_was_measured():
    said = found(asked=0)
    assert (said["advice"], said["strongest"], said["headroom"], said["curve"]) == ("go on", None, None, [])
    assert "no validation row counts" in said["because"] and said["more_rows_help"] is None


@pytest.mark.parametrize("asked", [20, 0])
def test_the_page_shows_the_advice_first_and_needs_no_network(tmp_path, asked):
    said = found(asked=asked)
    page = {
        **said,
        "curve_of": "linear",
        "noise": find_noise([], [], "prompt"),
        "run": "tiny",
        "labels": True,
        "descriptions": {model["name"]: describe(model) for model in MODELS},
        "figures": {},
        "limits": {"enough": 0.75, "fewest": 100, "few": 500},
    }
    write_page("scripts/contenders/advice.html.j2", page, tmp_path / "advice.html")
    text = (tmp_path / "advice.html").read_text()
    assert text.index("Go on") < text.index("What to do:") < text.index("What the alternatives reach")
    assert "4 training rows as examples in its prompt (nearest)" in text
    assert not re.search(r"https?://|<script|<link", text)


def test_the_figures_show_every_measured_contender(tmp_path):
    from scripts.common.plots import save

    said = found()
    save(draw_contenders(said), tmp_path / "contenders.svg")
    drawn = (tmp_path / "contenders.svg").read_text()
    assert all(f">{model['name']}<" in drawn for model in MODELS)
    save(draw_curve(said["curve"], "accuracy"), tmp_path / "curve.svg")
    assert all(f">{size}<" in (tmp_path / "curve.svg").read_text() for size in (20, 50, 100, 200))


def test_a_run_that_heeds_the_advice_ends_with_it_as_its_message():
    heed({"advice": "go on", "because": "…", "do": "…"}, "results/x/advice.html")
    with pytest.raises(GradusError, match="a linear model is enough") as error:
        heed({"advice": advice.LINEAR, "because": "It reaches 95%.", "do": "Use it."}, "results/x/advice.html")
    for part in ("It reaches 95%.", "Use it.", "results/x/advice.html", "advise.stop: false"):
        assert part in str(error.value)


def test_a_row_without_a_grade_at_one_size_is_left_out_at_all():
    """A metric of the user's own may leave out a row for its answer; the others must not be compared out of step."""
    curve = [(10, []), (25, [0.0, None, 0.0]), (50, [0.0, 1.0, None]), (100, [1.0, 0.0, 1.0])]
    assert find_gain(curve, None)[1] == {"value": 1.0, "better": 1, "worse": 0, "p": 0.5, "last": 1.0}
    assert find_gain([(10, []), (25, [None]), (50, [None]), (100, [None])], None) == (None, {})
