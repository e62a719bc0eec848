"""The same work on many items by several processes, with the results in the items' order."""

import multiprocessing
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from typing import Any, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")
Items = TypeVar("Items", bound=Sequence[Any])

_function: Callable[[Any], Any]  # inherited by worker processes, so it may be a closure over what is slow to create


def _call(item: Any) -> Any:
    return _function(item)


def in_order(function: Callable[[Item], Result], items: Iterable[Item], workers: int) -> Iterator[Result]:
    """Yield `function` of each item, in order; the items are taken a few at a time.

    The workers are forked processes. One worker is none.
    """
    if workers == 1:
        yield from map(function, items)
        return
    global _function
    _function = function
    processes = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(workers, processes) as pool:
        waiting: deque[Future[Result]] = deque()
        for item in items:
            waiting.append(pool.submit(_call, item))
            if len(waiting) > 2 * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def chunks(items: Items, size: int) -> Iterator[Items]:
    """Yield a sequence's items, `size` at a time."""
    for start in range(0, len(items), size):
        yield items[start : start + size]  # type: ignore[misc]
