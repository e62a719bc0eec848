"""Experiments: what a config may say, the plan that is fixed, and what the analysis makes of the trainings."""

import csv
import json
import random

import pytest

from scripts.common.errors import GradusError
from scripts.common.experiment import Training, answered, trainings, variants
from scripts.common.records import Record
from scripts.config.check import check_config
from scripts.experiment.effects import (
    collect,
    compare,
    curve_lines,
    exposure_lines,
    reordered,
    require_plan,
    spent_lines,
    write_csv,
)
from scripts.experiment.plan import differences, make_plan, require_same
from scripts.experiment.show import said, tables
from scripts.experiment.train_arm import join_histories, relabel

ARMS = ["curriculum", "growing-random", "shuffled"]


def config(train=None, models=None, **experiment):
    given = {
        "run": "r",
        "base_model": {"source": "path:b"},
        "data": {"files": ["r.jsonl"]},
        "experiment": {"arms": ARMS, "seeds": [1, 2, 3], **experiment},
        **({"train": train} if train else {}),
        **({"models": models} if models else {}),
    }
    return check_config(given, [])


@pytest.mark.parametrize(
    ("faulty", "message"),
    [
        ({"seeds": [7]}, "another seed may turn the difference around"),
        ({"arms": ["curriculum", "shuffled"]}, "Without a control whose sets grow alike"),
        ({"arms": [*ARMS, "curiculum"]}, "no arm 'curiculum' in curriculum.definitions"),
        ({"primary": "reversed"}, "'reversed' is not in experiment.arms"),
        ({"primary": "growing-random"}, "is the control itself"),
        ({"answers": [1, 9]}, "not in experiment.seeds: 9"),
        ({"left_out": [9]}, "left_out: no training has these seeds: 9"),
        ({"left_out": [1, 2]}, "one seed only"),
        ({"variants": {"constant": {"arms": ["curriculum", "shuffled"], "train": {"schedule": "linear"}}}}, "control"),
        (
            {"variants": {"constant": {"arms": ["growing-random", "shuffled"], "train": {"schedule": "linear"}}}},
            "primary",
        ),
        ({"variants": {"constant": {"seeds": [1], "train": {"schedule": "linear"}}}}, "one seed only"),
        ({"variants": {"nothing": {}}}, "changes nothing"),
        ({"variants": {"main": {"difficulty": "length"}}}, "use another name"),
        ({"variants": {"rank": {"train": {"lora": {"rank": 4}}}}}, "lora"),
        ({"train": {"patience": 2, "evaluate_every": 4}}, "arms would differ in their budget"),
        ({"models": {"base": {}, "t": {"trained": {"arm": "self-paced", "seed": 1}}}}, "only an experiment does"),
    ],
)
def test_an_experiment_that_could_show_nothing_is_refused(faulty, message):
    with pytest.raises(GradusError, match=message):
        config(**faulty)


def test_trainings_go_seed_by_seed_so_that_a_stop_leaves_pairs():
    made = trainings(config(variants={"constant": {"train": {"schedule": "linear"}, "seeds": [1, 2]}})["experiment"])
    assert made[:3] == [Training("main", arm, 1) for arm in ARMS]
    assert [t.seed for t in made if t.variant == "constant"] == [1, 1, 1, 2, 2, 2]
    assert len(made) == 9 + 6
    assert trainings(None) == []


def test_only_the_asked_seeds_of_the_experiment_itself_answer():
    experiment = config(answers=[2], variants={"constant": {"train": {"schedule": "linear"}}})["experiment"]
    assert answered(experiment) == [Training("main", arm, 2) for arm in ARMS]


# --- the plan


def fix(folder, settings, rows="{}"):
    (folder / "train.jsonl").write_text(rows)
    return make_plan(settings, {"train": folder / "train.jsonl"})


def test_the_plan_changes_with_the_rows_and_with_the_settings(tmp_path):
    first = fix(tmp_path, {"seeds": [1, 2]})
    assert fix(tmp_path, {"seeds": [1, 2]}) == first
    assert fix(tmp_path, {"seeds": [1, 2, 3]})["hash"] != first["hash"]
    assert fix(tmp_path, {"seeds": [1, 2]}, rows="{ }")["hash"] != first["hash"]


