"""Run native code that may crash in a child process, so that a crash becomes an error with a message."""

import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from scripts.common.errors import GradusError


def run_isolated(what: str, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Call `function` in a child process and return its result; `what` names the work in the error message.

    The child is forked: call this before the parent starts threads or loads the native library.
    """
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("fork")) as pool:
        try:
            return pool.submit(function, *args, **kwargs).result()
        except BrokenProcessPool:
            raise GradusError(
                f"{what}: the native code crashed, or the system killed it because memory ran out. "
                "Rebuild llama-cpp-python with `make clean-llama` and `make setup`; "
                "if memory ran out, lower evaluate.sequences."
            ) from None
