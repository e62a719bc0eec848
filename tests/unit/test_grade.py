"""Grades are what their names say."""

from collections import Counter

import pytest

from scripts.common.errors import GradusError
from scripts.common.records import Record
from scripts.evaluate.grade import grade
from scripts.tasks.qa import QA
from scripts.tasks.table import load_task
from scripts.tasks.task import Task

REFERENCE = Record("make Bob", "aws iam create-user --user-name Bob --path /a/", "command")


def grades(answer, stopped=True, record=REFERENCE, task="command"):
    rows, _, _ = grade([record], [{"id": record.id, "text": answer, "stopped": stopped}], load_task(task))
    return {name: round(value, 3) for name, value in rows[0].items() if name != "id"}


ALL = {"exact": 1, "operation": 1, "option_f1": 1, "stopped": 1, "valid": 1}


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("aws iam create-user --path '/a/' --user-name Bob", ALL),
        ("aws iam create-user --user-name Bob", {**ALL, "exact": 0, "option_f1": 0.667}),
        ("aws iam create-user --user-name Eve --path /a/", {**ALL, "exact": 0}),
        ("aws iam create-user --nickname Bob", {**ALL, "exact": 0, "option_f1": 0, "valid": 0}),
        ("aws iam delete-user --user-name Bob", {**ALL, "exact": 0, "operation": 0, "option_f1": 0}),
        ("aws iam create-person --user-name Bob", {**ALL, "exact": 0, "operation": 0, "option_f1": 0, "valid": 0}),
        ("aws nosuch create-user", {**ALL, "exact": 0, "operation": 0, "option_f1": 0, "valid": 0}),
        ("You could try aws iam", {"exact": 0, "operation": 0, "option_f1": 0, "stopped": 1, "valid": 0}),
        ("aws iam create-user --path 'open", {"exact": 0, "operation": 0, "option_f1": 0, "stopped": 1, "valid": 0}),
    ],
)
def test_commands(answer, expected):
    assert grades(answer) == expected


@pytest.mark.parametrize(
    "answer",
    [
        "aws s3api list-objects --bucket b --max-items 3 --query Contents --region eu-west-1",
        "aws ec2 wait instance-running --instance-ids i-1",
        "aws ec2 run-instances --image-id ami-1 --no-dry-run",
    ],
)
def test_botocore_knows_renamed_services_paging_waiters_and_negated_flags(answer):
    assert grades(answer)["valid"] == 1


def test_an_answer_that_was_cut_off_did_not_stop_by_itself():
    assert grades("aws iam create-user", stopped=False)["stopped"] == 0


def test_rows_without_checks_count_in_no_check_metric():
    """Else the metric is the better the fewer rows have checks."""
    plain = Record("q2", "Paris", "qa")
    asked = [Record("q", "Paris, France", "qa", checks=["Paris", "France"]), plain]
    given = [{"id": record.id, "text": "It is Paris", "stopped": True} for record in asked]
    rows, table, _ = grade(asked, given, load_task("qa"))
    assert table["checks_present"] == {"value": 0.5, "n": 1}
    assert table["exact"]["n"] == 2
    assert "checks_present" not in rows[1]
    assert grade([plain], given[1:], load_task("qa"))[1]["checks_present"] == {"value": None, "n": 0}


def test_the_ceiling_is_what_the_references_themselves_get():
    unknown = Record("do it", "aws nosuch do-it --now", "command")
    given = [{"id": record.id, "text": "no", "stopped": False} for record in (REFERENCE, unknown)]
    details = grade([REFERENCE, unknown], given, load_task("command"))[2]
    ceiling = {name: points["ceiling"] for name, points in details["reference_points"].items()}
    assert ceiling == {"exact": 1, "operation": 1, "option_f1": 1, "valid": 0.5}


