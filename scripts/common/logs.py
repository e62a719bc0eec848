"""What a rule's script prints, where it goes, and how an error reaches the user."""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from scripts.common.errors import GradusError


@contextmanager
def logging_to(path: str | Path) -> Iterator[None]:
    """Send log records to `path`; end the job with a plain message, not a traceback, on a GradusError.

    Progress bars and warnings of libraries stay on the terminal. An unexpected exception is written
    to the log with its traceback and rises.
    """
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    logging.captureWarnings(True)
    logging.basicConfig(
        filename=path, filemode="w", level=logging.INFO, format="%(levelname)s %(name)s: %(message)s", force=True
    )
    try:
        yield
    except GradusError as error:
        logging.error("%s", error)
        print(f"\nGradus: {error}\n", file=sys.stderr)
        sys.exit(1)
    except Exception:
        logging.exception("This is a fault in Gradus or in a library it calls:")
        raise
    finally:
        logging.shutdown()
