"""Requests for operations as their names say: rows made from botocore's service models, for training only.

The example pages show most operations once, so a model that has read them guesses the rest of the vocabulary. For each
operation, such a row has a request made of its name's words, its required options, and sometimes an option that every
command has, with made-up values. All are checked against the service models. `aws s3` is in no model: its rows come
from a table of what people do with files.
"""

import random
import re
import shlex
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from botocore.exceptions import UnknownServiceError
from botocore.loaders import Loader
from botocore.model import ServiceModel, Shape

from scripts.data.converters.aws_phrases import FILES, NAMES, POLITE, phrase
from scripts.tasks.aws_commands import parse_command
from scripts.tasks.aws_model import RENAMED, additions, is_valid, to_cli

CAPITALS = frozenset(
    """acl ami api arn ca cidr db dhcp dns ebs ec2 efs eks elb fpga hsm iam id ip ipam kms mfa mx nat oidc saml sdk sms
    sns sqs ssh ssl sso tls uri url vpc vpn xss""".split()  # noqa: SIM905
)
# prefixes of generated identifiers: https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/resource-ids.html
PREFIXES = {
    "allocation": "eipalloc",
    "file-system": "fs",
    "group": "sg",
    "security-group": "sg",
    "image": "ami",
    "instance": "i",
    "internet-gateway": "igw",
    "launch-template": "lt",
    "nat-gateway": "nat",
    "network-acl": "acl",
    "network-interface": "eni",
    "route-table": "rtb",
    "snapshot": "snap",
    "subnet": "subnet",
    "transit-gateway": "tgw",
    "volume": "vol",
    "vpc": "vpc",
    "vpc-endpoint": "vpce",
    "vpc-peering-connection": "pcx",
}
REGIONS = ["us-east-1", "us-east-2", "us-west-2", "eu-west-1", "eu-central-1", "ap-southeast-2"]
# options of every command, and how users ask for them
COMMON = [
    ("--region {}", "in {}", REGIONS),
    ("--output {}", "as {}", ["table", "text", "json", "yaml"]),
    ("--profile {}", "with profile {}", NAMES),
]
IDENTIFYING = re.compile("(?:^|-)(?:names?|ids?|arns?|identifier)$")
NOT_IDENTIFYING = re.compile("token|request|account|owner|^client|expected|kms")
# (what people ask, the command) for each operation of `aws s3`
FILE_REQUESTS = {
    "cp": [
        ("copy {file} to the bucket {bucket}", "aws s3 cp {file} s3://{bucket}/"),
        ("put {file} into {bucket}", "aws s3 cp {file} s3://{bucket}/"),
        ("upload the folder {folder} to {bucket}", "aws s3 cp {folder} s3://{bucket}/{folder} --recursive"),
        ("get {key} out of the bucket {bucket}", "aws s3 cp s3://{bucket}/{key} ."),
        ("download everything under {folder} in s3 bucket {bucket}", "aws s3 cp s3://{bucket}/{folder} . --recursive"),
        ("save s3://{bucket}/{key} as {file}", "aws s3 cp s3://{bucket}/{key} {file}"),
        ("copy {key} between the buckets {bucket} and {other}", "aws s3 cp s3://{bucket}/{key} s3://{other}/{key}"),
        (
            "upload {file} under {folder} in {bucket} and make it public",
            "aws s3 cp {file} s3://{bucket}/{folder}/ --acl public-read",
        ),
    ],
    "ls": [
        ("list the contents of s3 bucket {bucket}", "aws s3 ls s3://{bucket}"),
        ("show everything in {bucket}, with subfolders", "aws s3 ls s3://{bucket} --recursive"),
        ("list the files under {folder} in bucket {bucket}", "aws s3 ls s3://{bucket}/{folder}/"),
        (
            "get the total size of the files in {bucket}",
            "aws s3 ls s3://{bucket} --recursive --human-readable --summarize",
        ),
        ("show the buckets of profile {folder}", "aws s3 ls --profile {folder}"),
        ("see which buckets there are in {region}", "aws s3 ls --region {region}"),
    ],
    "mb": [
        ("make the bucket {bucket}", "aws s3 mb s3://{bucket}"),
        ("create a bucket {bucket} in {region}", "aws s3 mb s3://{bucket} --region {region}"),
        ("set up an S3 bucket with the name {bucket}", "aws s3 mb s3://{bucket}"),
    ],
    "mv": [
        ("move {file} to {bucket}", "aws s3 mv {file} s3://{bucket}/"),
        ("rename {key} in bucket {bucket} to {file}", "aws s3 mv s3://{bucket}/{key} s3://{bucket}/{file}"),
        ("move all files of {bucket} to {other}", "aws s3 mv s3://{bucket} s3://{other} --recursive"),
    ],
    "presign": [
        ("share {key} in {bucket} with a link", "aws s3 presign s3://{bucket}/{key}"),
        (
            "make a download link for s3://{bucket}/{key} that expires after ten minutes",
            "aws s3 presign s3://{bucket}/{key} --expires-in 600",
        ),
    ],
    "rb": [
        ("remove the empty bucket {bucket}", "aws s3 rb s3://{bucket}"),
        ("delete bucket {bucket} even if it has files", "aws s3 rb s3://{bucket} --force"),
        ("drop the S3 bucket {bucket} and all it holds", "aws s3 rb s3://{bucket} --force"),
    ],
    "rm": [
        ("delete {key} from {bucket}", "aws s3 rm s3://{bucket}/{key}"),
        ("empty the bucket {bucket}", "aws s3 rm s3://{bucket} --recursive"),
        ("delete the folder {folder} in s3 bucket {bucket}", "aws s3 rm s3://{bucket}/{folder}/ --recursive"),
        ("remove s3://{bucket}/{key}", "aws s3 rm s3://{bucket}/{key}"),
    ],
    "sync": [
        ("mirror the folder {folder} to {bucket}", "aws s3 sync {folder} s3://{bucket}"),
        ("keep {folder} the same as s3://{bucket}/{folder}", "aws s3 sync s3://{bucket}/{folder} {folder}"),
        ("synchronize {bucket} with {other}", "aws s3 sync s3://{bucket} s3://{other}"),
        (
            "sync {folder} to bucket {bucket}, removing files that are not here",
            "aws s3 sync {folder} s3://{bucket} --delete",
        ),
    ],
}
TIME = "2026-0{}-1{}T00:00:00Z"