def test_a_plan_changed_half_way_stops_and_names_both_plans_and_what_differs(tmp_path):
    old, new = fix(tmp_path, {"margin": 0.01, "seeds": [1, 2]}), fix(tmp_path, {"margin": 0.02, "seeds": [1, 2]})
    done = tmp_path / "main" / "shuffled" / "seed1"
    done.mkdir(parents=True)
    (done / "result.json").write_text(json.dumps({"plan": old["hash"]}))
    (tmp_path / "plans").mkdir()
    (tmp_path / "plans" / f"{old['hash'][:12]}.json").write_text(json.dumps(old))
    require_same(old, tmp_path)
    with pytest.raises(GradusError) as refused:
        require_same(new, tmp_path)
    text = str(refused.value)
    assert old["hash"][:12] in text
    assert new["hash"][:12] in text
    assert "margin: 0.01 → 0.02" in text
    assert "main/shuffled/seed1" in text
    assert (done / "result.json").is_file()


def test_differences_go_into_nested_settings():
    assert list(differences({"a": {"b": 1, "c": 2}}, {"a": {"b": 1, "c": 3}, "d": 4})) == ["a.c: 2 → 3", "d: None → 4"]


# --- a training


def test_a_variant_of_difficulty_deals_the_same_levels_by_another_scorer():
    rows = [Record(f"p{n}", "r", "qa", difficulty=n % 3) for n in range(30)]
    values = [float(-n) for n in range(30)]
    dealt = relabel(rows, values)
    assert sorted(row.difficulty for row in dealt) == sorted(row.difficulty for row in rows)
    assert [row.difficulty for row in dealt] == [2] * 10 + [1] * 10 + [0] * 10
    assert [row.id for row in dealt] == [row.id for row in rows]


def test_histories_of_phases_are_counted_from_the_start(tmp_path):
    for phase, lines in {"easy": [(1, 10), (2, 20)], "hard": [(1, 30)]}.items():
        (tmp_path / phase).mkdir()
        text = [json.dumps({"step": step, "tokens": tokens, "loss": 1.0, "seconds": 3.3}) for step, tokens in lines]
        (tmp_path / phase / "history.jsonl").write_text("\n".join(text))
    joined = join_histories(tmp_path, ["easy", "hard"])
    assert [(line["phase"], line["step"], line["tokens"]) for line in joined] == [
        ("easy", 1, 10),
        ("easy", 2, 20),
        ("hard", 3, 50),
    ]
    assert all("seconds" not in line for line in joined)  # they would differ from run to run


# --- the analysis


def result(arm, seed, steps=10, tokens=1000, plan="p", variant="main"):
    spent = {"by_difficulty": {"easy": 3, "hard": 1}, "tokens": tokens}
    named = {"variant": variant, "arm": arm, "seed": seed, "plan": plan}
    return {**named, "steps": steps, "tokens": tokens, "longest_row": 40, "exposures": {"all": spent}}


def test_results_of_two_plans_are_not_mixed():
    with pytest.raises(GradusError, match="trained with plan other.*this experiment has plan p"):
        require_plan({"hash": "p"}, [result("curriculum", 1), result("shuffled", 1, plan="other")])


@pytest.mark.parametrize("apart", [{"steps": 11}, {"tokens": 1041}])
def test_arms_that_spent_different_budgets_are_not_compared(apart):
    require_plan({"hash": "p"}, [result("curriculum", 1), result("shuffled", 1, tokens=1040)])
    with pytest.raises(GradusError, match=r"main/curriculum, seed 1 and main/shuffled, seed 1 had different budgets"):
        require_plan({"hash": "p"}, [result("curriculum", 1), result("shuffled", 1, **apart)])


