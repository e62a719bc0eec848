"""Problems of known difficulty become rows: the same for the same seed, none twice, wrong answers only in training."""

import json
import os
import subprocess
import sys
from importlib.metadata import version

import pytest
import yaml

from scripts.bench.known_difficulty import correlations, failures, over_trainings, ranks_within, right
from scripts.common.errors import GradusError
from scripts.common.hashing import ROOT
from scripts.common.io import write_jsonl
from scripts.common.records import Record
from scripts.data.convert import make_options
from scripts.data.converters.reasoning_gym import Options, convert, corrupt, draw

SUMS = [{"min_terms": 2, "max_terms": 2, "min_digits": n, "max_digits": n} for n in (2, 3)]
WORDS = [{"min_words": n, "max_words": n} for n in (3, 5)]
TASKS = {"chain_sum": SUMS, "word_sequence_reversal": WORDS}


@pytest.fixture
def package(tmp_path):
    (tmp_path / f"reasoning_gym-{version('reasoning-gym')}-py3-none-any.whl").touch()
    return tmp_path


def options(**given):
    return Options(**{"tasks": TASKS, "train": 10, "valid": 1, "test": 3, **given})


def solve(row):
    if row["prompt"].startswith("Reverse: "):
        return ", ".join(reversed(row["prompt"].removeprefix("Reverse: ").split(", ")))
    one, sign, other, _ = row["prompt"].split()
    return str(int(one) + int(other) if sign == "+" else int(one) - int(other))


def test_rows_are_right_balanced_and_know_their_level(package):
    rows, left_out, counts = convert(package, options())
    assert len(rows) == counts["rows"] == 2 * 2 * 14
    assert left_out == []
    assert all(row["response"] == solve(row) for row in rows)
    for split, count in (("train", 10), ("valid", 1), ("test", 3)):
        found = [(row["source"].split("/")[0], row["difficulty"]) for row in rows if row["split"] == split]
        assert found == [(task, level) for task in TASKS for level in (0, 1) for _ in range(count)]
    words = {row["difficulty"]: row["prompt"].count(",") + 1 for row in rows if row["prompt"].startswith("Reverse")}
    assert words == {0: 3, 1: 5}


def test_no_question_is_asked_twice_even_across_levels_with_the_same_settings(package):
    rows, _, _ = convert(package, options(tasks={"chain_sum": [SUMS[0], SUMS[0]]}, train=60))
    assert len({row["prompt"] for row in rows}) == len(rows)


def test_a_longer_list_of_the_next_level_is_not_a_shorter_one_continued(package):
    rows, _, _ = convert(package, options(tasks={"word_sequence_reversal": WORDS}))
    easy, hard = ([row["prompt"] for row in rows if row["difficulty"] == level] for level in (0, 1))
    assert not [one for one in easy if any(other.startswith(one + ",") for other in hard)]


def test_the_same_seed_gives_the_same_bytes_in_any_process_and_another_seed_others(package):
    code = (
        "import json, sys; from scripts.data.converters.reasoning_gym import Options, convert; "
        "print(json.dumps(convert(sys.argv[1], Options(**json.loads(sys.argv[2])))[0]))"
    )
    given = {"tasks": {**TASKS, "number_sorting": [{}, {}], "number_filtering": [{}, {}]}, "train": 6, "corrupt": 0.5}
    command = [sys.executable, "-c", code, str(package), json.dumps(given)]
    environment = {**os.environ, "PYTHONHASHSEED": "7"}
    elsewhere = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT, env=environment).stdout
    assert elsewhere.strip() == json.dumps(convert(package, Options(**given))[0])
    other = convert(package, Options(**given, seed=2))[0]
    assert not {row["prompt"] for row in other} & {row["prompt"] for row in json.loads(elsewhere)}


def test_only_training_answers_are_made_wrong_and_the_model_cannot_see_which(package):
    clean, noisy = convert(package, options())[0], convert(package, options(corrupt=0.2))[0]
    changed = [(one, other) for one, other in zip(clean, noisy, strict=True) if one != other]
    assert len(changed) == 2 * 2 * 2  # a fifth of ten, for each task and level
    for one, other in changed:
        assert other["split"] == "train"
        assert other["source"] == one["source"] + "/wrong"
        assert {**other, "response": "", "source": ""} == {**one, "response": "", "source": ""}
        assert other["response"] != solve(other)
        alike = [row for row in clean if row["split"] == "train" and row["difficulty"] == one["difficulty"]]
        assert other["response"] in {row["response"] for row in alike if row["source"][:5] == one["source"][:5]}
    assert not [row for row in clean if "wrong" in row["source"]]


def test_more_training_rows_move_no_others(package):
    few, many = convert(package, options())[0], convert(package, options(train=20))[0]
    assert [row for row in few if row not in many] == []


def test_a_task_without_a_wording_of_ours_keeps_the_packages_own(package):
    rows, _, _ = convert(package, options(tasks={"gcd": [{}]}))
    assert rows[0]["prompt"].startswith("Find the Greatest Common Divisor")


