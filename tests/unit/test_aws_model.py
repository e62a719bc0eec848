"""Which commands the AWS CLI knows: those of the service models, and its own."""

import re

import pytest

from scripts.tasks.aws_commands import parse_command
from scripts.tasks.aws_differences import ADDED, REMOVED
from scripts.tasks.aws_model import additions, is_valid, modeled_operations, operations, removals

# what `valid` counted as wrong while it knew the service models alone: these rows' grades have changed, and no others
OWN = [
    "aws s3 cp a.txt s3://bucket/a.txt --acl public-read",
    "aws s3 sync . s3://bucket --exclude '*.tmp' --delete",
    "aws s3 ls s3://bucket --recursive --human-readable --region eu-west-1",
    "aws s3 presign s3://bucket/a.txt --expires-in 60",
    "aws ecr get-login-password --region us-west-2",
    "aws eks update-kubeconfig --name prod",
    "aws eks get-token --cluster-name prod",
    "aws cloudformation deploy --template-file t.yaml --stack-name s",
    "aws cloudformation package --template-file t.yaml --s3-bucket b",
    "aws configure set region us-west-2",
    "aws lambda create-function --function-name f --runtime python3.12 --zip-file fileb://f.zip --handler f.h --role r",
    "aws ec2 run-instances --image-id ami-1 --count 2 --instance-type t2.micro",
]


@pytest.mark.parametrize("text", OWN)
def test_the_clis_own_commands_and_options_are_valid(text):
    command = parse_command(text)
    assert is_valid(command)
    known = modeled_operations(command.service) or {}
    assert {name for name, _ in command.options} - known.get(command.operation, set()) or command.operation not in known


@pytest.mark.parametrize(
    "text",
    [
        "aws s3 copy a s3://b/a",
        "aws s3 cp a s3://b/a --recurse",
        "aws ec2 wait",
        "aws ec2 wait instance-gone --instance-ids i-1",
        "aws ecr get-login-password --user me",
        "aws ec2 run-instances --zip-file fileb://f.zip",
        "aws configure forget region",
        "aws nosuch cp a b",
        "aws s3 list-buckets",
        "aws config describe-config-rules",
        "aws codedeploy list-applications",
        "aws ses verify-email-address --email-address a@example.com",
        "aws ses send-email --source a@example.com",  # --from
        "aws iam get-user --max-items 3",
        "aws cloudformation list-stacks --page-size 3",
        "aws ../s3 cp a b",
    ],
)
def test_what_the_cli_does_not_know_is_not(text):
    try:
        command = parse_command(text)
    except ValueError:
        return
    assert not is_valid(command)


def test_a_command_of_the_models_stays_what_it_was():
    for text in ("aws iam create-user --user-name Bob", "aws ec2 wait instance-running --instance-ids i-1"):
        command = parse_command(text)
        assert command.operation in modeled_operations(command.service) and is_valid(command)


def test_the_table_is_read_whole():
    for text, table in ((ADDED, additions()), (REMOVED, removals())):
        assert text.count(" --") == sum(len(options) for own in table.values() for options in own.values()) > 0
        names = [f"{service} {operation}" for service, own in table.items() for operation in own]
        assert all(re.fullmatch(r"[a-z0-9.-]+ [a-z0-9-]+", name) for name in names)


def test_what_the_cli_leaves_out_is_in_the_models_and_not_valid():
    """So the table does not outlive an update of botocore."""
    for service, own in removals().items():
        for operation, options in own.items():
            assert options <= modeled_operations(service)[operation]
            left = operations(service).get(operation)
            assert left is not None and not left & options if options else left is None
