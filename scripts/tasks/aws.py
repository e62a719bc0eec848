"""Task `command`: a request in English and the `aws …` command that does it."""

from scripts.common.records import Record
from scripts.tasks.aws_commands import Command, parse_command
from scripts.tasks.task import Task


def _command(text: str) -> Command | None:
    """Return the parsed command; None unless the answer is exactly one command."""
    try:
        return parse_command(text)
    except ValueError:
        return None


def exact(record: Record, answer: str, stopped: bool) -> float:
    """1 if the command equals the record's after shell splitting, ignoring the order of options."""
    command = _command(answer)
    return float(command is not None and command.normal == parse_command(record.response).normal)


def operation(record: Record, answer: str, stopped: bool) -> float:
    """1 if service and operation equal the record's."""
    command = _command(answer)
    return float(command is not None and command.name == parse_command(record.response).name)


def option_f1(record: Record, answer: str, stopped: bool) -> float:
    """F1, the harmonic mean of precision and recall (van Rijsbergen 1979), of the sets of option names.

    1 if neither command has options; 0 if the operation differs from the record's.
    """
    command, reference = _command(answer), parse_command(record.response)
    if command is None or command.name != reference.name:
        return 0.0
    given, wanted = {name for name, _ in command.options}, {name for name, _ in reference.options}
    return 2 * len(given & wanted) / (len(given) + len(wanted)) if given or wanted else 1.0


def valid(record: Record, answer: str, stopped: bool) -> float:
    """1 if the AWS CLI knows the operation and each of its options."""
    from scripts.tasks.aws_model import is_valid

    command = _command(answer)
    return float(command is not None and is_valid(command))


COMMAND = Task(
    name="command",
    metrics={"exact": exact, "operation": operation, "option_f1": option_f1, "valid": valid},
    headline="exact",
    binary=frozenset({"exact", "operation", "valid"}),
)
