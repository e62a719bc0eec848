"""The exception whose message is meant for the user."""


class GradusError(Exception):
    """A problem that the user can fix: the message says where it is, what is wrong and what to do.

    Scripts do not catch it; `logging_to` prints it without a traceback and ends the job.
    """


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or the error's type if the message is empty."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
