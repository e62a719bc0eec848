"""Pairs for preference tuning: which answers they are of, what is refused, in what order they are learned from."""

import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from scripts.common.errors import GradusError
from scripts.common.io import write_jsonl
from scripts.common.isolate import run_isolated
from scripts.common.pairs import Pair, read_pair_steps, read_pairs, write_pair_steps, write_pairs
from scripts.common.records import Record
from scripts.preference.check_pairs import check_metric, own_pairs, refuse_held_out, refuse_long, require_some
from scripts.preference.make_pairs import (
    Graded,
    apart,
    choose_two,
    count,
    drop_copies,
    grade_samples,
    require_enough,
    sampled_pairs,
    usable,
)
from scripts.preference.order_pairs import keep_easiest, lay_out, ledger, measure
from scripts.preference.sample_answers import choose_rows, sample_answers, sample_seed
from scripts.tasks.qa import QA
from tests.unit.test_decode import PROMPTS, model  # noqa: F401 - a fixture

ROW = Record("list my users", "aws iam list-users", "qa", source="rows.csv:3")


# sampling


def drawn(path, prompts, seeds, sequences, temperature=1.0, copies=True):
    """Return the answers, and how many prompts were read."""
    from scripts.common.decode import Decoder

    decoder = Decoder(path, 1, sequences, 200)
    reads, read = [], decoder._read

    def counted(tokens, first, place):
        reads.append(len(tokens))
        return read(tokens, first, place)

    decoder._read = counted
    encoded = [decoder.tokenize(prompt) for prompt in prompts]
    return decoder.answer(encoded, 40, None, lambda: None, temperature, seeds), len(reads)


EACH = [prompt for prompt in (PROMPTS[0], PROMPTS[1], PROMPTS[3], PROMPTS[5]) for _ in range(3)]  # two are as long
SEEDS = list(range(100, 112))


def test_an_answer_depends_on_its_own_seed_and_on_no_other_answer(model):  # noqa: F811
    together, reads = run_isolated("decoding", drawn, model, EACH, SEEDS, 5)
    assert reads == 4 + 1  # each prompt once, and what all begin with
    assert len({tuple(ids) for ids, _ in together}) > 8
    assert {stopped for _, stopped in together} == {True, False}
    for sequences in (1, 12):
        assert run_isolated("decoding", drawn, model, EACH, SEEDS, sequences) == (together, 5)
    other = [*SEEDS[:5], 7, *SEEDS[6:]]
    changed, _ = run_isolated("decoding", drawn, model, EACH, other, 5)
    assert [left == right for left, right in zip(together, changed, strict=True)] == [seed != 7 for seed in other]
    # the same prompts in another order are read more often, and answered alike
    mixed = sorted(range(12), key=lambda i: (i % 3, i))
    again, reads = run_isolated("decoding", drawn, model, [EACH[i] for i in mixed], [SEEDS[i] for i in mixed], 5)
    assert reads > 5 and again == [together[i] for i in mixed]


def test_a_temperature_near_zero_is_greedy_and_a_high_one_is_not(model):  # noqa: F811
    greedy, _ = run_isolated("decoding", drawn, model, EACH, (), 3, 0)
    cold, _ = run_isolated("decoding", drawn, model, EACH, SEEDS, 3, 0.001)
    assert cold == greedy
    hot, _ = run_isolated("decoding", drawn, model, EACH, SEEDS, 3, 3.0)
    assert hot != greedy


def test_tokens_are_drawn_as_often_as_the_softmax_says():
    from scripts.common.decode import draw_token

    generator = np.random.default_rng(1)
    logits = np.log(np.array([0.1, 0.2, 0.7], np.float32)) + 1000
    found = Counter(draw_token(logits, 1, generator) for _ in range(3000))
    assert [found[token] / 3000 for token in range(3)] == pytest.approx([0.1, 0.2, 0.7], abs=0.03)
    warm = Counter(draw_token(logits, 2, generator) for _ in range(3000))
    roots = np.sqrt([0.1, 0.2, 0.7])
    assert [warm[token] / 3000 for token in range(3)] == pytest.approx(list(roots / roots.sum()), abs=0.03)


