"""Example pages become rows that a person could answer and that do not give the answer away."""

import zipfile

import pytest

from scripts.common.errors import GradusError
from scripts.data.converters.awscli import Options, clean_title, convert, mask, read_page, shorten

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


def test_plain_rows_have_neither_service_nor_description(package):
    rows, _, _ = convert(package, Options(plain_share=1))
    assert rows[0]["prompt"] == "create an IAM user: Bob"


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
