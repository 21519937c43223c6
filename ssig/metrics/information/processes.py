"""Runs a function for many tasks, in the calling thread or in worker processes.

SSIG_METRIC_PROCESSES sets how many.

Workers are spawned when they are first needed, a few seconds each, then serve every later call, and end with the
process that started them, however it ends. As always with spawned processes, a script that is run needs its
``if __name__ == "__main__"``.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import starmap
from multiprocessing.connection import wait
from typing import Any, TypeVar

from ssig.errors import UsageError
from ssig.registry import METHODS, METRICS, Source
from ssig.registry.sources import activate

Result = TypeVar("Result")
METRIC_PROCESSES = "SSIG_METRIC_PROCESSES"

# Tasks whose results may wait for the caller, so that workers go on while it is busy with the device.
_AHEAD = 32

# By number of workers: the methods and metrics of others that they know, and the workers.
_pools: dict[int, tuple[tuple[Source, ...], ProcessPoolExecutor]] = {}


def in_order(
    function: Callable[..., Result], tasks: Iterable[tuple[Any, ...]], processes: int | None = None
) -> Iterator[Result]:
    """`function(*task)` of each task, in order, made while the results are taken.

    Args:
        function: of a module, so that workers find it; its arguments and result are copied between processes.
        tasks: read no further than 32 ahead of what has been taken, or two for each worker.
        processes: worker processes; 0 for the calling thread, None for the value of SSIG_METRIC_PROCESSES.

    Raises:
        UsageError: SSIG_METRIC_PROCESSES is not a number.
        BrokenProcessPool: a worker died; the next call starts new ones.
    """
    count = configured_processes() if processes is None else processes
    return _on_workers(function, tasks, count) if count else starmap(function, tasks)


def configured_processes() -> int:
    """The value of SSIG_METRIC_PROCESSES.

    Raises:
        UsageError: it is not a number.
    """
    text = os.environ.get(METRIC_PROCESSES, "0")
    if not text.isdecimal():
        raise UsageError(METRIC_PROCESSES, text, "a number of worker processes, 0 for none")
    return int(text)


def beside_a_gpu(cores: int) -> None:
    """Gives metrics the cores of an actor but one, which feeds the device; a set SSIG_METRIC_PROCESSES stays."""
    os.environ.setdefault(METRIC_PROCESSES, str(max(0, cores - 1)))


def shutdown() -> None:
    """Ends all workers; the next call that needs some starts new ones. The end of the process ends them as well."""
    while _pools:
        _pools.popitem()[1][1].shutdown(cancel_futures=True)


def _on_workers(function: Callable[..., Result], tasks: Iterable[tuple[Any, ...]], count: int) -> Iterator[Result]:
    sources = (*METHODS.sources(), *METRICS.sources())
    if count in _pools and _pools[count][0] != sources:
        _pools.pop(count)[1].shutdown()
    if count not in _pools:
        spawn = multiprocessing.get_context("spawn")
        _pools[count] = sources, ProcessPoolExecutor(count, spawn, _begin, (sources,))
    pool = _pools[count][1]
    pending: deque[Future[Result]] = deque()
    try:
        for task in tasks:
            pending.append(pool.submit(function, *task))
            if len(pending) >= max(_AHEAD, 2 * count):
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    except BrokenProcessPool:
        if count in _pools and _pools[count][1] is pool:
            del _pools[count]
        pool.shutdown()
        raise
    finally:
        for future in pending:
            future.cancel()


def _begin(sources: tuple[Source, ...]) -> None:
    """Runs first in a worker: loads the methods and metrics from files, whose functions it may run."""
    _follow_parent()
    activate(sources)


def _follow_parent() -> None:
    """Makes the worker ignore interrupts, and end when its parent ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