def drawn(effect, seeds=6, rows=120):
    """Results and losses of three arms; `effect` is what the curriculum's loss is lower by."""
    lots = random.Random(3)
    hard = {f"row{n}": lots.gauss(1, 0.3) for n in range(rows)}
    made, losses = [], []
    for seed in range(1, seeds + 1):
        luck = lots.gauss(0, 0.01)
        for arm in ARMS:
            own = lots.gauss(0, 0.005) - (effect if arm == "curriculum" else 0)
            made.append(result(arm, seed))
            lines = []
            for number, (row, value) in enumerate(hard.items()):
                loss = value + luck + own + lots.gauss(0, 0.02)
                split = "test" if number % 4 else "eval-hard"
                level = "hard" if split == "eval-hard" else ("easy", "medium")[number % 2]
                lines.append({"id": row, "split": split, "level": level, "group": "", "loss": loss})
            losses.append(lines)
    return made, losses


EXPERIMENT = {"control": "growing-random", "primary": "curriculum", "margin": 0.01}


def test_the_primary_comparison_is_first_uncorrected_and_finds_the_effect():
    made, losses = drawn(effect=0.05)
    lines = compare(collect(made, losses, {}, "exact"), EXPERIMENT, {}, ["test", "eval-hard"])
    primary = lines[0]
    assert (primary["arm"], primary["metric"], primary["split"], primary["level"]) == (
        "curriculum",
        "loss",
        "test",
        None,
    )
    assert primary["primary"]
    assert primary["p_holm"] is None
    assert primary["difference"] == pytest.approx(-0.05, abs=0.02)
    assert primary["interval"][1] < 0
    assert (primary["seeds"], primary["items"]) == (6, 90)
    assert said(primary) == "better"
    others = lines[1:]
    assert not any(line["primary"] for line in others)
    assert all(line["p_holm"] >= line["p"] for line in others)
    assert {line["level"] for line in others} == {None, "easy", "medium", "hard"}


def test_no_effect_is_said_to_be_equal_or_not_shown_with_what_would_have_been_found():
    made, losses = drawn(effect=0.0)
    primary = compare(collect(made, losses, {}, "exact"), EXPERIMENT, {}, ["test"])[0]
    assert primary["interval"][0] < 0 < primary["interval"][1]
    assert said({**primary, "equivalent": True}) == "equal within the margin"
    power = f"80% power at {primary['minimum_detectable_effect']:.3g}"
    assert said({**primary, "equivalent": False}) == f"not shown; {power}"


def test_the_primary_arm_is_also_compared_with_its_own_rows_in_another_order():
    definitions = {
        "curriculum": {},
        "growing-random": {"difficulty": "random"},
        "shuffled": {"order": "mixed"},
        "mine": {"order": "difficulty", "replay": 0.1},
    }
    assert reordered(definitions, "curriculum") == ["shuffled"]
    assert reordered(definitions, "mine") == []
    definitions["odd"] = {"difficulty": "random", "order": "mixed"}  # mixed are the phases' own rows
    assert reordered(definitions, "growing-random") == []
    assert reordered(definitions, "curriculum") == ["shuffled", "odd"]
    made, losses = drawn(effect=0.05)
    lines = compare(collect(made, losses, {}, "exact"), EXPERIMENT, {}, ["test"], ["shuffled"])
    assert [(line["arm"], line["control"]) for line in lines if line["primary"]] == [("curriculum", "growing-random")]
    own = next(line for line in lines if (line["control"], line["split"], line["level"]) == ("shuffled", "test", None))
    assert own["arm"] == "curriculum"
    assert own["interval"][1] < 0
    assert own["p_holm"] >= own["p"]


def test_a_seed_of_which_a_training_failed_can_be_left_out_of_all_arms_without_another_plan():
    experiment = config(left_out=[2], answers=[2, 3], variants={"by-length": {"difficulty": "length"}})["experiment"]
    assert {training.seed for training in trainings(experiment)} == {1, 3}
    assert {training.seed for training in answered(experiment)} == {3}
    assert {(name, *variant["seeds"]) for name, variant in variants(experiment).items()} == {
        ("main", 1, 3),
        ("by-length", 1, 3),
    }


