"""The contenders that need no model, and the training rows that are shown as examples."""

import runpy
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from scripts.common.answers import Answer
from scripts.common.errors import GradusError
from scripts.common.io import read_json, read_jsonl, write_jsonl
from scripts.common.prompts import conversations
from scripts.common.records import Record
from scripts.common.shots import choose_fixed, count_fewer, read_shots, shots
from scripts.contenders import linear, nearest
from scripts.contenders.contender import number_kin, write_answers
from scripts.contenders.majority import find_majority
from scripts.contenders.neighbors import find_neighbors
from scripts.contenders.similarity import find_nearest
from scripts.evaluate.choose_examples import choose_examples
from scripts.tasks.classify import CLASSIFY
from scripts.tasks.task import Task, text_exact


def classified(*pairs, **more):
    return [Record(prompt, label, "classify", **more) for prompt, label in pairs]


ANIMALS = classified(
    *((f"the {color} {animal} {verb}", animal) for color in ("red", "old", "big") for animal in ("cat", "dog", "cow")
      for verb in ("runs", "sleeps", "eats", "sings"))
)  # fmt: skip


VERSIONS = classified(*((f"{kind}{n * 7919 % 997}", kind) for kind in ("chrome", "safari") for n in range(9)))


def test_equally_near_rows_come_in_the_order_of_the_rows():
    assert find_nearest(np.array([0.5, 1, 0, 1, 0.5, 0.5]), 4) == [1, 3, 0, 4]
    assert find_nearest(np.array([0.0, 0.0]), 16) == [0, 1]


def test_neighbors_are_training_rows_and_the_nearest_comes_first():
    train = classified(("list the buckets", "s3"), ("list the users of an account", "iam"), ("stop a task", "ecs"))
    asked = [Record("and now?", "iam", "classify", context=[{"role": "user", "content": "list all users"}])]
    (found,) = find_neighbors(train, asked)
    assert found == {"id": asked[0].id, "neighbors": [train[1].id, train[0].id, train[2].id]}
    assert list(find_neighbors(train, [])) == []


def test_texts_without_words_have_neighbors_too():
    train = classified(("+", "plus"), ("-", "minus"))
    assert [line["neighbors"][0] for line in find_neighbors(train, classified(("-", "?"), ("∑", "?")))] == [
        train[1].id,
        train[0].id,
    ]


def test_the_nearest_row_is_found_by_what_tells_the_rows_apart():
    """The words are all different, and only their beginnings say which answer is right."""
    choice = nearest.choose(VERSIONS, "row", CLASSIFY)
    assert choice["similarity"] == "characters"
    reached = {row["similarity"]: row["metrics"]["accuracy"] for row in choice["tried"]}
    assert reached["characters"] == {"value": 1, "n": 18} and reached["bm25"]["value"] < 1
    assert nearest.fit_answer(VERSIONS, classified(("safari12345", "?")), choice["similarity"]) == ["safari"]


def test_a_row_is_no_evidence_for_its_kin():
    """Held-out rows have no row of their group among the training rows, so the choice must not see any either."""
    train = [Record(f"page {page} says {n}", page, "classify", group=page) for page in ("ab", "cd") for n in range(3)]
    told = [answer == row.response for row, answer, _ in nearest.leave_one_out(train, "row", "words")]
    assert all(told) and len(told) == 6
    assert not any(answer == row.response for row, answer, _ in nearest.leave_one_out(train, "group", "words"))
    assert nearest.leave_one_out(train[:3], "group", "words") == []
    assert nearest.choose(train[:1], "row", CLASSIFY)["similarity"] == "bm25"


def test_equal_main_metrics_are_decided_by_the_next_one():
    for main in (lambda *_: 0.0, lambda *_: None):
        task = Task("own", {"checks": lambda *_: None, "main": main, "last": text_exact}, "main")
        assert nearest.choose(VERSIONS, "row", task)["similarity"] == "characters"


def test_kin_are_what_the_split_keeps_together():
    rows = [Record(f"q{n}", "a", "qa", group="g" if n < 2 else "", thread="t" if n in (2, 3) else "") for n in range(5)]
    for by, sizes in (("group", [2, 2, 1]), ("row", [1, 1, 1, 2])):
        assert sorted(np.bincount(number_kin(rows, by))) == sorted(sizes)


def test_an_augmented_row_is_kin_of_the_rows_of_its_source_and_of_their_kin():
    rows = [Record(f"q{n}", "a", "qa", group=f"g{n // 2}", source=f"s{n}") for n in range(6)]
    rows += [Record(f"made {n}", "a", "qa", source=f"s{n}", augmented=True) for n in (0, 0, 4)]
    rows += [Record("new", "a", "qa", source="vocabulary", augmented=True)]
    by_row, by_group = number_kin(rows, "row"), number_kin(rows, "group")
    assert by_row[0] == by_row[6] == by_row[7] and by_row[4] == by_row[8] and len(set(by_row)) == 7
    assert len({by_group[n] for n in (0, 1, 6, 7)}) == len({by_group[n] for n in (4, 5, 8)}) == 1
    assert len(set(by_group)) == 4
    paraphrased = [Record(f"say {n}", n, "classify", source=n, augmented=made) for n in "ab" for made in (False, True)]
    paraphrased = [replace(row, prompt=f"{row.prompt} {row.augmented}", id="") for row in paraphrased]
    assert not any(answer == row.response for row, answer, _ in nearest.leave_one_out(paraphrased, "row", "words"))


