"""The audit counts what it says it counts, and each finding says what to do."""

import sys

import pytest
from tokenizers.normalizers import NFC

from scripts.common.hashing import ROOT
from scripts.common.html import write_page
from scripts.common.io import write_jsonl
from scripts.common.records import Record, StoredRecords
from scripts.common.tokens import TokenCounter
from scripts.data.audit import Tally, audit
from scripts.data.findings import find_labels

LEVELS = ["easy", "medium", "hard"]
QUIET = {
    "ingest": {"rows": 1000, "records": 1000, "rejected": 0, "reasons": {}},
    "masked": {"enabled": True, "touched": 0, "values": {}},
    "duplicates": {"left_out": {}, "contradictions": 0, "rows_with_near_copies": 0, "largest_cluster": 1},
    "split": {"left_out": 0},
    "contamination": {"found": {}, "left_out": 0},
    "difficulty": {"mix": {"easy": 300, "medium": 500, "hard": 200}, "weights": {"rules": 1}},
}


def rows(count=1000, response="answer {}", task="qa"):
    splits = ["train"] * 8 + ["valid", "test"]
    return [Record(f"question {n}", response.format(n), task, split=splits[n % 10]) for n in range(count)]


def look(base, contract, records, task="qa", max_length=512, levels=LEVELS, **more):
    counts = {**QUIET, **more}
    return audit(records, TokenCounter(base, contract), task, max_length, levels, counts)[0]


def told(facts):
    assert all(finding["do"] for finding in facts["findings"])
    return " | ".join(f"{finding['level']}: {finding['what']}" for finding in facts["findings"])


def test_a_sound_dataset_gives_figures_and_no_warning(base, contract):
    facts = look(base, contract, rows())
    assert told(facts) == "ok: no problems found"
    assert facts["splits"] == {"train": 800, "valid": 100, "test": 100}
    assert facts["tokens"]["response"] == {"p50": 11, "p95": 11, "max": 11}  # a token a byte, and the end of turn


def test_rows_that_are_too_long_are_counted_and_the_longest_named(base, contract):
    long = [
        Record("x" * 900, "y", "qa", split="train", source="f:7"),
        Record("x" * 600, "y", "qa", split="train", source="f:8"),
    ]
    facts = look(base, contract, [*rows(), *long])
    assert facts["too_long"] == 2
    assert "warning: 2 rows are longer than train.max_length (512 tokens); the longest has" in told(facts)
    assert "(f:7)" in told(facts)
    assert "1 row is longer than train.max_length" in told(look(base, contract, [*rows(), long[0]]))


def test_one_of_anything_is_told_as_one(base, contract):
    found = look(
        base,
        contract,
        rows(),
        ingest={"rows": 1001, "records": 1000, "rejected": 1, "reasons": {"not JSON": 1}},
        masked={"enabled": True, "touched": 1, "values": {"EMAIL_ADDRESS": 1}},
        duplicates={**QUIET["duplicates"], "left_out": {"exact duplicate": 1}},
        contamination={"found": {"test: near-copy": 1, "test: n-grams": 2}, "left_out": 1},
    )
    for words in (
        "1 of 1001 rows was rejected",
        "masked in 1 row: ",
        "1 exact duplicate was left out",
        "3 in test (1 near-copy, 2 by shared word sequences)",
    ):
        assert words in told(found)
    assert any(each["do"].startswith("1 was left out of the evaluation") for each in found["findings"])


def test_rows_that_llama_cpp_would_read_otherwise_are_counted_and_the_first_named(base, contract):
    """Qwen's tokenizer composes accents; llama.cpp does not."""
    plain = [
        Record("Zoe\u0308", "y", "qa", split="train", source="f:7"),
        Record("q", "cafe\u0301", "qa", split="train", source="f:8"),
        Record("Zo\u00eb", "caf\u00e9", "qa", split="train", source="f:9"),
    ]
    counter = TokenCounter(base, contract)
    assert "NFC" not in told(audit([*rows(), *plain], counter, "qa", 512, LEVELS, QUIET)[0])
    counter.tokenizer.normalizer = NFC()
    facts = audit([*rows(), *plain], counter, "qa", 512, LEVELS, QUIET)[0]
    assert "warning: 2 rows are not in Unicode's NFC; the first is f:7" in told(facts)


def test_few_rows_and_a_lopsided_mix_are_warned_of(base, contract):
    facts = look(base, contract, rows(300), difficulty={"mix": {"easy": 230, "hard": 10}, "weights": {}})
    assert "warning: only 240 training rows" in told(facts)
    assert "easy 96%, medium 0%, hard 4%, far from the recommended 30/50/20" in told(facts)


