"""Scorers say what their names say; the mix makes levels; validity tells whether they mean anything."""

import json
import random
from collections import Counter, defaultdict

import numpy as np
import pytest
import yaml

from scripts.common.curriculum import read_curriculum
from scripts.common.difficulty import check_phases, divide, propose, to_levels
from scripts.common.errors import GradusError
from scripts.common.io import write_jsonl
from scripts.common.records import SPLITS, Record, StoredRecords
from scripts.curriculum.score import ScoreParams, check_splits, mix, read_tables, sample, score, scored, written
from scripts.curriculum.scorers import SCORERS, Known, has_word, score_by_rules
from scripts.evaluate.validity import correlation, failures, validity

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
    assert score_by_rules(Record(prompt, response, "qa", checks=checks), RULES) == points


def test_whole_words_have_no_letter_beside_them():
    assert has_word("do it, if you can", ["if"])
    assert not has_word("iffy", ["if"])
    assert not has_word("anything", [])


def test_each_scorer_ranks_the_harder_row_higher():
    rows = [
        Record("List the users.", "list users alpha", "qa", checks=["a"]),
        Record(
            "Notwithstanding aforementioned considerations, enumerate administrators' delegated responsibilities "
            "comprehensively, distinguishing jurisdictions.",
            "zeta quux",
            "qa",
            checks=["a", "b"],
        ),
        Record("Delete the bucket.", "delete bucket beta", "qa"),
    ]
    known = Known(RULES, {"losses": {r.id: {"loss": n + 1.0, "loss_alone": 4.0} for n, r in enumerate(rows)}}, rows)
    found = {name: scorer(rows, known) for name, scorer in SCORERS.items()}
    for name in ("length", "facts", "readability", "retrieval", "loss", "ifd"):
        assert found[name][1] > found[name][0], name
    assert found["facts"] == [1, 2, 0]
    assert found["retrieval"] == [
        0,
        1,
        0,
    ]  # the second's answer shares no word with its prompt: among equals, the middle
    assert found["ifd"] == [0.25, 0.5, 0.75]


def test_retrieval_over_too_many_rows_is_refused():
    known = Known(corpus=[Record("a", "b", "qa")] * 20_001)
    with pytest.raises(GradusError, match="20001 rows to retrieve from"):
        SCORERS["retrieval"]([], known)


def params(weights, thresholds=(1, 2), quantiles=None):
    return ScoreParams(weights, thresholds, quantiles, RULES)


def test_one_scorer_keeps_its_unit_and_several_are_mixed_as_ranks():
    scores = {"length": np.array([10.0, 30.0, 20.0, 1000.0]), "facts": np.array([4.0, 3.0, 2.0, 1.0])}
    assert list(mix(scores, params({"length": 1}))) == [10, 30, 20, 1000]
    assert list(mix(scores, params({"length": 3, "facts": 1}))) == pytest.approx([0.3125, 0.625, 0.375, 0.6875])


def test_thresholds_and_quantiles_make_levels():
    values = np.array([0.0, 1.0, 1.5, 2.0, 9.0])
    assert list(to_levels(values, [1, 2], None)) == [0, 1, 1, 2, 2]
    many = np.arange(100.0)
    assert list(np.bincount(to_levels(many, None, [0.3, 0.8]))) == [30, 50, 20]
    assert list(np.bincount(to_levels(many, None, [0.2, 0.4, 0.6, 0.8]))) == [20] * 5
    assert list(to_levels(values, [1.5], None)) == [0, 0, 1, 1, 1]
    assert list(to_levels(np.array([]), None, [0.3, 0.8])) == []


def run(tmp_path, rows, given=frozenset(), weights=None, known=None, hardest=2, thresholds=(1, 2), size=500):
    write_jsonl(tmp_path / "dataset.jsonl", (r.to_json() for r in rows))
    settings = params(weights or {"rules": 1, "length": 0}, thresholds)
    sizes = dict.fromkeys(SPLITS, size)
    records = StoredRecords(tmp_path / "dataset.jsonl")
    found = score(records, settings, known or Known(RULES), given, hardest, sizes)
    rows = list(scored(records, range(len(records)), given, found.level, hardest))
    return rows, found.mixed, found.compared