def test_rows_are_drawn_by_seed_and_others_do_not_move_them():
    train = [Record(f"ask {n}", "x", "qa") for n in range(50)]
    made = [Record(f"made {n}", "x", "qa", augmented=True) for n in range(50)]
    chosen = choose_rows([*train, *made], 10, 1)
    assert len(chosen) == 10 and not any(row.augmented for row in chosen)
    assert choose_rows(train[::-1], 10, 1) == chosen
    assert choose_rows(train, 20, 1)[:10] == chosen
    assert choose_rows(train, 10, 2) != chosen
    assert len(choose_rows(train, None, 1)) == 50
    without = choose_rows([row for row in train if row != chosen[0]], 10, 1)
    assert without[:9] == chosen[1:]
    seeds = {sample_seed(seed, row, number) for seed in (1, 2) for row in train[:3] for number in (1, 2)}
    assert len(seeds) == 12


def test_the_model_answers_each_row_several_times(random_gguf, contract):
    asked = [Record(f"ask {n}", "x", "qa", source=f"rows.csv:{n}") for n in range(3)]
    settings = {"max_tokens": 6, "sequences": 4, "threads": 1, "gpu_layers": 0}
    lines, speed = sample_answers(random_gguf, contract, asked, 1, 2, 1.0, settings)
    assert [(line["id"], line["sample"]) for line in lines] == [(row.id, n) for row in asked for n in (1, 2)]
    assert len({line["text"] for line in lines}) == 6
    assert speed["rows"] == 6
    assert sample_answers(random_gguf, contract, asked, 1, 2, 1.0, settings)[0] == lines
    fewer, _ = sample_answers(random_gguf, contract, asked[1:], 1, 2, 1.0, settings)
    assert [line["text"] for line in fewer] == [line["text"] for line in lines[2:]]


# pairs


def test_each_rejected_answer_of_a_row_is_a_pair_with_the_rows_response():
    row = replace(ROW, rejected=["aws iam list-roles", "aws s3 ls"])
    assert [(pair.record.response, pair.rejected) for pair in own_pairs([ROW, row])] == [
        ("aws iam list-users", "aws iam list-roles"),
        ("aws iam list-users", "aws s3 ls"),
    ]


@pytest.mark.parametrize("wrong", ["aws iam  list-users\n", "aws iam get-users"])
def test_a_rejected_answer_that_is_a_right_one_is_an_error_that_names_the_row(wrong):
    row = replace(ROW, accepted=["aws iam get-users"], rejected=[wrong])
    with pytest.raises(GradusError, match=r"rows.csv:3: the rejected answer .* is also the right one"):
        list(own_pairs([row]))


def graded(*answers):
    """Return answers to a row, given as (text, value) or (text, value, stopped), as `grade_samples` does."""
    found = {}
    for number, (text, value, *rest) in enumerate(answers, 1):
        key = (text, *rest)
        times = found[key].times + 1 if key in found else 1
        first = found[key].sample if key in found else number
        found[key] = Graded(first, text, rest == [] or rest[0], times, value)
    return list(found.values())


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ([("a", 1.0), ("b", 0.0)], ("a", "b")),
        ([("a", 1.0), ("c", 0.0), ("b", 0.0), ("b", 0.0)], ("a", "b")),  # the commoner
        ([("a", 1.0), ("c", 0.0), ("b", 0.0)], ("a", "c")),  # the earlier
        ([("d", 1.0), ("a", 1.0), ("a", 1.0), ("b", 0.0)], ("a", "b")),
        ([("a", 1.0, False), ("d", 1.0), ("b", 0.0)], ("d", "b")),  # one that was cut off is never chosen
        ([("a", 1.0), ("b", 0.0, False)], ("a", "b")),  # but may be rejected
        ([("a", 0.9), ("e", 0.5), ("b", 0.3)], ("a", "b")),
        ([("a", 0.7), ("b", 0.2)], ("a", "b")),  # 0.7 - 0.2 is 0.49999999999999994
        ([("a", 1.0), ("d", 1.0)], "all_right"),
        ([("a", 0.0), ("d", 0.0)], "all_wrong"),
        ([("a", 0.6), ("d", 0.2)], "no_gap"),
        ([("a", 1.0, False), ("d", 0.0, False)], "cut_off"),
        ([("a", 1.0, False), ("d", 0.0)], "no_gap"),
        ([("a", None), ("d", None)], "not_graded"),
        ([("a b", 1.0), ("a  b", 0.0)], "same"),
        ([("a", 1.0), ("aws  iam list-users", 0.0)], "same"),  # the reference, by its words
    ],
)
def test_the_best_answer_against_the_worst(answers, expected):
    found = choose_two(ROW, graded(*answers), 0.5)
    assert (found if isinstance(found, str) else (found[0].text, found[1].text)) == expected


