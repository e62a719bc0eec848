"""Example pages become rows that a person could answer and that do not give the answer away."""

import random
import zipfile

import pytest

from scripts.common.errors import GradusError
from scripts.data.converters.aws_phrases import names_of, phrase, rename, telling_words
from scripts.data.converters.aws_vocabulary import FILE_REQUESTS, ask_for_files, make_rows
from scripts.data.converters.awscli import Options, clean_title, convert, mask, read_page, shorten
from scripts.tasks.aws_commands import parse_command
from scripts.tasks.aws_model import is_valid

PAGE = """**Example 1: To create an IAM user**

The following ``create-user`` command creates an IAM user named ``Bob`` in the current account. ::

    aws iam create-user \\
        --user-name Bob

Output::

    {"User": {}}

For more, see the guide.

**Example 2: To set a path**

The following ``create-user`` command does it from a file. ::

    aws iam create-user \\
        --cli-input-json file://create-user.json

**Example 3: To do nothing**

There is no command here.
"""


@pytest.fixture
def package(tmp_path):
    with zipfile.ZipFile(tmp_path / "awscli.whl", "w") as archive:
        archive.writestr("awscli/examples/iam/create-user.rst", PAGE)
        archive.writestr("awscli/examples/iam/_note.rst", PAGE)
        archive.writestr("awscli/examples/ec2/wait/instance-running.rst", "**To wait**\n\n::\n\n    aws s3 ls\n")
    return tmp_path


def test_a_page_is_read_example_by_example():
    examples = read_page(PAGE)
    assert [example.title for example in examples][0] == "Example 1: To create an IAM user"
    assert examples[0].command.startswith("aws iam create-user")
    assert examples[2].command == ""


def test_rows_hold_title_description_service_and_values(package):
    rows, _, _ = convert(package, Options(plain_share=0))
    assert rows[0]["prompt"] == (
        "Create an IAM user. Creates an IAM user named Bob in the current account.\nService: iam\nValues: Bob"
    )
    assert rows[0]["response"] == "aws iam create-user --user-name Bob"
    assert rows[0]["checks"] == ["aws iam create-user", "--user-name"]
    assert rows[0]["group"] == "iam/create-user"


def test_the_commands_name_does_not_leak_even_through_a_file_name(package):
    rows, _, _ = convert(package, Options(plain_share=0))
    assert "create-user" not in rows[1]["prompt"]
    assert "file://input.json" in rows[1]["prompt"]
    assert "file://input.json" in rows[1]["response"]


def test_plain_rows_ask_in_one_line_with_the_values_and_no_description(package):
    rows, _, _ = convert(package, Options(plain_share=1))
    assert "\n" not in rows[0]["prompt"]
    assert "Bob" in rows[0]["prompt"]
    assert "current account" not in rows[0]["prompt"]
    assert rows[0]["response"] == "aws iam create-user --user-name Bob"


def test_augmented_rows_come_last_are_marked_and_always_the_same(package):
    options = Options(phrased_rows=3, vocabulary_rows=2)
    rows, _, counts = convert(package, options)
    marks = [row.get("augmented", False) for row in rows]
    assert marks == sorted(marks)
    assert marks.count(False) == 2
    assert counts["rows"] == len(rows)
    assert rows == convert(package, options)[0]
    phrased = [row for row in rows if row.get("augmented") and row["source"] == rows[0]["source"]]
    assert len({row["prompt"] for row in phrased}) == len(phrased) > 1
    made = [row for row in rows if row["source"].startswith("botocore:")]
    assert {row["group"] for row in made} == {"iam/create-user"}
    assert all(is_valid(parse_command(row["response"])) for row in made)


def test_services_with_few_examples_and_those_used_often_get_more_augmented_rows(package):
    few = convert(package, Options(phrased_rows=1))[0]
    evened = convert(package, Options(phrased_rows=1, rows_per_service=8))[0]
    often = convert(package, Options(phrased_rows=1, often=["iam/create-user"]))[0]
    assert len(few) < len(evened)
    assert len(few) < len(often)
    with pytest.raises(GradusError, match=r"often: .* for iam/create-usr"):
        convert(package, Options(often=["iam/create-usr"]))


