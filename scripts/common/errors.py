"""The one exception that is meant for people."""


class GradusError(Exception):
    """Something that the user can mend: the message says where, what is wrong and what to do.

    Scripts let it rise; `logging_to` prints it without a traceback and ends the job.
    """