def samples(record, *texts):
    return [
        {"id": record.id, "sample": number, "text": text, "stopped": True, "gguf_sha256": "f00"}
        for number, text in enumerate(texts, 1)
    ]


def test_answers_are_graded_once_each_by_the_tasks_metric():
    other = Record("list my roles", "aws iam list-roles", "qa", checks=["list-roles"], accepted=["aws iam roles"])
    lines = [*samples(ROW, "x", "aws iam list-users", "x"), *samples(other, "aws iam roles", "no")]
    found = grade_samples([other, ROW], lines, QA, "exact")
    assert [(one.sample, one.text, one.times, one.value) for one in found[ROW.id]] == [
        (1, "x", 2, 0),
        (2, "aws iam list-users", 1, 1),
    ]
    pairs, without = sampled_pairs([other, ROW], found, 0.5, "f00")
    assert [(pair.record.response, pair.rejected) for pair in pairs] == [
        ("aws iam roles", "no"),
        ("aws iam list-users", "x"),
    ]
    assert pairs[1].origin == {
        "made": "sampled",
        "gguf_sha256": "f00",
        "chosen": {"sample": 2, "value": 1},
        "rejected": {"sample": 1, "value": 0},
    }
    assert not without
    _, without = sampled_pairs([other, ROW], grade_samples([other, ROW], lines, QA, "pass"), 0.5, "f00")
    assert without == {"not_graded": 1, "all_wrong": 1}  # ROW has no checks
    batch = replace(QA, batch={"length": lambda records, answers: [min(len(text) / 9, 1) for text in answers]})
    assert [one.value for one in grade_samples([other, ROW], lines, batch, "length")[ROW.id]] == [1 / 9, 1]
    with pytest.raises(GradusError, match="no metric 'exakt' of a row; known metrics: .*exact.*similarity"):
        grade_samples([other, ROW], lines, QA, "exakt")
    with pytest.raises(GradusError, match="belongs to no training row"):
        grade_samples([other], lines, QA, "exact")


def test_a_pair_that_asks_what_a_held_out_row_asks_stops_the_run():
    held_out = [Record("delete  Bob", "x", "qa", source="test.csv:9"), Record("list my\nusers", "y", "qa")]
    pairs = [Pair(Record("delete Bob", "x", "qa", source="rows.csv:7"), "z")]
    with pytest.raises(GradusError, match=r"rows.csv:7: .* asks the same as the held-out row test.csv:9\. .*leave-out"):
        refuse_held_out(pairs, held_out)
    after = replace(pairs[0].record, context=[{"role": "user", "content": "list users"}])
    refuse_held_out([Pair(after, "z")], held_out)  # another conversation
    sampled = [*pairs, Pair(after, "z")]
    assert apart(sampled, held_out) == sampled[1:]  # the model's own are left out


