"""The one exception that is meant for people."""


class GradusError(Exception):
    """Something that the user can mend: the message says where, what is wrong and what to do.

    Scripts let it rise; `logging_to` prints it without a traceback and ends the job.
    """


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or its kind if it has none."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