def test_reference_points_of_labels_by_hand():
    """Training labels a a b b b c; held-out a a a b: the best constant, a, is right in 3 of 4."""
    asked = [Record(f"q{n}", label, "classify") for n, label in enumerate("aaab")]
    given = [{"id": record.id, "text": "c", "stopped": True} for record in asked]
    points = grade(asked, given, load_task("classify"), trained=Counter("aabbbc"))[2]["reference_points"]
    assert points["accuracy"] == {"chance": 0.333333, "constant": 0.75, "ceiling": 1}
    # F1 of a: 2·3/(4 + 3); of b: 0
    assert points["macro_f1"] == {"chance": None, "constant": round(6 / 7 / 2, 6), "ceiling": 1}
    assert sorted(points) == ["accuracy", "accuracy_normalized", "macro_f1"]


def test_only_the_commonest_training_responses_are_tried_as_constants():
    asked = [Record("q", "rare", "classify")]
    given = [{"id": asked[0].id, "text": "x", "stopped": True}]
    trained = Counter([*"aabbccddee", "rare"])
    points = grade(asked, given, load_task("classify"), trained=trained)[2]["reference_points"]
    assert points["accuracy"]["constant"] == 0
    assert grade(asked, given, load_task("classify"))[2]["reference_points"]["accuracy"]["constant"] is None


def bad(value):
    return Task("mine", {"score": lambda record, answer, stopped: value}, "score", file="mine.py")


@pytest.mark.parametrize("value", [float("nan"), 1.5, -1, "1", [1]])
def test_a_metric_that_gives_no_share_is_an_error_that_names_the_row(value):
    record = Record("q", "a", "mine", source="rows.csv:7")
    with pytest.raises(GradusError, match="mine.py: metric score of row rows.csv:7: .* is not a number from 0 to 1"):
        grade([record], [{"id": record.id, "text": "", "stopped": True}], bad(value))


@pytest.mark.parametrize("kind", ["batch", "whole"])
def test_a_metric_over_many_rows_that_gives_no_share_is_an_error(kind):
    given = {"batch": lambda records, answers: [1.0, float("nan")], "whole": lambda records, answers: float("nan")}
    task = Task("mine", {"one": lambda *_: 1}, "one", file="mine.py", **{kind: {"score": given[kind]}})
    records = [Record(f"q{n}", "a", "mine", source=f"rows.csv:{n}") for n in range(2)]
    where = " of row rows.csv:1" if kind == "batch" else ""
    with pytest.raises(GradusError, match=f"mine.py: metric score{where}: nan is not a number from 0 to 1"):
        grade(records, [{"id": r.id, "text": "", "stopped": True} for r in records], task)


def test_a_batch_metric_must_grade_every_row():
    task = Task("mine", {"one": lambda *_: 1}, "one", file="mine.py", batch={"score": lambda records, answers: [1.0]})
    records = [Record(f"q{n}", "a", "mine") for n in range(2)]
    with pytest.raises(GradusError, match="mine.py: metric score: 1 values for 2 rows"):
        grade(records, [{"id": r.id, "text": "", "stopped": True} for r in records], task)


def test_checks_of_other_tasks():
    record = Record("q", "Paris, France", "qa", checks=["Paris", "France"])
    found = grades("It is PARIS", record=record, task="qa")
    assert {name: found[name] for name in ("checks_present", "exact", "pass", "stopped")} == {
        "checks_present": 0.5,
        "exact": 0,
        "pass": 0,
        "stopped": 1,
    }


@pytest.mark.parametrize(
    ("check", "answer", "present"),
    [
        ("Paris", "it is paris.", 1),
        ("Paris", "a Parisian", 0),
        ("New York", "in new\nyork", 1),
        ("--user-name", "use `--user-name Bob`", 1),
        ("C++", "C++ or Rust", 1),
        ("7", "17", 0),
        ("a.c", "abc", 0),
    ],
)
def test_a_check_is_present_as_whole_words_in_any_case(check, answer, present):
    found = grades(answer, record=Record("q", "x", "qa", checks=[check]), task="qa")
    assert (found["pass"], found["checks_present"]) == (present, present)