def test_what_cannot_be_used_is_said_before_training():
    pairs = [Pair(Record(f"ask {n}", "x", "qa", source=f"rows.csv:{n}"), "z") for n in range(2, 7)]
    refuse_long(pairs, [(10, 6)] * 5, 16)
    with pytest.raises(
        GradusError, match=r"2 rejected answers are longer .* \(16 tokens\): rows.csv:3 \(17 tokens\), rows.csv:6"
    ):
        refuse_long(pairs, [(10, 6), (10, 7), (10, 6), (10, 6), (1, 90)], 16)
    check_metric(QA, "exact")
    with pytest.raises(GradusError, match="preference.metric: task qa has no metric 'exakt' of a row; known: .*exact"):
        check_metric(QA, "exakt")
    require_some(3, {"rows": 5, "min_pairs": 4})
    require_some(4, {"rows": 0, "min_pairs": 4})
    with pytest.raises(GradusError, match=r"only 3 pairs .* because preference.rows is 0; preference.min_pairs is 4"):
        require_some(3, {"rows": 0, "min_pairs": 4})


def test_near_copies_of_an_earlier_pair_are_dropped_but_not_other_wrong_answers_to_the_row():
    text = "delete the bucket with the name of the second customer in the list of the third region, " * 2
    text += "which has been empty since the fourth of July, but keep whatever else he has in other regions or accounts"
    row = Record(text, "aws s3api delete-bucket --bucket two", "qa")
    near = Record(text + "s", "aws s3api delete-bucket --bucket two", "qa")
    pairs = [
        Pair(row, "aws s3 rb s3://two"),
        Pair(near, "aws s3 rb s3://two"),
        Pair(row, "aws ec2 terminate-instances"),
        Pair(ROW, "aws s3 rb s3://two"),
    ]
    assert drop_copies(pairs, 0.8) == [pairs[0], *pairs[2:]]
    assert drop_copies([], 0.8) == []


def test_too_few_pairs_stop_the_run_with_what_would_give_more():
    pairs = [Pair(ROW, "aws s3 ls and more", {"made": "own"}), Pair(ROW, "x", {"made": "sampled"})]
    counts = count(pairs, 10, {"all_right": 8, "all_wrong": 1}, {"near_copies": 1})
    assert (counts["own"], counts["sampled"], counts["rows_with_pairs"], counts["near_copies"]) == (1, 1, 1, 1)
    assert counts["mean_characters"] == {"chosen": 18, "rejected": 9.5} and counts["chosen_longer"] == 1
    require_enough(counts, 2, "hard")
    with pytest.raises(GradusError, match="only 2 pairs .* after phase hard.*asked: 10; all answers right: 8.*remove"):
        require_enough(counts, 3, "hard")
    with pytest.raises(GradusError, match="all wrong: 8.*preference.samples.*train the supervised phase longer"):
        require_enough(count(pairs, 10, {"all_wrong": 8}, {}), 3, "hard")
    with pytest.raises(GradusError, match="asked no rows. Set preference.rows"):
        require_enough(count([], 0, {}, {}), 1, "hard")


# order


def pairs_of(number):
    return [Pair(Record(f"ask {n}", f"right {n}", "qa"), f"wrong {n}", {"made": "own"}) for n in range(number)]


OTHER = {"other": -9.0, "other_answer": "right 3"}


def lines_of(difficulties):
    """Return a reference in which `pairs_of` have these difficulties: the right answer has -1 a token."""
    return [
        {
            "pair": pair.key,
            "chosen": -2.0,
            "chosen_tokens": 2,
            "rejected": 4 * (value - 1.0),
            "rejected_tokens": 4,
            **OTHER,
        }
        for pair, value in zip(pairs_of(len(difficulties)), difficulties, strict=True)
    ]


def test_difficulty_is_how_much_the_reference_prefers_the_wrong_answer_per_token():
    line = {"chosen": math.log(0.5) * 3, "chosen_tokens": 3, "rejected": math.log(0.8) * 2, "rejected_tokens": 2}
    line |= {"pair": pairs_of(1)[0].key}
    (alone,) = measure(pairs_of(1), [line])
    assert alone.pair.reference == (line["chosen"], line["rejected"]) and alone.pair.other is None
    line |= OTHER
    (one,) = measure(pairs_of(1), [line])
    assert one.difficulty == pytest.approx(math.log(0.8) - math.log(0.5), abs=1e-6) and one.difficulty > 0
    assert one.pair.reference == (line["chosen"], line["rejected"], -9) and one.pair.other == "right 3"
    with pytest.raises(
        GradusError, match=r"the reference's 1 lines are not those of the 2 pairs; delete reference.jsonl"
    ):
        measure(pairs_of(2), [line])
    with pytest.raises(GradusError, match=r"the reference's 2 lines are not those of the 2 pairs"):
        measure(pairs_of(2), lines_of([1, 2])[::-1])


