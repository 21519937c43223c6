"""A function of many items on a few threads: results in order, and only a few of them ahead of what is taken."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_order(function: Callable[[Item], Result], items: Iterable[Item], threads: int) -> Iterator[Result]:
    """`function(item)` of each item, in order.

    Args:
        function: may be called on several threads at once.
        items: read on the calling thread, at most `threads` + 1 ahead of the results that were taken.
        threads: how many call the function; 0 for the calling thread.

    Raises:
        Exception: what the function or the items raise; nothing further is begun.
    """
    return _on_threads(function, items, threads) if threads else map(function, items)


def _on_threads(function: Callable[[Item], Result], items: Iterable[Item], threads: int) -> Iterator[Result]:
    pending: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(threads, "decoding") as pool:
        try:
            for item in items:
                pending.append(pool.submit(function, item))
                if len(pending) > threads:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()
