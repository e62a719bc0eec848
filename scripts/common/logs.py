"""Logging of a rule's script, and how errors are shown to the user."""

import errno
import logging
import os
import re
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from scripts.common.errors import GradusError, first_line

TRACEBACK = "GRADUS_TRACEBACK"  # environment variable: if set, tracebacks are printed
# what torch, its libraries and Triton say if a GPU or its driver fails
GPU_ERROR = re.compile(
    r"CUDA (driver |unknown )?error|Triton Error \[CUDA\]|CUDNN_STATUS_|cudaGetDeviceCount|No CUDA GPUs are available"
)
# such errors, too, but of code that asks for what cannot be computed
ASKED_WRONGLY = re.compile(
    r"device-side assert|invalid (\w+ )?(argument|value|device|resource)|no kernel image|not supported|"
    r"_(NOT_SUPPORTED|INVALID_VALUE|BAD_PARAM)"
)
GPU_MEMORY = re.compile(r"CUDA (driver )?(error: )?out of memory|_ALLOC_FAILED")


def explain(error: BaseException) -> str | None:
    """Return what a user can do about an error that is not a bug: a full disk, missing permissions, too little memory,
    a GPU that fails. None for any other error.
    """
    text = " ".join(str(error).split())
    number = error.errno if isinstance(error, OSError) else None
    if number in (errno.ENOSPC, errno.EDQUOT) or "No space left" in text or "os error 28" in text:
        return f"the disk is full ({text}). Free some space and run again: finished work is kept"
    if number in (errno.EROFS, errno.EACCES, errno.EPERM):
        return f"a file cannot be read or written ({text}). Fix its permissions and run again"
    if isinstance(error, MemoryError):
        return f"memory ran out ({text or 'no details'}). Close other programs, or use less data"
    return explain_gpu(error)


def explain_gpu(error: BaseException) -> str | None:
    """Return the same of an error of a GPU or its driver; None for any other error.

    They are known by their messages: importing torch for its types takes a second.
    """
    told = first_line(error).partition(". GPU ")[0].rstrip(".")  # then come figures of the memory
    if not isinstance(error, RuntimeError):
        return None
    if GPU_MEMORY.search(told):
        return (
            f"the GPU's memory ran out ({told}). End what else uses it (nvidia-smi lists that), or lower "
            "train.micro_batch_tokens, and run again: finished work is kept"
        )
    if (type(error).__name__ == "AcceleratorError" or GPU_ERROR.search(told)) and not ASKED_WRONGLY.search(told):
        return (
            f"the GPU or its driver failed ({told}). The last checkpoint is kept, and the same command goes on from "
            "it. If that happens again, look at what nvidia-smi and dmesg say of the GPU, and restart the machine"
        )
    return None


@contextmanager
def logging_to(path: str | Path) -> Iterator[None]:
    """Send log records to `path`; on any error, end the job with a short message instead of a traceback.

    Progress bars and warnings of libraries stay on the terminal. The traceback of an unexpected error is written
    beside the log, and printed if GRADUS_TRACEBACK is set.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f"{path.name}.traceback")
    beside.unlink(missing_ok=True)
    logging.captureWarnings(True)
    logging.raiseExceptions = False  # on a full disk, a log that cannot be written is not the error to show
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
                "This is a bug in Gradus or in a library that it uses. "
                f"The traceback is in {beside}; set {TRACEBACK}=1 in the environment to print it."
            )
        logging.error("%s", message)
        print(f"\nGradus: {message}\n", file=sys.stderr)
        if os.environ.get(TRACEBACK):
            traceback.print_exc()
        sys.exit(1)
    finally:
        logging.shutdown()
