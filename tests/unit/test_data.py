"""Rows are checked, split by hashes, scored and laid out in phases."""

import itertools
import json
from collections import Counter

import pytest

from scripts.common.errors import GradusError
from scripts.common.records import Record
from scripts.curriculum.phase import lay_out
from scripts.curriculum.score import has_word, score, score_by_rules
from scripts.data.ingest import ingest
from scripts.data.split import cluster, shingles, split

SHARES = {"near_copy_threshold": 0.8, "valid_share": 0.1, "test_share": 0.2, "unseen_share": 0.2}


def write(tmp_path, *lines):
    file = tmp_path / "rows.jsonl"
    file.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines) + "\n")
    return file


def row(number, **more):
    return {"prompt": f"question number {number}", "response": f"{number * 7919 % 1000003:x} is the answer", **more}


def records(count, **more):
    return [Record(**row(n), task="qa", group=f"g{n // 4}", **more) for n in range(count)]


@pytest.mark.parametrize(
    ("line", "field", "words"),
    [
        ("{not json", "", "not JSON"),
        ({"prompt": "a", "response": "  "}, "response", "empty"),
        ({"prompt": "a"}, "response", "missing"),
        ({"prompt": "a", "response": "b", "anwser": 1}, "anwser", "no such field"),
        ({"prompt": "a", "response": "b", "difficulty": 3}, "difficulty", "not 0, 1 or 2"),
        ({"prompt": "a", "response": "b", "split": "dev"}, "split", "not one of"),
        ("[1]", "", "not a JSON object"),
    ],
)
def test_a_bad_row_stops_with_file_line_field_and_reason(tmp_path, line, field, words):
    file = write(tmp_path, row(1), line)
    with pytest.raises(GradusError) as fault:
        ingest([file], "qa", 0)
    assert f"{file}:2: {field + ': ' if field else ''}" in str(fault.value)
    assert words in str(fault.value)


def test_a_share_of_bad_rows_can_be_allowed_and_is_listed(tmp_path):
    kept, rejected, counts = ingest([write(tmp_path, row(1), row(2), row(1), "x")], "qa", 0.25)
    assert len(kept) == 2
    assert [(item["line"], item["reason"][:9]) for item in rejected] == [(3, "duplicate"), (4, "not JSON ")]
    assert counts == {"rows": 4, "records": 2, "left_out": {"duplicate": 1, "faulty": 1}}


def test_ids_ignore_spacing_and_fields_that_are_not_content():
    assert Record("a  b", "c", "qa").id == Record("a b", "c\n", "qa", source="x").id != Record("a c", "b", "qa").id


def test_splits_do_not_hang_on_order_and_groups_stay_unseen():
    first, _, _ = split(records(400), 1, "response", **SHARES)
    again, _, _ = split(list(reversed(records(400))), 1, "response", **SHARES)
    assert {r.id: r.split for r in first} == {r.id: r.split for r in again}
    places = {name: {r.group for r in first if r.split == name} for name in ("train", "eval-unseen")}
    assert places["eval-unseen"]
    assert not places["eval-unseen"] & places["train"]
    assert len({r.split for r in first}) == 4


def test_adding_rows_moves_no_row():
    before = {r.id: r.split for r in split(records(200), 1, "response", **SHARES)[0]}
    after = {r.id: r.split for r in split(records(400), 1, "response", **SHARES)[0]}
    assert all(after.get(key, place) == place for key, place in before.items())


def test_near_copies_never_stand_on_both_sides():
    texts = [f"aws ec2 describe-things --filters Name=thing-{n % 40},Values={n // 40}" for n in range(400)]
    rows = [Record(f"q{n}", text, "command", group=f"g{n % 13}") for n, text in enumerate(texts)]
    kept, left_out, _ = split(rows, 1, "response", **SHARES)
    assert len(kept) + len(left_out) == len({r.id for r in rows})
    held_out = [r for r in kept if r.split != "train"]
    train = [r for r in kept if r.split == "train"]
    for a, b in itertools.product(held_out, train):
        one, other = shingles(a.response, 4), shingles(b.response, 4)
        assert len(one & other) < 0.8 * len(one | other)


def test_a_split_that_a_row_brings_is_kept():
    rows = records(50, split="test")
    assert {r.split for r in split(rows, 1, "prompt", **SHARES)[0]} == {"test"}


def test_clusters_are_transitive():
    labels = cluster(["abcdefghijkl", "abcdefghijkX", "zzzzzzzzzzzz", "abcdefghijkl"], 0.7)
    assert labels == [0, 0, 2, 0]


RULES = {
    "words_per_point": 40,
    "max_length_points": 2,
    "reasoning_words": ["why", "diagnose", "tradeoff"],
    "reasoning_points": 1,
    "many_checks": 3,
    "checks_points": 1,
    "conditional_words": ["if", "--query"],
    "conditional_points": 1,
}


