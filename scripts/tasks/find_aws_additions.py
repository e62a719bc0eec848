"""Write aws_additions.py: what the AWS CLI knows beyond botocore's service models.

`python -m scripts.tasks.find_aws_additions FOLDER [SERVICE …]` asks the CLI itself, awscli 1 unpacked in FOLDER
(`pip install --target FOLDER awscli==<version>`). Run it by hand after an update of botocore; no rule does.
"""

import importlib
import sys
import textwrap
from pathlib import Path
from typing import Any

from scripts.common.io import atomic_open
from scripts.tasks.aws_model import GLOBAL_OPTIONS, PAGING_OPTIONS, modeled_operations

OUTPUT = Path(__file__).with_name("aws_additions.py")
HEAD = '''"""What the AWS CLI knows beyond botocore's service models: commands such as `aws s3 cp`, and options.

Made by find_aws_additions.py from awscli {version}; not edited by hand. A line: service, operation, its options.
"""

ADDITIONS = """
{lines}"""
'''


def commands_of(command: Any) -> dict[str, Any]:
    """Return what stands below a service, or below the driver: {name: command}."""
    own = getattr(command, "subcommand_table", None)  # of a command that is the CLI's own
    return own if own is not None else command._get_command_table()


def options_of(command: Any) -> set[str]:
    """Return the names of a command's options; what is given by position is none."""
    getattr(command, "subcommand_table", None)  # as the CLI does, first: asked for it, `s3 sync` adds options
    return {argument.cli_name for argument in command.arg_table.values() if argument.cli_name.startswith("--")}


def find_additions(folder: str, services: list[str]) -> tuple[str, dict[str, list[str]]]:
    """Return the CLI's version, and {service and operation: options that no service model has}."""
    sys.path.insert(0, folder)
    driver = importlib.import_module("awscli.clidriver").create_clidriver()
    found: dict[str, list[str]] = {}
    for service, command in sorted(commands_of(driver).items()):
        if service == "help" or (services and service not in services):
            continue
        known = modeled_operations(service) or {}
        for operation, inner in commands_of(command).items():
            if operation in ("help", "wait"):  # waiters are in the models
                continue
            more = options_of(inner) - known.get(operation, frozenset()) - GLOBAL_OPTIONS - PAGING_OPTIONS
            if more or operation not in known:
                found[f"{service} {operation}"] = sorted(more)
    return importlib.import_module("awscli").__version__, found


def main() -> None:
    """Write OUTPUT."""
    version, found = find_additions(sys.argv[1], sys.argv[2:])
    lines = (" ".join([name, *options]) for name, options in sorted(found.items()))
    wrapped = [
        textwrap.fill(line, 110, subsequent_indent="    ", break_long_words=False, break_on_hyphens=False)
        for line in lines
    ]
    with atomic_open(OUTPUT) as handle:
        handle.write(HEAD.format(version=version, lines="".join(f"{line}\n" for line in wrapped)))


if __name__ == "__main__":
    main()
