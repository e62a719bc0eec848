"""Example pages become commands and the sentences that say what they do."""

import zipfile

import pytest

from scripts.data.converters.awscli_explain import Options, convert, find_sentence

PAGE = """**Example 1: To create an IAM user**

The following ``create-user`` command creates an IAM user named ``Bob`` in the current account. It has no groups. ::

    aws iam create-user \\
        --user-name Bob

**Example 2: To set a path**

The following ``create-user`` example shows how to set a path. ::

    aws iam create-user --path /a/

**Example 3: To do it on another page**

The following ``delete-user`` example deletes a user. ::

    aws iam delete-user --user-name Bob
"""


def test_rows_hold_the_command_and_the_sentence(tmp_path):
    with zipfile.ZipFile(tmp_path / "awscli.whl", "w") as archive:
        archive.writestr("awscli/examples/iam/create-user.rst", PAGE)
    rows, left_out, counts = convert(tmp_path, Options())
    assert rows == [
        {
            "prompt": "aws iam create-user --user-name Bob",
            "response": "Creates an IAM user named Bob in the current account.",
            "group": "iam/create-user",
            "source": "iam/create-user.rst#1",
        }
    ]
    assert [item["source"] for item in left_out] == ["iam/create-user.rst#2", "iam/create-user.rst#3"]
    assert sum(counts["left_out"].values()) == 2
    reasons = convert(tmp_path, Options(max_sentence_chars=30))[2]["left_out"]
    assert reasons["sentence longer than max_sentence_chars"] == 1


@pytest.mark.parametrize(
    ("description", "sentence"),
    [
        ("This example lists 2 users (e.g. Ann, A. Bo), sorted. More.", "Lists 2 users (e.g. Ann, A. Bo), sorted."),
        ("You need a key. The following example command gets one:", "Gets one."),
        ("The following ``get`` example gets ``a.b.c`` , and no more.", "Gets a.b.c, and no more."),
        ("In this example, the following ``x-y`` command adds it.", "Adds it."),
        ("This example deletes the user example@example.com.", "Deletes the user example@example.com."),
        ("The following ``x-y`` example uses the ``x-y`` command to do it.", None),
        ("The following ``x-y`` example adds the tags above.", None),
        ("The following ``x-y`` example describes a cluster named .", None),
        ("The following ``x-y`` example answers what `x-z`_ asked.", None),
        ("The following examples add a tag.", None),
        ("To create a user, run this.", None),
        ("", None),
    ],
)
def test_only_a_sentence_that_stands_alone_is_taken(description, sentence):
    if sentence:
        assert find_sentence(description) == sentence
    else:
        with pytest.raises(ValueError, match="sentence"):
            find_sentence(description)
