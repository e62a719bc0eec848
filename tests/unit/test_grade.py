"""Grades are what their names say."""

import pytest

from scripts.common.errors import GradusError
from scripts.common.records import Record
from scripts.evaluate.grade import grade
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
    assert details["ceiling"] == {"exact": 1, "operation": 1, "option_f1": 1, "valid": 0.5}


def bad(value):
    return Task("mine", {"score": lambda record, answer, stopped: value}, "score", file="mine.py")


@pytest.mark.parametrize("value", [float("nan"), 1.5, -1, "1", [1]])
def test_a_metric_that_gives_no_share_is_an_error_that_names_the_row(value):
    record = Record("q", "a", "mine", source="rows.csv:7")
    with pytest.raises(GradusError, match="mine.py: metric score of row rows.csv:7: .* is not a number from 0 to 1"):
        grade([record], [{"id": record.id, "text": "", "stopped": True}], bad(value))


def test_checks_of_other_tasks():
    record = Record("q", "Paris, France", "qa", checks=["Paris", "France"])
    assert grades("It is Paris", record=record, task="qa") == {"checks_present": 0.5, "exact": 0, "stopped": 1}


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
    assert {name: part for name, part in details.items() if name != "ceiling"} == {
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


def test_no_answers_have_no_value():
    assert grade([], [], load_task("classify"))[1]["macro_f1"] == {"value": None, "n": 0}