def test_grades_of_the_seeds_that_answered_are_compared_as_a_share_where_higher_is_better():
    made, losses = drawn(effect=0.0)
    lots = random.Random(1)
    grades = {
        ("main", one["arm"], one["seed"]): [
            {
                "id": row["id"],
                "split": row["split"],
                "exact": float(lots.random() < (0.9 if one["arm"] == "curriculum" else 0.3)),
            }
            for row in rows
        ]
        for one, rows in zip(made, losses, strict=True)
        if one["seed"] <= 3
    }
    lines = compare(collect(made, losses, grades, "exact"), EXPERIMENT, {}, ["test"])
    exact = next(
        x for x in lines if (x["metric"], x["split"], x["level"], x["arm"]) == ("exact", "test", None, "curriculum")
    )
    assert exact["seeds"] == 3
    assert exact["higher_is_better"]
    assert said(exact) == "better"
    assert said({**exact, "p_holm": 0.3}) == "better; not after Holm’s correction"


def test_tables_name_command_plan_and_n(tmp_path):
    made, losses = drawn(effect=0.05)
    comparisons = compare(collect(made, losses, {}, "exact"), EXPERIMENT, {}, ["test"])
    effects = {"question": "Q?", "plan": "abc" * 5, "command": "snakemake x", "primary": comparisons[0]}
    effects |= {"control": "growing-random", "left_out": []}
    exposures = list(exposure_lines(made))
    text = tables({**effects, "comparisons": comparisons, "trainings": made}, exposures, ["easy", "hard"])
    assert "| main | curriculum | 3 | 1 |" in text
    assert "Left out" not in text
    assert "**Q?**" in text
    assert "snakemake x" in text
    assert "`abcabcabcabc`" in text
    assert "6 seeds, 90 rows" in text
    assert "18 trainings" in text
    more = {"primary": None, "comparisons": comparisons, "trainings": made, "left_out": [4, 7]}
    none = tables({**effects, **more}, exposures, ["easy", "hard"])
    assert "Primary comparison" not in none
    assert "seeds 4, 7." in none


def test_the_seconds_of_the_trainings_have_a_file_of_their_own(tmp_path):
    """All other files of an experiment are the same bytes each time."""
    cost = {"steps": 50.0, "imports": 3.0, "this_attempt": 60.0, "cpu": "a CPU"}
    write_csv(tmp_path / "spent.csv", list(spent_lines([result("curriculum", 1)], [cost])))
    header, line = (tmp_path / "spent.csv").read_text().splitlines()
    assert (header, line) == (
        "variant,arm,seed,seconds,imports_seconds,steps_seconds,cpu",
        "main,curriculum,1,60.0,3.0,50.0,a CPU",
    )


def test_curves_have_a_line_for_each_measurement(tmp_path):
    history = [{"step": 1, "tokens": 5, "loss": 2.0}, {"step": 2, "tokens": 9, "loss": 1.9, "heldout_loss": 1.7}]
    lines = list(curve_lines([result("curriculum", 1)], [history]))
    write_csv(tmp_path / "c.csv", lines)
    with open(tmp_path / "c.csv") as handle:
        assert list(csv.DictReader(handle)) == [
            {"variant": "main", "arm": "curriculum", "seed": "1", "step": "2", "tokens": "9", "heldout_loss": "1.7"}
        ]


def test_a_level_whose_rows_are_one_group_is_left_out_but_the_primary_comparison_says_so():
    made, losses = drawn(effect=0.0, seeds=2, rows=12)
    kin = {row["id"]: "one page" for row in losses[0] if row["level"] == "hard"}
    lines = compare(collect(made, losses, {}, "exact"), EXPERIMENT, kin, ["test", "eval-hard"])
    assert lines
    assert not [line for line in lines if line["level"] == "hard"]
    every = {row["id"]: "one page" for row in losses[0]}
    with pytest.raises(GradusError, match="one unit"):
        compare(collect(made, losses, {}, "exact"), EXPERIMENT, every, ["test"])