def test_augmented_rows_are_counted_and_do_not_make_few_rows_many(base, contract):
    made = [Record(f"made {n}", "y", "qa", split="train", augmented=True) for n in range(600)]
    facts = look(base, contract, [*rows(300), *made])
    assert facts["augmented"] == 600
    assert "warning: only 240 training rows, not counting 600 augmented ones" in told(facts)
    assert "augmented" not in look(base, contract, rows())


def test_rejected_answers_are_counted_and_their_lengths_compared_with_the_right_ones(base, contract):
    """Preference tuning learns that shorter is better where it nearly always is."""
    assert "rejected" not in look(base, contract, rows())
    records = rows()
    for record in records[:100]:
        record.rejected = ["no"] if record.id < "e" else ["x" * 600, "answer 9"]
    facts = look(base, contract, records)
    train = [record for record in records[:100] if record.split == "train"]
    pairs = [(record.response, text) for record in train for text in record.rejected]
    found = facts["rejected"]
    assert found["rows"] == {"train": 80, "valid": 10, "test": 10}
    assert found["pairs"] == len(pairs) > 80
    assert found["right_is_longer"] == sum(len(right) > len(wrong) for right, wrong in pairs)
    assert found["rejected_is_longer"] == found["too_long"] == sum(len(wrong) == 600 for _, wrong in pairs)
    assert found["tokens"]["rejected"] == {"p50": 3, "p95": 601, "max": 601}
    assert "note: 100 rows have rejected answers, 80 of them in training" in told(facts)
    assert f"warning: {found['too_long']} rejected answers are longer with the prompt than train.max" in told(facts)
    longer = f"the right answer is the longer one in {found['right_is_longer']} of {len(pairs)} pairs"
    assert f"warning: {longer} of training rows (median 10 tokens if right, 3 if rejected)" in told(facts)
    for record in records[:100]:
        record.rejected = ["answer ??"]
    facts = look(base, contract, records)
    assert "longer one" not in told(facts)


def test_the_page_shows_rejected_answers_and_is_the_same_without(base, contract, tmp_path):
    pages = []
    records, duplicates = rows(), {**QUIET["duplicates"], "by": "prompt", "threshold": 0.8}
    for rejected in ([], ["no"]):
        records[0].rejected = records[8].rejected = rejected
        facts = look(base, contract, records, duplicates=duplicates)
        page = {"audit": facts, "run": "x", "splits": [], "mix": [], "figures": {"lengths": ""}}
        write_page(ROOT / "scripts/data/audit.html.j2", page, tmp_path / "audit.html")
        pages.append((tmp_path / "audit.html").read_text(encoding="utf-8"))
    assert "ejected answer" not in pages[0]
    assert "Rows with rejected answers: train 1, valid 1. In the 1 pair of training rows,\nthe right" in pages[1]


def test_rejected_answers_that_left_with_their_rows_are_told(base, contract):
    facts = look(base, contract, rows(), duplicates={**QUIET["duplicates"], "rejected": {"left_out": 3}})
    assert "note: 3 rejected answers were left out with near-copies" in told(facts)


def test_the_mix_has_every_level_in_order_however_many(base, contract):
    levels = ["a", "b", "c", "d", "e"]
    given = [Record(f"q{n}", "r", "qa", split="train", difficulty=n % 5) for n in range(10)]
    mix = {"e": 60, "a": 10, "c": 30}
    facts = look(base, contract, [*rows(), *given], levels=levels, difficulty={"mix": mix, "weights": {}})
    assert list(facts["difficulty"]["mix"].items()) == [("a", 10), ("b", 0), ("c", 30), ("d", 0), ("e", 60)]
    assert facts["given_difficulty"] == dict.fromkeys(levels, 2)
    assert "a 10%, b 0%, c 30%, d 0%, e 60%, far from the recommended 20/20/20/20/20" in told(facts)


def test_formats_that_contradict_each_other_are_found(base, contract):
    facts = look(base, contract, rows(500) + rows(500, '{{"a": {}}}'))
    assert facts["formats"] == {"text": 500, "json": 500}
    assert "500 responses are JSON, 500 are not" in told(facts)