@cache
def model_of(service: str) -> ServiceModel | None:
    """Return the service model of a service by its command-line name; None if botocore does not know it."""
    name = RENAMED.get(service, service)
    try:
        return ServiceModel(Loader(include_default_search_paths=True).load_service_model(name, "service-2"), name)
    except UnknownServiceError:
        return None


@cache
def operations_of(service: str) -> Mapping[str, str]:
    """Return {operation as on the command line: its name in the model}."""
    model = model_of(service)
    return {to_cli(name): name for name in model.operation_names} if model else {}


def in_words(operation: str) -> str:
    """Return an operation's name as a request: "describe-db-instances" becomes "describe DB instances"."""
    return " ".join(word.upper() if word in CAPITALS else word for word in operation.split("-"))


def make_name(lot: random.Random, noun: str) -> str:
    """Return a name such as a user gives: "billing", "orders-table", "Staging2"."""
    name = lot.choice(NAMES)
    form = lot.randrange(4)
    return [name, f"{name}-{noun}", f"{name}-{lot.choice(NAMES)}", f"{name.capitalize()}{lot.randrange(10)}"][form]


def make_text(option: str, lot: random.Random) -> str:
    """Return a value for an option that takes a text, by the option's name (without dashes before it)."""
    words = option.split("-")
    noun = words[-2] if len(words) > 1 else "item"
    last = words[-1].removesuffix("s") if words[-1] not in ("address", "status") else words[-1]
    if last == "arn":
        return f"arn:aws:{noun}:us-east-1:123456789012:{noun}/{make_name(lot, noun)}"
    if last == "id":
        what = "-".join(words[:-1])
        if what == "account" or what.endswith("-account"):
            return "".join(lot.choices("123456789", k=12))
        prefix = PREFIXES.get(what) or PREFIXES.get(noun)
        digits = "".join(lot.choices("0123456789abcdef", k=17 if prefix else lot.choice([8, 10, 12])))
        return f"{prefix}-{digits}" if prefix else digits
    if last == "url":
        queue = f"sqs.{lot.choice(REGIONS)}.amazonaws.com/123456789012/{make_name(lot, 'queue')}"
        return f"https://{queue}" if noun == "queue" else f"https://example.com/{make_name(lot, noun)}"
    if last in ("policy", "document", "body", "definition", "template", "configuration"):
        return f"file://{lot.choice(NAMES)}.json"
    if last == "bucket":
        return f"{lot.choice(NAMES)}-{lot.choice(NAMES)}-{lot.randrange(100)}"
    if last == "cidr" or option.endswith("cidr-block"):
        return f"10.{lot.randrange(10)}.0.0/16"
    if last == "email":
        return "user@example.com"
    if last in ("message", "description", "reason"):
        return f"{lot.choice(NAMES)} {lot.choice(['is done', 'failed', 'changed'])}"
    return make_name(lot, noun)