@pytest.mark.parametrize(
    ("service", "name"), [("ec2", "EC2"), ("rds", "RDS"), ("s3api", "S3"), ("cognito-idp", "Cognito"), ("kms", "KMS")]
)
def test_services_are_called_as_users_do(service, name):
    assert name in names_of(service)


@pytest.mark.parametrize("request_", ["Create a queue", "Creates a queue", "Creating a queue"])
def test_a_request_is_varied_but_keeps_its_values(request_):
    asked = {phrase(request_, "sqs", ["orders-1"], random.Random(number), {}) for number in range(40)}
    assert len(asked) > 25
    assert all("orders-1" in text and "sqs" in text.lower() for text in asked)  # nothing else tells the service
    assert not any("creating" in text.lower() or "creates" in text.lower() for text in asked)


def test_a_service_is_left_out_only_where_a_word_tells_it():
    telling = telling_words(
        [("ec2", "List volumes"), ("ec2", "Delete a volume"), ("ec2", "Attach the volume"), ("sns", "List tags")]
    )
    assert telling == {"volume": "ec2"}
    asked = [phrase("List your volumes", "ec2", [], random.Random(number), telling) for number in range(40)]
    assert 0 < sum("ec2" not in text.lower() for text in asked) < 40


def test_placeholders_of_the_documentation_get_the_same_new_name_everywhere():
    texts = ["aws s3 cp test.txt s3://amzn-s3-demo-bucket/a --acl public-read", "s3://amzn-s3-demo-bucket/a", "MyTable"]
    command, value, table = rename(texts, random.Random(1))
    assert "amzn" not in command
    assert value in command
    assert table.endswith("Table") and table != "MyTable"
    assert command.endswith("--acl public-read")


@pytest.mark.parametrize("operation", sorted(FILE_REQUESTS))
def test_requests_for_files_give_commands_that_the_cli_knows(operation):
    for number in range(len(FILE_REQUESTS[operation])):
        _, line = ask_for_files(operation, number, random.Random(number))
        assert parse_command(line).name == f"s3 {operation}"
        assert is_valid(parse_command(line))


@pytest.mark.parametrize("operation", ["describe-instances", "create-tags", "stop-instances", "create-vpc-endpoint"])
def test_rows_of_the_vocabulary_tell_every_value_that_the_command_needs(operation):
    rows = list(make_rows("ec2", operation, 6, 300, {}))
    assert rows
    for row in rows:
        command = parse_command(row["response"])
        for value in (value for _, values in command.options for value in values):
            assert value in row["prompt"]


def test_a_classification_asks_for_the_service_and_shows_no_values(package):
    rows, _, _ = convert(package, Options(answer="service"))
    assert rows[0] == {
        "prompt": "Create an IAM user. Creates an IAM user named Bob in the current account.",
        "response": "iam",
        "group": "iam/create-user",
        "source": "iam/create-user.rst#1",
    }


def test_what_gives_no_row_is_counted_by_reason_and_listed(package):
    _, left_out, counts = convert(package, Options())
    assert counts["read"] == "2 pages of 2 services"
    assert counts["left_out"] == {"no command in the example": 1, "the first command is not the page's own": 1}
    assert {item["source"] for item in left_out} == {"iam/create-user.rst#3", "ec2/wait/instance-running.rst#1"}


def test_an_unknown_service_is_an_error(package):
    with pytest.raises(GradusError, match="nosuch"):
        convert(package, Options(services=["iam", "nosuch"]))


def test_masking_keeps_other_literals():
    text = mask("The following ``run-it`` example runs ``x-y`` by ``aws ec2 run-it``.", "ec2", "run-it")
    assert text == "Runs x-y by."


@pytest.mark.parametrize(
    ("title", "clean"),
    [("Example 2: To list all users.", "List all users"), ("To tag a role", "Tag a role"), ("Wait", "Wait")],
)
def test_titles_become_requests(title, clean):
    assert clean_title(title) == clean


def test_descriptions_are_cut_at_sentence_ends():
    assert shorten("One. Two. Three.", 10) == "One. Two."
    assert shorten("Onetwothree", 5) == ""