@pytest.mark.parametrize(
    ("prompt", "response", "checks", "points"),
    [
        ("short", "x", [], 0),
        ("word " * 40, "x", [], 1),
        ("word " * 200, "x", [], 2),
        ("Why?", "x", [], 1),
        ("whynot", "x", [], 0),
        ("short", "x", ["a", "b", "c"], 1),
        ("short", "Only IF it rains", [], 1),
        ("short", "a gift", [], 0),
        ("short", "aws s3 ls --query a", [], 1),
        ("short", "aws s3 ls --query-language a", [], 1),
        ("Why? " + "word " * 80, "if", ["a", "b", "c"], 5),
    ],
)
def test_rules_count_whole_words(prompt, response, checks, points):
    assert score_by_rules(Record(prompt, response, "qa", checks), RULES) == points


def test_whole_words_have_no_letter_beside_them():
    assert has_word("do it, if you can", ["if"])
    assert not has_word("iffy", ["if"])
    assert not has_word("anything", [])


def test_difficulty_is_capped_kept_if_brought_and_carves_eval_hard():
    hard = Record("Why? " + "word " * 90, "if", "qa", split="test")
    brought = Record("Why? " + "word " * 91, "if", "qa", split="test", difficulty=0)
    given = Record("Why? " + "word " * 92, "if", "qa", split="test")
    train = Record("Why? " + "word " * 93, "if", "qa", split="train")
    counts = score([hard, brought, given, train], {given.id}, "rules", RULES)
    assert [(r.difficulty, r.split) for r in (hard, brought, given, train)] == [
        (2, "eval-hard"),
        (0, "test"),
        (2, "test"),
        (2, "train"),
    ]
    assert counts["mix"]["test"] == {"easy": 1, "hard": 1}


def graded(easy, medium, hard):
    levels = [0] * easy + [1] * medium + [2] * hard
    return [Record(f"p{n}", f"r{n}", "qa", difficulty=level) for n, level in enumerate(levels)]


def test_phases_are_cumulative_and_complete_by_default():
    phases, schedule = lay_out(graded(6, 10, 4), "curriculum", 1, {"easy": None, "medium": None, "hard": None}, 8)
    assert [len(phases[name]) for name in ("easy", "medium", "hard")] == [6, 16, 20]
    assert {r.difficulty for r in phases["medium"]} == {0, 1}
    assert {r.id for r in phases["easy"]} < {r.id for r in phases["medium"]} < {r.id for r in phases["hard"]}
    assert schedule["hard"] == {"rows": 20, "steps": 3}


def test_a_budget_repeats_nothing_before_all_was_seen():
    phases, _ = lay_out(graded(60, 100, 40), "curriculum", 1, {"easy": 20, "medium": 60, "hard": 120}, 8)
    seen = Counter(r.id for rows in phases.values() for r in rows)
    assert max(seen.values()) == 1
    assert {r.difficulty for r in phases["hard"]} == {0, 1, 2}


def test_a_budget_above_the_pool_goes_round_again():
    phases, _ = lay_out(graded(4, 1, 1), "curriculum", 1, {"easy": 10, "medium": None, "hard": None}, 8)
    assert sorted(Counter(r.id for r in phases["easy"]).values()) == [2, 2, 3, 3]


def test_an_edited_hard_row_leaves_the_other_phases_alone():
    rows, sizes = graded(20, 30, 10), {"easy": 10, "medium": 20, "hard": 30}
    before, _ = lay_out(rows, "curriculum", 1, sizes, 8)
    edited = [*rows[:-1], Record("another", "row", "qa", difficulty=2)]
    after, _ = lay_out(edited, "curriculum", 1, sizes, 8)
    for phase in ("easy", "medium"):
        assert [r.id for r in before[phase]] == [r.id for r in after[phase]]


def test_the_control_arm_sees_the_same_rows_in_another_order():
    sizes = {"easy": 10, "medium": 30, "hard": 50}
    ours, _ = lay_out(graded(20, 30, 10), "curriculum", 1, sizes, 8)
    control, schedule = lay_out(graded(20, 30, 10), "shuffled", 1, sizes, 8)
    flat = [[r.id for rows in phases.values() for r in rows] for phases in (ours, control)]
    assert Counter(flat[0]) == Counter(flat[1])
    assert flat[0] != flat[1]
    assert [part["rows"] for part in schedule.values()] == [10, 30, 50]


def test_an_empty_phase_says_what_to_do():
    with pytest.raises(GradusError, match="easy phase would be empty"):
        lay_out(graded(0, 3, 3), "curriculum", 1, {"easy": None, "medium": None, "hard": None}, 8)


def test_a_split_without_rows_stops_before_training():
    with pytest.raises(GradusError, match="of 3 records none is in test"):
        score(records(3, split="train"), set(), "rules", RULES)