def test_difficulty_is_capped_kept_if_brought_and_carves_eval_hard(tmp_path):
    hard = Record("Why? " + "word " * 90, "if", "qa", split="test")
    brought = Record("Why? " + "word " * 91, "if", "qa", split="test", difficulty=0)
    given = Record("Why? " + "word " * 92, "if", "qa", split="test")
    train = Record("Why? " + "word " * 93, "if", "qa", split="train")
    rows, each, compared = run(tmp_path, [hard, brought, given, train], {given.id})
    assert [(r.difficulty, r.split) for r in rows] == [(2, "eval-hard"), (0, "test"), (2, "test"), (2, "train")]
    assert list(each) == ["rules"]
    assert compared[hard.id] == {"length": len(hard.prompt) + 2 + 1 - 1}


@pytest.mark.parametrize("levels", [2, 5])
def test_eval_hard_is_the_hardest_of_any_number_of_levels(tmp_path, levels):
    rows = [Record(f"p{n} " * n, "r", "qa", split="test") for n in range(1, 60)]
    found, _, _ = run(
        tmp_path, rows, weights={"length": 1}, hardest=levels - 1, thresholds=(30, 60, 90, 120)[: levels - 1]
    )
    assert {r.difficulty for r in found} == set(range(levels))
    assert {r.difficulty for r in found if r.split == "eval-hard"} == {levels - 1}
    assert {r.difficulty for r in found if r.split == "test"} == set(range(levels - 1))


def test_scorers_that_are_only_compared_look_at_every_row_that_is_asked(tmp_path):
    """Rows are asked by the smallest ids of a split, once eval-hard is carved out of test: a sample taken before that
    misses hard rows wherever they are few."""
    rows = [Record(f"easy {n}", "r", "qa", split="test") for n in range(200)]
    rows += [Record(f"hard {n} " + "word " * 80, "r", "qa", split="test") for n in range(20)]
    found, _, compared = run(tmp_path, rows, size=20)
    asked = [
        row
        for split in ("test", "eval-hard")
        for row in sorted((r for r in found if r.split == split), key=lambda r: r.id)[:20]
    ]
    assert {row.split for row in asked} == {"test", "eval-hard"}
    assert {row.id for row in asked} <= set(compared)


def difficulties(counts, scores, **section):
    section = {"levels": ["easy", "medium", "hard"], **section}
    section.setdefault(
        "phases", [{"name": n, "levels": section["levels"][: i + 1]} for i, n in enumerate(section["levels"])]
    )
    check_phases(dict(zip(section["levels"], counts, strict=True)), read_curriculum(section), scores)


def test_rows_that_a_scorer_does_not_divide_stop_the_run_with_a_scorer_that_does():
    """590 short texts: rules give 98% easy and none hard, so the hard phase would train on the same rows again."""
    scores = {"rules": [0.0] * 578 + [1.0] * 12, "length": [float(n) for n in range(590)], "facts": [0.0] * 590}
    with pytest.raises(GradusError) as fault:
        difficulties([578, 12, 0], scores)
    message = str(fault.value)
    assert "no training row is hard, so the hard phase would have no rows of its own" in message
    assert "578 easy, 12 medium, 0 hard" in message
    assert "length 30/50/20%" in message
    pasted = yaml.safe_load(message[message.index("score:") :])
    assert pasted == {"score": {"weights": {"rules": 0, "length": 1, "facts": 0}, "quantiles": [0.3, 0.8]}}


def test_a_level_without_rows_is_no_fault_where_no_phase_needs_it():
    difficulties([578, 12, 0], {}, phases=[{"name": "train", "levels": ["easy", "medium", "hard"]}])
    difficulties([5, 0, 1], {}, phases=[{"name": "a", "levels": ["easy"]}, {"name": "b", "levels": ["medium", "hard"]}])
    difficulties([5, 5], {}, levels=["low", "high"])