def test_the_commonest_label_is_the_first_in_the_alphabet_if_two_are():
    assert find_majority(classified(("a", "x"), ("b", "y"), ("c", "y "), ("d", "x"), ("e", "z"))) == "x"


def test_a_linear_model_learns_labels_and_says_what_it_tried():
    choice = linear.choose(ANIMALS, "row")
    best = max(row["accuracy"] for row in choice["tried"])
    assert best == 1 and len(choice["tried"]) == 12 and choice["folds"] == 5
    assert linear.choose(ANIMALS[::-1], "row") == choice
    asked = classified(("a small cow looks", "cow"), ("the cat", "cat"))
    assert linear.fit_answer(ANIMALS, asked, choice) == ["cow", "cat"]


@pytest.mark.parametrize(
    ("train", "folds"),
    [
        ([*ANIMALS, *classified(("the green bird", "bird"))], 5),  # a label with a single row
        (classified(("a", "x"), ("b", "x")), 2),  # one label
        (classified(("a", "x"), ("b", "y")), 0),  # nothing to cross-validate with
        ([Record(f"q{n}", "xy"[n % 2], "classify", group="same") for n in range(8)], 0),
    ],
)
def test_rare_labels_do_not_stop_a_linear_model(train, folds):
    choice = linear.choose(train, "group")
    assert choice["folds"] == folds and bool(choice["tried"]) == bool(folds)
    answers = linear.fit_answer(train, train, choice)
    assert len(answers) == len(train) and set(answers) <= {row.response for row in train}
    assert linear.fit_answer(train, [], choice) == []


def test_no_fold_answers_rows_whose_kin_it_was_fitted_on():
    labels, kin = np.array(["a", "b"] * 20), np.repeat(np.arange(8), 5)
    folds = list(linear.make_folds(labels, kin))
    assert len(folds) == 5 and sorted(np.concatenate([asked for _, asked in folds])) == list(range(40))
    assert not any(set(kin[fitted]) & set(kin[asked]) for fitted, asked in folds)


def test_answers_of_a_contender_have_no_tokens_and_an_empty_split_has_no_answers(tmp_path):
    files = {name: [str(tmp_path / f"{split}.{name}") for split in "ab"] for name in ("records", "answers", "speed")}
    for file, rows in zip(files["records"], (ANIMALS, []), strict=True):
        write_jsonl(file, [row.to_json() for row in rows])
    job = SimpleNamespace(
        input=SimpleNamespace(records=files["records"]),
        output=SimpleNamespace(answers=files["answers"], speed=files["speed"]),
        params=SimpleNamespace(max_rows=[3, 3]),
    )
    write_answers(job, lambda asked: ["cat"] * len(asked), 1.5)
    rows = list(read_jsonl(files["answers"][0]))
    assert [row["id"] for row in rows] == sorted(row.id for row in ANIMALS)[:3]
    assert {(row["text"], row["stopped"], row["tokens"]) for row in rows} == {("cat", True, None)}
    speed = read_json(files["speed"][0])
    assert (speed["rows"], speed["tokens"], speed["tokens_per_s"], speed["fit_seconds"]) == (3, None, None, 1.5)
    assert list(read_jsonl(files["answers"][1])) == [] and read_json(files["speed"][1])["rows"] == 0


def test_fixed_examples_show_each_label_once_before_any_twice():
    train = [*ANIMALS, *classified(("the green bird", "bird"))]
    chosen = choose_fixed(train, 6)
    assert {row.response for row in chosen[:4]} == {"cat", "dog", "cow", "bird"} and chosen[3].response == "bird"
    assert len({row.id for row in chosen}) == 6
    assert chosen == choose_fixed(train[::-1], 6)


def test_fixed_examples_are_not_the_longest_rows():
    train = [Record(f"question {n}", f"answer {n}" + " and more" * (n % 2) * 50, "qa") for n in range(20)]
    assert max(len(row.response) for row in choose_fixed(train, 10)) < 50


def test_examples_come_before_the_conversation_of_the_row_and_the_nearest_last(contract):
    earlier = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "hi"}]
    row = Record("and the last?", "x", "qa", context=earlier)
    near = {row.id: [ANIMALS[0].id, ANIMALS[1].id, ANIMALS[2].id]}
    shown = shots([row], ANIMALS, near, 2, "nearest")
    assert shown == [{row.id: [ANIMALS[1], ANIMALS[0]]}, {row.id: [ANIMALS[0]]}, {row.id: []}]
    (asked,) = conversations(contract, [row], shots=shown[0])
    said = [ANIMALS[1].prompt, ANIMALS[1].response, ANIMALS[0].prompt, ANIMALS[0].response, "hello", "hi", row.prompt]
    assert [turn["content"] for turn in asked] == [contract.system_prompt, *said]
    assert [turn["role"] for turn in asked[1:]] == [*["user", "assistant"] * 3, "user"]


