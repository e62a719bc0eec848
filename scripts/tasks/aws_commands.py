"""Parse an `aws …` command line as a shell would, without running it."""

import re
import shlex
from dataclasses import dataclass


@dataclass(frozen=True)
class Command:
    """A parsed command. `options` holds (name, values) pairs in the order given, names with their dashes."""

    service: str
    operation: str  # "create-user"; for waiters "wait instance-running"
    positionals: tuple[str, ...]
    options: tuple[tuple[str, tuple[str, ...]], ...]

    @property
    def name(self) -> str:
        """Return service and operation, as typed."""
        return f"{self.service} {self.operation}"

    @property
    def normal(self) -> tuple[object, ...]:
        """Return a form that is equal for commands that differ only in quoting, spacing or option order."""
        return (self.service, self.operation, self.positionals, tuple(sorted(self.options)))


def join_lines(text: str) -> str:
    """Return a command without line continuations; other whitespace is left to shell splitting."""
    return re.sub(r"[ \t]*\\[ \t]*\n[ \t]*", " ", text).strip()


def parse_command(text: str) -> Command:
    """Parse `aws <service> <operation> …`.

    An option takes every token up to the next one that starts with two dashes; `--name=value` is read as
    `--name value`. Options before the service belong to the command as well.

    Raises ValueError with a short reason if a shell would not run the text as one aws command.
    """
    tokens = shlex.split(join_lines(text))
    if not tokens or tokens[0] != "aws":
        raise ValueError("does not start with aws")
    if any(token in {"|", ">", ">>", "<", "&&", "||", ";", "&"} for token in tokens):
        raise ValueError("more than one command, or a redirection")
    positionals: list[str] = []
    options: list[tuple[str, list[str]]] = []
    taking = False  # whether the last option may take another value
    for token in tokens[1:]:
        if re.match(r"--[A-Za-z]", token):
            name, equals, value = token.partition("=")
            options.append((name, [value] if equals else []))
            taking = True
        elif taking and (len(positionals) >= 2 or not options[-1][1]):
            options[-1][1].append(token)
        else:  # options before the operation are global ones, which take at most one value
            positionals.append(token)
            taking = False
    if len(positionals) < 2:
        raise ValueError("no service and operation")
    service, operation, *rest = positionals
    if operation == "wait" and rest:
        operation = f"wait {rest.pop(0)}"
    return Command(service, operation, tuple(rest), tuple((name, tuple(values)) for name, values in options))