def test_overlap_of_free_text_by_hand():
    """Longest common subsequence "the cat mat", 3 of 6 and of 4 words."""
    record = Record("q", "the cat sat on the mat", "qa")
    found = grades("The cat: a mat", record=record, task="qa")
    assert found["rouge_l"] == 0.6
    assert found["length_ratio"] == round(4 / 6, 3)
    assert grades("", record=record, task="qa")["rouge_l"] == grades("", record=record, task="qa")["chrf"] == 0
    assert grades(record.response, record=record, task="qa")["chrf"] == 1


def test_rouge_is_that_of_its_package_and_works_in_other_scripts():
    from rouge_score.rouge_scorer import RougeScorer

    wanted, given = "It deletes the user's 2 keys, all of them.", "All of the keys: it deletes them (2)."
    found = QA.metrics["rouge_l"](Record("q", wanted, "qa"), given, True)
    assert found == RougeScorer(["rougeL"]).score(wanted, given)["rougeL"].fmeasure
    assert QA.metrics["rouge_l"](Record("q", "Он удаляет ключ", "qa"), "он удаляет файл", True) == pytest.approx(2 / 3)


def test_similarity_orders_answers_by_meaning_and_grades_each_row():
    record = Record("q", "Creates an IAM user named Bob.", "qa")
    given = [record.response, "It makes a new IAM user called Bob.", "Deletes all files of the bucket."]
    same, alike, other = QA.batch["similarity"]([record] * 3, given)
    assert same == 1
    assert 0.8 < alike < 1
    assert 0 <= other < 0.5
    asked = [{"id": record.id, "text": text, "stopped": True} for text in given]
    rows, table, details = grade([record], asked, load_task("qa"))
    assert [row["similarity"] for row in rows] == [same, alike, other]
    assert table["similarity"] == {"value": round((same + alike + other) / 3, 6), "n": 3}
    assert details["settings"]["chrf"].startswith("nrefs:1|case:mixed|eff:yes|nc:6|nw:0|space:no|version:")


def test_an_answer_to_nothing_is_an_error():
    with pytest.raises(GradusError, match="belongs to no record"):
        grade([REFERENCE], [{"id": "0", "text": "", "stopped": True}], load_task("command"))


SCHEMA = {
    "type": "object",
    "additionalProperties": False,
    "required": ["paid"],
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}, "paid": {"type": "boolean"}},
}
BOB = Record("Bob, 7, paid", '{"name": "Bob", "age": 7, "paid": true}', "extract")


@pytest.mark.parametrize(
    ("answer", "valid_json", "valid_schema", "exact", "fields"),
    [
        ('{"paid": true, "age": 7, "name": "Bob"}\n', 1, 1, 1, 1),
        ('{"name": "Bob", "age": 8, "paid": true}', 1, 1, 0, 0.667),
        ('{"name": "Bob", "paid": true}', 1, 1, 0, 0.667),
        ('{"name": "Bob", "age": 7, "paid": true, "more": 1}', 1, 0, 0, 0.75),
        ('{"name": "Bob", "age": "7", "paid": true}', 1, 0, 0, 0.667),
        ('{"name": "Bob", "age": 7.0, "paid": 1}', 1, 0, 0, 0.667),
        ('Here you are: {"name": "Bob", "age": 7, "paid": true}', 0, 0, 0, 0),
        ('{"name": "Bob", "name": "Bob", "age": 7, "paid": true}', 0, 0, 0, 0),
        ('{"name": "Bob", "age": NaN, "paid": true}', 0, 0, 0, 0),
        ("[1]", 0, 0, 0, 0),
        ("", 0, 0, 0, 0),
    ],
)
def test_extraction(answer, valid_json, valid_schema, exact, fields):
    rows, table, _ = grade([BOB], [{"id": BOB.id, "text": answer, "stopped": True}], load_task("extract"), SCHEMA)
    expected = {"valid_json": valid_json, "valid_schema": valid_schema, "exact": exact, "fields": fields, "stopped": 1}
    assert {name: round(value, 3) for name, value in rows[0].items() if name != "id"} == expected
    assert set(table) == set(expected)