@pytest.mark.parametrize("choose", ["fixed", "nearest"])
def test_more_examples_than_training_rows_are_refused(choose):
    with pytest.raises(GradusError, match="examples.count is 4, and there are only 3 training rows.*lower it"):
        shots(ANIMALS[3:4], ANIMALS[:3], {ANIMALS[3].id: [row.id for row in ANIMALS[:3]]}, 4, choose)


@pytest.mark.parametrize("choose", ["fixed", "nearest"])
def test_a_contender_that_nobody_asked_for_takes_what_there_is(choose):
    key = ANIMALS[3].id
    shown = shots(ANIMALS[3:4], ANIMALS[:3], {key: [row.id for row in ANIMALS[:3]]}, 4, choose, at_most=True)
    assert [len(version[key]) for version in shown] == [3, 2, 1, 0]
    assert count_fewer(4, [3, 3]) == {"count": 4, "rows_with_fewer": 2, "fewest": 3}
    assert count_fewer(4, [])["rows_with_fewer"] == 0


@pytest.mark.parametrize("name", ["majority", "linear", "nearest", "neighbors"])
def test_without_training_rows_contenders_say_so(name, tmp_path, capsys):
    write_jsonl(tmp_path / "none.jsonl", [])
    write_jsonl(tmp_path / "asked.jsonl", [row.to_json() for row in ANIMALS])
    asked = str(tmp_path / "asked.jsonl")
    params = {"max_rows": [9], "by": "row", "task": "classify", "headline": None}
    job = SimpleNamespace(
        input=SimpleNamespace(train=str(tmp_path / "none.jsonl"), records=asked if name == "neighbors" else [asked]),
        output=SimpleNamespace(**dict.fromkeys(("answers", "speed"), [str(tmp_path / "x")])),
        params=SimpleNamespace(**params),
        resources={},
        log=[str(tmp_path / "log")],
    )
    job.output.choice = job.output.neighbors = str(tmp_path / "y")
    with pytest.raises(SystemExit):
        runpy.run_path(f"scripts/contenders/{name}.py", {"snakemake": job})
    said = capsys.readouterr().err
    assert "none.jsonl: there are no training rows, so there is nothing to learn from" in said
    assert "bug" not in said


def test_examples_are_those_that_the_validation_rows_chose(tmp_path):
    write_jsonl(tmp_path / "train.jsonl", [row.to_json() for row in ANIMALS])
    write_jsonl(tmp_path / "near.jsonl", [{"id": "q", "neighbors": [row.id for row in ANIMALS[:16]]}])
    write_jsonl(tmp_path / "chosen.json", [{"count": 2, "choose": "nearest", "tried": []}])
    files = {"train": tmp_path / "train.jsonl", "neighbors": tmp_path / "near.jsonl"}
    asked = [Record("?", "x", "qa", id="q")]
    options = {"count": [2, 4], "choose": ["fixed", "nearest"]}
    count, shown = read_shots(options, asked, {**files, "chosen": tmp_path / "chosen.json"})
    assert (count, shown[0]) == (2, {"q": ANIMALS[:2][::-1]})
    _, shown = read_shots({"count": 4, "choose": "fixed"}, asked, {"train": files["train"]})
    assert [version["q"] for version in shown] == [choose_fixed(ANIMALS, number) for number in (4, 3, 2, 1, 0)]
    write_jsonl(files["train"], [])
    with pytest.raises(GradusError, match="there are no training rows"):
        read_shots({"count": 4, "choose": "fixed"}, asked, files, at_most=True)


def test_validation_rows_decide_about_examples():
    rows, near = ANIMALS[:2], {row.id: [other.id for other in ANIMALS[4:20]] for row in ANIMALS[:2]}

    def ask(shown):
        """Right if the examples are the nearest ones, however many."""
        found = shown[0][rows[0].id][-1] is ANIMALS[4]
        return [Answer(row.response if found else "?", True, 0, 0) for row in rows]

    lists = {"count": [8, 1], "choose": ["nearest", "fixed"]}
    chosen = choose_examples(CLASSIFY, rows, ANIMALS, near, lists, ask)
    assert (chosen["count"], chosen["choose"]) == (1, "nearest")
    assert [(row["count"], row["choose"], row["value"], row["n"]) for row in chosen["tried"]] == [
        (1, "fixed", 0, 2),
        (1, "nearest", 1, 2),
        (8, "fixed", 0, 2),
        (8, "nearest", 1, 2),
    ]
    same = choose_examples(CLASSIFY, rows, ANIMALS, near, lists, lambda shown: [Answer("?", True, 0, 0)] * 2)
    assert (same["count"], same["choose"]) == (1, "fixed")
    with pytest.raises(GradusError, match="no validation rows"):
        choose_examples(CLASSIFY, [], ANIMALS, {}, lists, ask)
