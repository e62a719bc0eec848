"""Commands are read as a shell would read them."""

import pytest

from scripts.tasks.aws_commands import join_lines, parse_command


def test_option_order_and_quotes_do_not_matter():
    one = parse_command("aws iam create-user --user-name 'Bob' --path /a/")
    other = parse_command('aws iam create-user --path=/a/ --user-name "Bob"')
    assert one.normal == other.normal


def test_order_of_an_options_values_matters():
    one = parse_command("aws ec2 terminate-instances --instance-ids i-1 i-2")
    other = parse_command("aws ec2 terminate-instances --instance-ids i-2 i-1")
    assert one.normal != other.normal


def test_options_before_the_service_and_positionals():
    command = parse_command("aws --region eu-west-1 s3 cp a.txt s3://bucket/a.txt --acl public-read")
    assert (command.service, command.operation) == ("s3", "cp")
    assert command.positionals == ("a.txt", "s3://bucket/a.txt")
    assert dict(command.options) == {"--region": ("eu-west-1",), "--acl": ("public-read",)}


def test_waiters_have_their_own_name():
    assert parse_command("aws ec2 wait instance-running --instance-ids i-1").operation == "wait instance-running"


def test_line_continuations_are_joined():
    assert join_lines("aws s3 ls \\\n    s3://b") == "aws s3 ls s3://b"


@pytest.mark.parametrize("text", ["", "ls", "aws", "aws s3", "aws s3 ls | wc", "aws s3 ls 'open", "sudo aws s3 ls"])
def test_what_is_not_one_command_is_refused(text):
    with pytest.raises(ValueError):
        parse_command(text)