def test_the_accuracy_of_each_field():
    ann = Record("Ann", '{"name": "Ann", "paid": false}', "extract")
    answers = [
        {"id": BOB.id, "text": '{"name": "Bob", "age": 8, "paid": true}', "stopped": True},
        {"id": ann.id, "text": '{"name": "Ann", "age": 3, "nickname": "A"}', "stopped": True},
    ]
    _, _, details = grade([BOB, ann], answers, load_task("extract"))
    assert {name: part for name, part in details.items() if name != "reference_points"} == {
        "fields": {
            "age": {"wanted": 1, "right": 0, "invented": 1},
            "name": {"wanted": 2, "right": 2, "invented": 0},
            "paid": {"wanted": 2, "right": 1, "invented": 0},
        },
        "unknown_fields_invented": 1,
    }


def test_classification_by_hand():
    """Labels a a a b b c, answered a a b b x c: F1 of a 4/5, of b 1/2, of c 1."""
    wanted, given = "aaabbc", ["a", "a ", "b", "b", "x", "c"]
    records = [Record(f"q{n}", label, "classify") for n, label in enumerate(wanted)]
    answers = [{"id": r.id, "text": text, "stopped": True} for r, text in zip(records, given, strict=True)]
    rows, table, details = grade(records, answers, load_task("classify"))
    assert table["accuracy"] == {"value": 0.666667, "n": 6}
    assert table["macro_f1"]["value"] == pytest.approx((4 / 5 + 1 / 2 + 1) / 3, abs=1e-6)
    assert (details["labels"], details["matrix"]) == (["a", "b", "c"], [[2, 1, 0, 0], [0, 1, 0, 1], [0, 0, 1, 0]])
    assert "macro_f1" not in rows[0]


LINTERS = Counter(["flake8", "flake8-bandit", "ruff", "C", "C++", "+"])


@pytest.mark.parametrize(
    ("label", "answer", "right"),
    [
        ("flake8-bandit", "The answer is flake8-bandit.", 1),
        ("flake8-bandit", "**Flake8 Bandit**", 1),
        ("flake8", "The answer is flake8-bandit.", 0),
        ("flake8", "flake8, or else flake8-bandit", 0),
        ("ruff", "ruff or flake8", 0),
        ("ruff", "Ruff. Yes, ruff!", 1),
        ("ruff", "gruff", 0),
        ("ruff", "", 0),
        ("C", " C\n", 1),
        ("C++", "It is C.", 0),
        ("+", "+", 1),
        ("new", "new", 1),
        ("new", "It is new.", 0),
    ],
)
def test_a_label_is_found_in_the_words_around_it(label, answer, right):
    """`new` is no label of the training rows."""
    record = Record("q", label, "classify")
    given = [{"id": record.id, "text": answer, "stopped": True}]
    table = grade([record], given, load_task("classify"), trained=LINTERS)[1]
    assert table["accuracy_normalized"]["value"] == right >= table["accuracy"]["value"]


def test_no_answers_have_no_value():
    assert grade([], [], load_task("classify"))[1]["macro_f1"] == {"value": None, "n": 0}


def test_an_answer_is_graded_by_the_right_response_that_it_comes_nearest_to():
    record = Record("list buckets", "aws s3 ls", "command", accepted=["aws s3api list-buckets --query Buckets[].Name"])
    assert grades("aws s3 ls", record=record) == ALL
    assert grades("aws s3api list-buckets --query 'Buckets[].Name'", record=record) == ALL
    assert grades("aws s3api list-buckets", record=record) == {**ALL, "exact": 0, "option_f1": 0}
    assert grades("aws s3 mb", record=record) == {**ALL, "exact": 0, "operation": 0, "option_f1": 0}


def test_metrics_of_many_rows_at_once_take_the_nearest_right_response_too():
    def same(records, answers):
        return [float(record.response == answer) for record, answer in zip(records, answers, strict=True)]

    task = Task("t", {}, "same", batch={"same": same})
    rows = [Record("a", "1", "t", accepted=["2"]), Record("b", "1", "t")]
    assert task.measure_batch("same", same, rows, ["2", "2"]) == [1, 0]
