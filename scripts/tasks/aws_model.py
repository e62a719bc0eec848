"""Validate `aws …` commands against botocore's service models and the AWS CLI's own additions."""

import re
from functools import cache

from botocore import xform_name
from botocore.exceptions import UnknownServiceError
from botocore.loaders import Loader
from botocore.model import ServiceModel
from botocore.waiter import WaiterModel

from scripts.tasks.aws_additions import ADDITIONS
from scripts.tasks.aws_commands import Command

# services whose name on the command line differs from botocore's (renamed by awscli)
RENAMED = {"s3api": "s3", "deploy": "codedeploy", "configservice": "config"}

# https://docs.aws.amazon.com/cli/latest/userguide/cli-configure-options.html, and those every operation has
GLOBAL_OPTIONS = frozenset(
    """--debug --endpoint-url --no-verify-ssl --no-paginate --output --query --profile --region --version --color
    --no-sign-request --ca-bundle --cli-read-timeout --cli-connect-timeout --cli-binary-format --no-cli-pager
    --cli-input-json --generate-cli-skeleton""".split()  # noqa: SIM905
)
PAGING_OPTIONS = frozenset({"--starting-token", "--page-size", "--max-items"})
ANY_OPTIONS = GLOBAL_OPTIONS | PAGING_OPTIONS


def to_cli(name: str) -> str:
    """Convert a botocore name to its command-line form: CreateUser → create-user."""
    return xform_name(name, "-")


@cache
def modeled_operations(service: str) -> dict[str, frozenset[str]] | None:
    """Return {operation: option names} of a service by its command-line name; None if botocore does not know it."""
    loader, name = Loader(include_default_search_paths=True), RENAMED.get(service, service)
    try:
        model = ServiceModel(loader.load_service_model(name, "service-2"), name)
    except UnknownServiceError:
        return None
    table: dict[str, frozenset[str]] = {}
    for operation in model.operation_names:
        shape = model.operation_model(operation).input_shape
        options = set()
        for member, value in shape.members.items() if shape else ():
            options.add(f"--{to_cli(member)}")
            if value.type_name == "boolean":
                options.add(f"--no-{to_cli(member)}")
        table[to_cli(operation)] = frozenset(options)
    try:
        waiters = WaiterModel(loader.load_service_model(name, "waiters-2"))
    except (UnknownServiceError, ValueError):
        return table
    for waiter in waiters.waiter_names:
        table[f"wait {to_cli(waiter)}"] = table.get(to_cli(waiters.get_waiter(waiter).operation), frozenset())
    return table


@cache
def additions() -> dict[str, frozenset[str]]:
    """Return {service and operation: options} that the CLI adds to the service models."""
    table: dict[str, frozenset[str]] = {}
    for line in re.sub(r"\n +", " ", ADDITIONS).split("\n"):
        if line:
            service, operation, *options = line.split()
            table[f"{service} {operation}"] = frozenset(options)
    return table


@cache
def operations(service: str) -> dict[str, frozenset[str]]:
    """Return {operation: its own options} of a service by its command-line name; empty if there is no such service.

    Operations come from the service models or from the CLI, which adds commands such as `aws s3 cp` or
    `aws ecr get-login-password`, and options such as `aws lambda create-function --zip-file`.
    """
    if not re.fullmatch(r"[a-z0-9-]+", service):
        return {}
    table = dict(modeled_operations(service) or {})
    for name, options in additions().items():
        owner, operation = name.split(" ", 1)
        if owner == service:
            table[operation] = table.get(operation, frozenset()) | options
    return table


def is_valid(command: Command) -> bool:
    """Return whether the operation exists and every option is one of its own or a global one."""
    own = operations(command.service).get(command.operation)
    return own is not None and all(name in own | ANY_OPTIONS for name, _ in command.options)