def test_the_easiest_share_is_kept_and_comes_easiest_first_in_each_epoch():
    measured = measure(pairs_of(10), lines_of([3, -1, 2, 0, 5, 4, 1, 9, 8, 7]))
    kept = keep_easiest(measured, 0.5)
    assert [one.difficulty for one in kept] == [-1, 0, 1, 2, 3]
    assert len(keep_easiest(measured, 0.01)) == 1
    steps = lay_out(kept, "difficulty", 2.6, 4, 1)
    assert [len(step) for step in steps] == [4, 4, 4, 1]
    order = [one.difficulty for step in steps for one in step]
    assert order[:10] == [-1, 0, 1, 2, 3] * 2
    assert order[10:] == sorted(order[10:]) and len(set(order[10:])) == 3
    # a part of an epoch is drawn from all pairs, not from the easiest
    assert any(lay_out(kept, "difficulty", 0.4, 4, seed)[0][-1].difficulty == 3 for seed in range(9))


def test_random_order_differs_by_epoch_and_seed_and_others_do_not_move_a_pair():
    measured = measure(pairs_of(20), lines_of(range(20)))

    def order(pairs=measured, epochs=2.0, seed=1):
        return [one.pair.rejected for step in lay_out(pairs, "random", epochs, 8, seed) for one in step]

    found = order()
    assert set(found[:20]) == set(found[20:]) and found[:20] != found[20:]
    assert found == order(measured[::-1]) != order(seed=2)
    assert order(epochs=1) == found[:20] and found[0] != "wrong 0"
    fewer = order([one for one in measured if one.pair.rejected != "wrong 7"], 1)
    assert fewer == [text for text in found[:20] if text != "wrong 7"]


def test_the_ledger_says_what_was_kept_and_the_limit():
    measured = measure(pairs_of(4), lines_of([1, 0, 3, 2]))
    kept = keep_easiest(measured, 0.75)
    told = ledger(4, kept, 2, 0.75)
    assert told["too_hard"] == 1 and told["kept"] == 3 and told["limit"] == 2
    assert told["mean_tokens"] == {"chosen": 2, "rejected": 4} and told["mean_difficulty"] == 1
    assert ledger(4, measured, 2, 1.0)["limit"] is None


def test_pairs_are_read_as_they_were_written(tmp_path):
    record = Record("ask", "right", "qa", difficulty=2, split="train", rejected=["wrong", "other"], source="a:1")
    pair = Pair(record, "wrong", {"made": "own"})
    write_pairs(tmp_path / "pairs.jsonl", [pair])
    (read,) = read_pairs(tmp_path / "pairs.jsonl")
    assert read == replace(pair, record=replace(record, difficulty=None, rejected=[]))
    steps = lay_out(measure(pairs_of(5), lines_of(range(5))), "difficulty", 1, 2, 1)
    laid = [[one.pair for one in step] for step in steps]
    write_jsonl(tmp_path / "steps.jsonl", write_pair_steps(laid))
    assert read_pair_steps(tmp_path / "steps.jsonl") == laid


def test_an_answer_that_would_not_fit_training_is_left_out():
    rows = [{"prompt_tokens": 10, "tokens": count, "text": "é", "stopped": True} for count in (4, 5, 6)]
    silent = {**rows[0], "text": ""}
    bad = [{**rows[0], "text": "\ufffd"}, {**silent, "stopped": False}]
    assert usable([*rows, *bad, silent], 16) == [*rows[:2], silent]  # the end of turn is a token, too