def make_values(option: str, shape: Shape, lot: random.Random) -> list[str]:
    """Return the values of an option as a user would give them; empty for a flag."""
    if shape.type_name == "boolean":
        return []
    if shape.type_name == "list" and shape.member.type_name in ("string", "integer", "long"):
        count = 1 if lot.random() < 0.7 else 2
        return list(dict.fromkeys(value for _ in range(count) for value in make_values(option, shape.member, lot)))
    if shape.type_name == "string":
        known = shape.enum
        return [lot.choice(known[:12]) if known else make_text(option, lot)]
    if shape.type_name in ("integer", "long", "float", "double"):
        least = int(shape.metadata.get("min", 1))
        return [str(lot.randint(least, max(least, min(int(shape.metadata.get("max", 60)), least + 60))))]
    if shape.type_name == "timestamp":
        return [TIME.format(lot.randint(1, 9), lot.randrange(10))]
    return [f"fileb://{lot.choice(NAMES)}.zip" if shape.type_name == "blob" else f"file://{lot.choice(NAMES)}.json"]


def make_command(service: str, operation: str, lot: random.Random) -> tuple[str, list[str], str]:
    """Return (command, values to tell, words for an option of every command; may be empty) of an operation.

    It has all required options, in the model's order. Raises KeyError if the models do not have the operation.
    """
    model = model_of(service)
    assert model is not None
    operated = model.operation_model(operations_of(service)[operation])
    shape = operated.input_shape
    parts = ["aws", service, operation]
    told: list[str] = []
    required = list(shape.required_members) if shape else []
    if lot.random() < 0.4:
        required += lot.sample(more := identifying(shape), k=min(1, len(more)))
    for member in required:
        option = to_cli(member)
        values = make_values(option, shape.members[member], lot)
        parts += [f"--{option}", *map(shlex.quote, values)]
        words = option.replace("-", " ")
        plain = " ".join(values) or words
        told.append(f"{words} {plain}" if values and lot.random() < (0.2 if len(required) == 1 else 0.5) else plain)
    if operated.has_streaming_output:
        parts.append("out.json")
        told.append(parts[-1])
    words = ""
    if not told or lot.random() < 0.15:
        form, said, choices = lot.choice(COMMON)
        value = lot.choice(choices)
        parts.append(form.format(value))
        words = said.format(value)
    return " ".join(parts), told, words


def identifying(shape: Shape | None) -> list[str]:
    """Return the first optional members of an operation's input that say which things are meant, at most three."""
    if shape is None:
        return []
    return [
        name
        for name, member in shape.members.items()
        if name not in shape.required_members
        and IDENTIFYING.search(to_cli(name))
        and not NOT_IDENTIFYING.search(to_cli(name))
        and (member.type_name == "string" or (member.type_name == "list" and member.member.type_name == "string"))
    ][:3]


def make_rows(
    service: str, operation: str, count: int, max_chars: int, telling: Mapping[str, str]
) -> Iterator[dict[str, Any]]:
    """Yield up to `count` rows for an operation: only for training, in the group of its page, without commands that are
    longer than `max_chars`, or that the AWS CLI would refuse.
    """
    files = service == "s3" and operation in FILE_REQUESTS
    if not files and (operation not in operations_of(service) or operation in additions().get(service, {})):
        return  # the CLI's own options are in no model, and may stand for required ones
    seen: set[str] = set()
    for number in range(count):
        lot = random.Random(f"{service} {operation} {number}")  # text seeds are hashed, so always the same
        if files:
            prompt, line = ask_for_files(operation, number, lot)
        else:
            line, told, words = make_command(service, operation, lot)
            prompt = add_words(phrase(in_words(operation), service, told, lot, telling), words, lot)
        command = parse_command(line)
        if line in seen or len(line) > max_chars or not is_valid(command):
            continue
        seen.add(line)
        yield {
            "prompt": prompt,
            "response": line,
            "checks": [f"aws {command.name}", *dict.fromkeys(name for name, _ in command.options)],
            "group": f"{service}/{operation}",
            "source": f"botocore:{service}/{operation}#{number + 1}",
            "augmented": True,
        }


def ask_for_files(operation: str, number: int, lot: random.Random) -> tuple[str, str]:
    """Return (request, command) number `number` of an operation of `aws s3`, with made-up names."""
    request, command = FILE_REQUESTS[operation][number % len(FILE_REQUESTS[operation])]
    names = {
        "bucket": f"{lot.choice(NAMES)}-{lot.choice(NAMES)}-{lot.randrange(100)}",
        "other": f"{lot.choice(NAMES)}-{lot.choice(NAMES)}",
        "file": lot.choice(FILES),
        "folder": lot.choice(["docs", "build", "exports", "public", "archive"]),
        "key": f"{lot.choice(NAMES)}/{lot.choice(FILES)}",
        "region": lot.choice(REGIONS),
    }
    asked = request.format(**names)
    return lot.choice([*POLITE, "{}", "{}", "{}", "{}"]).format(asked), command.format(**names)


def add_words(prompt: str, words: str, lot: random.Random) -> str:
    """Return a prompt with the words for an option of every command, at its end or before it."""
    if not words:
        return prompt
    if lot.random() < 0.2:
        return f"{words}: {prompt}"
    question = re.search(r"\?$", prompt)
    return f"{prompt.removesuffix('?')} {words}{'?' if question else ''}"
