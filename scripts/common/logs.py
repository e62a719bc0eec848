"""What a rule's script prints, where it goes, and how an error reaches the user."""

import errno
import logging
import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from scripts.common.errors import GradusError, first_line

TRACEBACK = "GRADUS_TRACEBACK"  # set in the environment: print tracebacks


def explain(error: BaseException) -> str | None:
    """Return what a user can do about an error that is no fault of the code: a full disk, a folder that cannot be
    written, short memory. None for any other.
    """
    text = " ".join(str(error).split())
    number = error.errno if isinstance(error, OSError) else None
    if number in (errno.ENOSPC, errno.EDQUOT) or "No space left" in text or "os error 28" in text:
        return f"the disk is full ({text}). Make room and run again: what is done stays done"
    if number in (errno.EROFS, errno.EACCES, errno.EPERM):
        return f"a file cannot be read or written ({text}). Mend its permissions and run again"
    if isinstance(error, MemoryError):
        return f"memory ran out ({text or 'no more is known'}). End other programs, or work on less data"
    return None


@contextmanager
def logging_to(path: str | Path) -> Iterator[None]:
    """Send log records to `path`; end the job with a few plain lines, not a traceback, on any error.

    Progress bars and warnings of libraries stay on the terminal. The traceback of an error that nobody foresaw is
    written beside the log, and printed if GRADUS_TRACEBACK is set.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f"{path.name}.traceback")
    beside.unlink(missing_ok=True)
    logging.captureWarnings(True)
    logging.raiseExceptions = False  # a log that cannot be written, on a full disk, is not the error to show
    logging.basicConfig(
        filename=path, filemode="w", level=logging.INFO, format="%(levelname)s %(name)s: %(message)s", force=True
    )
    try:
        yield
    except Exception as error:
        message = str(error) if isinstance(error, GradusError) else explain(error)
        if message is None:
            with suppress(OSError):
                beside.write_text(traceback.format_exc(), encoding="utf-8")
            message = (
                f"{type(error).__name__}: {first_line(error)}\n"
                "This is a fault in Gradus or in a library that it calls. "
                f"The traceback is in {beside}; {TRACEBACK}=1 in the environment prints it."
            )
        logging.error("%s", message)
        print(f"\nGradus: {message}\n", file=sys.stderr)
        if os.environ.get(TRACEBACK):
            traceback.print_exc()
        sys.exit(1)
    finally:
        logging.shutdown()