def test_an_answer_that_all_share_cannot_be_made_wrong():
    from random import Random

    with pytest.raises(ValueError, match="all answers are the same"):
        corrupt(["1", "1", "1"], 0.5, Random(1))


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"tasks": {}}, "tasks: none; name some"),
        ({"tasks": {"chain_sum": SUMS, "gcd": [{}]}}, "different numbers of levels"),
        ({"tasks": {"chain_sum": [{"seed": 3}]}}, "seed is not a setting of a level"),
        ({"tasks": {"chain_sum": SUMS[0]}}, "not a list with a mapping of settings for each level"),
        ({"corrupt": 1.5}, "corrupt: 1.5 is not from 0 to 1"),
        ({"train": -1}, "train, valid, test: negative"),
        ({"corupt": 0.1}, "did you mean corrupt"),
    ],
)
def test_options_that_make_no_rows_are_refused(given, says):
    import scripts.data.converters.reasoning_gym as module

    with pytest.raises(GradusError, match=says):
        make_options(module.__file__, module, {"tasks": TASKS, **given})


def test_errors_of_the_package_name_the_task_and_what_to_do():
    with pytest.raises(GradusError, match=r"tasks.chainsum: reasoning-gym has no such task; did you mean chain_sum"):
        draw("chainsum", 0, {}, 1, 1, set())
    with pytest.raises(GradusError, match=r"tasks.chain_sum\[1\]: reasoning-gym refuses these settings"):
        draw("chain_sum", 1, {"digits": 2}, 1, 1, set())
    with pytest.raises(GradusError, match=r"only \d+ different problems among 8000, and 400 are wanted; widen"):
        draw("chain_sum", 0, {"min_terms": 2, "max_terms": 2, "min_digits": 1, "max_digits": 1}, 400, 1, set())


def test_another_version_than_the_installed_one_is_refused(tmp_path):
    (tmp_path / "reasoning_gym-0.0.1-py3-none-any.whl").touch()
    with pytest.raises(GradusError, match=r"holds reasoning-gym 0.0.1, but the rows are made by the installed package"):
        convert(tmp_path, options())


def read_run(name):
    return yaml.safe_load((ROOT / f"config/runs/{name}.yaml").read_text())


def test_the_noisy_run_is_the_known_one_with_wrong_answers_and_half_of_the_budget():
    known, noisy = read_run("known-difficulty"), read_run("noisy-answers")
    assert noisy["data"]["package"]["options"].pop("corrupt") == 0.2
    for one, other in zip(known["curriculum"]["phases"], noisy["curriculum"]["phases"], strict=True):
        assert other["rows"] * 2 == one.pop("rows")
        del other["rows"]
    del known["train"]["threads"]
    for config in (known, noisy):
        for key in ("run", "report", "experiment"):
            config.pop(key, None)
    assert noisy == known


def test_the_ablation_is_the_known_run_with_other_schedules():
    known, other = read_run("known-difficulty"), read_run("known-difficulty-schedules")
    assert other["train"].pop("schedule") == "constant_with_warmup"
    assert other["experiment"]["variants"]["restart"]["train"] == {"schedule": "cosine", "schedule_spans": "phase"}
    for config in (known, other):
        for key in ("run", "report", "experiment"):
            config.pop(key, None)
    assert other == known


def row(task, level, number):
    return Record("?", f"{task} {level} {number}", "x", source=f"{task}/{level}/{number}", difficulty=level)


def test_a_scorer_that_tells_tasks_apart_but_not_levels_correlates_within_none():
    # of b there are more hard rows than of a, and the scorer is higher for b
    rows = [row("a", 0, n) for n in range(30)] + [row("a", 1, n) for n in range(10)]
    rows += [row("b", 0, n) for n in range(10)] + [row("b", 1, n) for n in range(30)]
    (found,) = correlations(rows, {one.id: {"taller in b": float(one.source[0] == "b")} for one in rows})
    assert found.overall["rho"] == 0.5
    assert found.within is None
    assert found.tasks == {"a": None, "b": None}


def test_level_and_scorers_are_compared_with_what_an_experiments_models_fail_at(tmp_path):
    rows = [row(task, level, n) for task in "ab" for level in (0, 1) for n in range(20)]
    scores = {one.id: {"right": 5.0 * one.difficulty, "wrong": -1.0 * one.difficulty} for one in rows}
    for arm, more in (("curriculum", 0.0), ("uniform", 1.0)):
        folder = tmp_path / f"experiment/main/{arm}/seed1"
        folder.mkdir(parents=True)
        lines = [{"id": one.id, "split": "test", "loss": one.difficulty + more} for one in rows]
        write_jsonl(folder / "losses.jsonl", [*lines, {"id": "x", "split": "eval-hard", "loss": 9.0}])
    loss = over_trainings(tmp_path, "*", "losses", "loss")
    assert set(loss.values()) == {0.5, 1.5} and "x" not in loss
    assert over_trainings(tmp_path, "curriculum", "losses", "loss")[rows[0].id] == 0
    found = {line[0]: line[1] for line in failures(rows, scores, {"loss": loss})}
    assert [found[name].split()[0] for name in ("true level", "right", "wrong")] == ["1.00", "1.00", "-1.00"]


def test_ranks_within_groups_put_ties_in_the_middle():
    assert ranks_within([5, 7, 7, 100, 200], ["a", "a", "a", "b", "b"]) == pytest.approx(
        [1 / 6, 2 / 3, 2 / 3, 0.25, 0.75]
    )


@pytest.mark.parametrize(
    ("answer", "graded"),
    [(" 12\n", (True, True)), ("It is 12.", (False, True)), ("112", (False, False)), ("-12", (False, False))],
)
def test_a_right_answer_in_other_words_counts_as_contained(answer, graded):
    assert right(Record("5 + 7 =", "12", "x"), answer) == graded
