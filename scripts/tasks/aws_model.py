"""Validate `aws …` commands against botocore's service models and what the AWS CLI adds to them and removes."""

import re
from functools import cache
from typing import Any

from botocore import xform_name
from botocore.exceptions import DataNotFoundError, UnknownServiceError
from botocore.loaders import Loader
from botocore.model import ServiceModel
from botocore.waiter import WaiterModel

from scripts.tasks.aws_commands import Command
from scripts.tasks.aws_differences import ADDED, REMOVED

# services whose name on the command line differs from botocore's (renamed by awscli)
RENAMED = {"s3api": "s3", "deploy": "codedeploy", "configservice": "config"}

# https://docs.aws.amazon.com/cli/latest/userguide/cli-configure-options.html, and those every operation has
GLOBAL_OPTIONS = frozenset(
    """--debug --endpoint-url --no-verify-ssl --no-paginate --output --query --profile --region --version --color
    --no-sign-request --ca-bundle --cli-read-timeout --cli-connect-timeout --cli-binary-format --no-cli-pager
    --cli-input-json --generate-cli-skeleton""".split()  # noqa: SIM905
)


def to_cli(name: str) -> str:
    """Convert a botocore name to its command-line form: CreateUser → create-user."""
    return xform_name(name, "-")


@cache
def modeled_operations(service: str) -> dict[str, frozenset[str]] | None:
    """Return {operation: option names} of a service by its command-line name; None if botocore does not know it."""
    if service in RENAMED.values():  # botocore's name, which is not the CLI's
        return None
    loader, name = Loader(include_default_search_paths=True), RENAMED.get(service, service)
    try:
        model = ServiceModel(loader.load_service_model(name, "service-2"), name)
    except UnknownServiceError:
        return None
    paged = load(loader, name, "paginators-1").get("pagination", {})
    table: dict[str, frozenset[str]] = {}
    for operation in model.operation_names:
        shape = model.operation_model(operation).input_shape
        options = set[str]()
        if operation in paged:  # awscli/customizations/paginate.py
            options = {"--starting-token", "--max-items", *(["--page-size"] if "limit_key" in paged[operation] else [])}
        for member, value in shape.members.items() if shape else ():
            options.add(f"--{to_cli(member)}")
            if value.type_name == "boolean":
                options.add(f"--no-{to_cli(member)}")
        table[to_cli(operation)] = frozenset(options)
    if not (found := load(loader, name, "waiters-2")):
        return table
    waiters = WaiterModel(found)
    for waiter in waiters.waiter_names:
        table[f"wait {to_cli(waiter)}"] = table.get(to_cli(waiters.get_waiter(waiter).operation), frozenset())
    return table


def load(loader: Loader, name: str, kind: str) -> dict[str, Any]:
    """Return what botocore has of this kind for a service; empty if nothing."""
    try:
        return dict(loader.load_service_model(name, kind))
    except (UnknownServiceError, DataNotFoundError):
        return {}


def read_table(text: str) -> dict[str, dict[str, frozenset[str]]]:
    """Return {service: {operation: options}} from lines of aws_differences.py."""
    table: dict[str, dict[str, frozenset[str]]] = {}
    for line in re.sub(r"\n +", " ", text).split("\n"):
        if line:
            service, operation, *options = line.split()
            table.setdefault(service, {})[operation] = frozenset(options)
    return table


@cache
def additions() -> dict[str, dict[str, frozenset[str]]]:
    """Return {service: {operation: options}} that the CLI adds to the service models."""
    return read_table(ADDED)


@cache
def removals() -> dict[str, dict[str, frozenset[str]]]:
    """Return {service: {operation: options}} of the service models that the CLI does not have; without options, it does
    not have the operation.
    """
    return read_table(REMOVED)


@cache
def operations(service: str) -> dict[str, frozenset[str]]:
    """Return {operation: its own options} of a service by its command-line name; empty if there is no such service.

    Operations come from the service models or from the CLI, which adds commands such as `aws s3 cp` or
    `aws ecr get-login-password`, and options such as `aws lambda create-function --zip-file`; and it leaves out some,
    such as `aws ses verify-email-address`.
    """
    if not re.fullmatch(r"[a-z0-9][a-z0-9.-]*", service):
        return {}
    table = dict(modeled_operations(service) or {})
    for operation, options in removals().get(service, {}).items():
        if options:
            table[operation] -= options
        else:
            del table[operation]
    for operation, options in additions().get(service, {}).items():
        table[operation] = table.get(operation, frozenset()) | options
    return table


def is_valid(command: Command) -> bool:
    """Return whether the operation exists and every option is one of its own or a global one."""
    own = operations(command.service).get(command.operation)
    return own is not None and all(name in own | GLOBAL_OPTIONS for name, _ in command.options)