def test_rows_that_no_scorer_divides_are_advised_to_be_one_phase():
    with pytest.raises(GradusError, match="No scorer separates these rows. Train them in one phase") as fault:
        difficulties([9, 0, 0], {"length": [5.0] * 9})
    pasted = yaml.safe_load(str(fault.value)[str(fault.value).index("curriculum:") :])
    assert pasted == {"curriculum": {"phases": [{"name": "train", "levels": ["easy", "medium", "hard"]}]}}


def test_of_scorers_that_divide_alike_the_better_predictor_is_proposed():
    scores = {"length": list(range(100)), "facts": [n // 2 for n in range(100)], "rules": [n // 90 for n in range(100)]}
    shares, proposal = propose(scores, 3)
    assert proposal.scorer == "facts"
    assert shares["rules"] == divide(scores["rules"], [0.3, 0.8]) == [0.9, 0.0, 0.1]
    assert propose(scores, 5)[1].quantiles == [0.2, 0.4, 0.6, 0.8]


def test_a_rows_bytes_do_not_hang_on_other_rows(tmp_path):
    """Scores that do are kept apart, or a phase would be trained again for a row that it never saw."""
    rows = [Record(f"row {n} " * (n % 9), f"answer {n}", "qa", split="train") for n in range(40)]
    weights = {"rules": 1, "length": 0, "retrieval": 0, "readability": 0}
    first = {r.id: json.dumps(r.to_json()) for r in run(tmp_path, rows[:20], weights=weights)[0]}
    after = {r.id: json.dumps(r.to_json()) for r in run(tmp_path, rows, weights=weights)[0]}
    assert {key: after[key] for key in first} == first


def test_a_split_without_rows_stops_before_training(tmp_path):
    counts = defaultdict(Counter, {"train": Counter(easy=3)})
    with pytest.raises(GradusError, match="of 3 records none is in test"):
        check_splits(counts, "test")


def test_the_split_that_is_evaluated_first_is_the_one_that_needs_rows():
    counts = defaultdict(Counter, {"train": Counter(easy=3), "test": Counter(easy=1)})
    check_splits(counts, "test")
    with pytest.raises(GradusError, match=r"in eval-unseen \(train 3, test 1\).*rows without a group never get there"):
        check_splits(counts, "eval-unseen")
    del counts["test"]
    counts["eval-unseen"]["easy"] = 1
    check_splits(counts, "eval-unseen")


# --- validity


def table(values, difficulty):
    return {
        str(n): {"difficulty": d, "scores": {"length": v}}
        for n, (v, d) in enumerate(zip(values, difficulty, strict=True))
    }


def test_a_scorer_that_predicts_failures_is_told_from_one_that_does_not():
    lots = random.Random(1)
    hard = [n % 3 for n in range(300)]
    scores = table([lots.random() for _ in hard], hard)
    right = [{"id": str(n), "exact": float(lots.random() > 0.2 + 0.3 * d), "stopped": 1.0} for n, d in enumerate(hard)]
    found = validity(scores, {"base": right}, "base")
    assert found["scorers"]["difficulty"]["failures"]["base"]["rho"] > 0.3
    assert found["scorers"]["difficulty"]["failures"]["base"]["low"] > 0.2
    assert abs(found["scorers"]["length"]["failures"]["base"]["rho"]) < 0.15
    assert found["warnings"] == []
    assert found["agreement"]["difficulty"]["length"] == found["scorers"]["difficulty"]["length"]["rho"]


def test_weak_labels_and_labels_that_are_mere_length_are_warned_of():
    lots = random.Random(2)
    hard = [n % 3 for n in range(200)]
    answers = [{"id": str(n), "exact": float(lots.random() > 0.5)} for n in range(200)]
    found = validity(table([float(d) for d in hard], hard), {"base": answers}, "base")
    assert "the difficulty label is weak: its rank correlation with the failures of base" in found["warnings"][0]
    assert "little more than length" in found["warnings"][1]
    easier = [{"id": str(n), "exact": n % 3 / 2} for n in range(200)]
    found = validity(table([float(d) for d in hard], hard), {"base": easier}, "base")
    assert "points the wrong way, harder rows fail less often" in found["warnings"][0]


def test_a_base_that_fails_everything_judges_nothing_and_it_is_said():
    found = validity(
        table(range(40), [n % 3 for n in range(40)]),
        {"base": [{"id": str(n), "exact": 0.0} for n in range(40)]},
        "base",
    )
    assert found["scorers"]["length"]["failures"]["base"] is None
    assert "say nothing about scorers" in found["warnings"][0]


def test_failures_leave_out_how_an_answer_stopped():
    assert failures([{"id": "a", "exact": 0.0, "operation": 1.0, "stopped": 1.0}]) == {"a": 0.5}


def test_the_correlation_is_scipys_with_an_interval_around_it():
    values = list(range(30))
    found = correlation(values, [v + (7 * v) % 11 for v in values])
    assert found["low"] < found["rho"] < found["high"] <= 1
    assert correlation(values, [1] * 30) is None
    assert correlation(values[:19], values[:19]) is None


def test_a_scorer_looks_up_any_file_that_a_rule_made_for_it(monkeypatch, tmp_path):
    """A judge's marks, say, are an entry of LOOKED_UP and a scorer; nothing in between names them."""
    rows = [Record(f"q{n}", f"a{n}", "qa") for n in range(3)]
    write_jsonl(tmp_path / "marks.jsonl", [{"id": row.id, "mark": n} for n, row in enumerate(rows)])
    monkeypatch.setitem(SCORERS, "judge", lambda some, known: [known.tables["marks"][row.id]["mark"] for row in some])
    known = Known(RULES, read_tables({"marks": str(tmp_path / "marks.jsonl")}))
    assert SCORERS["judge"](rows, known) == [0, 1, 2]


def test_two_processes_score_and_sample_as_one_does(tmp_path, monkeypatch):
    monkeypatch.setattr("scripts.curriculum.score.PART", 2000)
    random.seed(3)
    made = [Record("word " * random.randrange(1, 200), f"answer {n}", "qa", split="test") for n in range(9000)]
    write_jsonl(tmp_path / "rows.jsonl", (record.to_json() for record in made))
    records = StoredRecords(tmp_path / "rows.jsonl")
    settings = params({"rules": 1, "length": 2, "facts": 0}, None, [0.3, 0.8])
    sizes = dict.fromkeys(SPLITS, 300)
    found = []
    for processes in (1, 2):
        scores = score(records, settings, Known(RULES), set(), 2, sizes, processes)
        lines = list(written(records, range(9000), set(), scores, 2))
        found.append((list(scores.mix), list(scores.level), scores.compared, lines))
    assert found[0] == found[1]
    everything = sample(scored(records, range(9000), set(), scores.level, 2), sizes)
    assert list(found[0][2]) == [record.id for record in everything]
    assert len(everything) == 600  # of test, and of eval-hard


def test_stored_records_are_a_sequence_and_retrieval_is_mixed_from_them(tmp_path):
    made = [Record(f"question {n}", f"answer {n}", "qa", split="test") for n in range(30)]
    _, mixed, _ = run(tmp_path, made, weights={"retrieval": 1})
    assert len(mixed["retrieval"]) == 30
    records = StoredRecords(tmp_path / "dataset.jsonl")
    assert [record.id for record in records] == [record.id for record in made]
    assert [record.id for record in records[28:40]] == [made[28].id, made[29].id]
    with pytest.raises(IndexError):
        records[30]
    whole = (tmp_path / "dataset.jsonl").read_text()
    (tmp_path / "dataset.jsonl").write_text(whole[:-9])
    with pytest.raises(GradusError, match=r"dataset.jsonl:30: not JSON .*; each line must hold one JSON object"):
        list(StoredRecords(tmp_path / "dataset.jsonl"))