def test_labels_seen_once_untrained_or_alike_are_named(base, contract):
    records = [Record(f"q{n}", ["cat", "dog"][n % 2], "classify", split="train") for n in range(800)]
    records += [Record("a", "Cat ", "classify", split="train"), Record("b", "bird", "classify", split="test")]
    text = told(look(base, contract, records, "classify"))
    assert "labels seen once: 'Cat', 'bird'" in text
    assert "labels without a training row: 'bird'" in text
    assert "labels that differ only in case or whitespace: 'Cat', 'cat'" in text
    assert "the most frequent label has 400 rows, the rarest 1" in text


def test_one_label_in_training_and_answers_that_are_no_json_are_warned_of():
    facts = {"task": "classify", "labels": {"a": {"train": 9}, "b": {"test": 1}}, "formats": {"text": 10}, "fields": {}}
    assert "all training rows have the same label: 'a'" in [found["what"] for found in find_labels(facts)]
    facts |= {"task": "extract", "labels": {}, "formats": {"json": 5, "text": 3}}
    assert [found["what"] for found in find_labels(facts)] == [
        "3 responses are not JSON, which data.task extract requires"
    ]


def test_a_thousand_different_labels_are_no_labels(base, contract):
    assert "more than 200 different labels" in told(look(base, contract, rows(1000, task="classify"), "classify"))


def test_fields_of_objects_are_counted_and_rare_ones_named(base, contract):
    facts = look(
        base,
        contract,
        [*rows(999, '{{"a": {}}}', "extract"), Record("q", '{"a": 1, "b": 2}', "extract", split="train")],
        "extract",
    )
    assert facts["fields"] == {"a": 1000, "b": 1}
    assert "fields in less than 1% of the objects: b" in told(facts)


def test_what_the_rules_before_found_is_told(base, contract):
    facts = look(
        base,
        contract,
        rows(),
        ingest={"rows": 1010, "records": 1000, "rejected": 10, "reasons": {"not JSON": 10}},
        masked={"enabled": True, "touched": 3, "values": {"EMAIL_ADDRESS": 4}},
        duplicates={
            "left_out": {"exact duplicate": 5},
            "contradictions": 2,
            "rows_with_near_copies": 600,
            "largest_cluster": 70,
        },
        contamination={"found": {"test: near-copy": 19, "test: n-grams": 3, "valid: near-copy": 6}, "left_out": 28},
    )
    text = told(facts)
    for words in (
        "10 of 1010 rows were rejected",
        "masked in 3 rows: 4 EMAIL_ADDRESS",
        "5 exact duplicates were left out",
        "different responses: 2",
        "600 of 1000 rows have near-copies",
        "22 in test (19 near-copies, 3 by shared word sequences), 6 in valid",
    ):
        assert words in text
    assert "masking is off" in told(look(base, contract, rows(), masked={"enabled": False, "touched": 0, "values": {}}))


@pytest.mark.parametrize("script", ["data/audit", "data/ingest", "data/mask", "data/deduplicate", "curriculum/score"])
def test_the_audit_and_all_before_it_need_no_torch(script):
    import subprocess

    code = f"import scripts.{script.replace('/', '.')}, sys; assert not set(sys.modules) & {{'torch', 'transformers'}}"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_two_processes_find_what_one_does(base, contract, tmp_path):
    """Rows of several parts, of which every statistic has some: counted in one piece, in parts, and by two processes."""
    made = rows(5000)
    for number, record in enumerate(made):
        record.group, record.source, record.response = f"group {number % 70}", f"f:{number}", f"label {number % 7}"
        record.rejected = ["another"] if number % 9 == 0 else []
        record.response = '{"a": 1}' if number % 11 == 0 else record.response
        record.prompt += " long" * (200 if number in (2500, 4501) else number % 5)
        record.difficulty = number % 3 if number % 2 else None
        record.augmented = number % 50 == 0
        record.context = (
            [{"role": "user", "content": "before"}, {"role": "assistant", "content": "so"}] if number % 60 == 0 else []
        )
    write_jsonl(tmp_path / "rows.jsonl", (record.to_json() for record in made))
    counter = TokenCounter(base, contract)
    stored = StoredRecords(tmp_path / "rows.jsonl")
    found = [audit(stored, counter, "classify", 512, LEVELS, QUIET, processes) for processes in (1, 2)]
    whole = Tally("classify", 512)
    whole.add(made, counter.count(made), counter.count_answers([text for record in made for text in record.rejected]))
    assert found[0] == found[1]
    assert vars(found[0][1]) == vars(whole)
    facts = found[0][0]
    assert facts["longest"] == "f:2500"
    assert (facts["groups"], facts["too_long"], facts["rejected"]["rows"]["valid"]) == (70, 2, 56)
    assert sum(facts["given_difficulty"].values()) == 2500
