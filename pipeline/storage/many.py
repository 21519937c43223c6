"""Many requests at a time, a bounded number of them, with the results in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

# Object stores answer in tens of milliseconds, and a large run has tens of thousands of records.
IN_FLIGHT = 64

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_order(
    do: Callable[[Item], Result], items: Iterable[Item], in_flight: int = IN_FLIGHT, ahead: int = 2
) -> Iterator[Result]:
    """`do(item)` of each item, in their order, by several threads.

    Items are asked for as results are taken: not more than `ahead` times `in_flight` of them are in memory.

    Args:
        do: what is done; several threads call it at once.
        items: asked for by the caller's thread alone.
        in_flight: how many threads.
        ahead: how many items are begun or done for each thread while the caller works on a result; 1 or more.

    Raises:
        Exception: what `do` raises, in place of the result; the others are given up.
    """
    items = iter(items)
    first = list(islice(items, 2))
    if len(first) < 2:
        yield from map(do, first)
        return
    pool = ThreadPoolExecutor(in_flight)
    try:
        futures: deque[Future[Result]] = deque(pool.submit(do, item) for item in first)
        for item in islice(items, ahead * in_flight - len(futures)):
            futures.append(pool.submit(do, item))
        while futures:
            yield futures.popleft().result()
            futures.extend(pool.submit(do, item) for item in islice(items, 1))
    finally:
        pool.shutdown(cancel_futures=True)
