"""Work of the host beside the thread that feeds the device: a few threads, and how a method waits for them.

future = beside(function, *arguments, like=images)     begins on an accelerator; on the CPU it is done at once
result = yield from waited(future)                     in a coroutine: other methods go on meanwhile
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

import torch
from torch import Tensor

from ssig.types.method import Request, Response

Result = TypeVar("Result")

_lock = threading.Lock()
_pool: ThreadPoolExecutor | None = None


def beside(function: Callable[..., Result], *arguments: Any, like: Tensor) -> Future[Result]:
    """Begins a function in a thread of the pool, if `like` is on an accelerator; else calls it, as it takes a core.

    Raises:
        Exception: on the CPU, the error of the function.
    """
    return _done(function(*arguments)) if like.device.type == "cpu" else begin(function, *arguments)


def begin(function: Callable[..., Result], *arguments: Any) -> Future[Result]:
    """Begins a function in a thread of the pool; at the end of the process, where threads start no more, calls it.

    The pool starts with its first task, with as many threads as torch has (`OMP_NUM_THREADS`, the cores of an actor).
    """
    try:
        return _threads().submit(function, *arguments)
    except RuntimeError:  # the interpreter is shutting down
        return _done(function(*arguments))


def waited(future: Future[Result]) -> Generator[Request, Response, Result]:
    """The result of a future, for a method's coroutine. The engine answers other methods' requests meanwhile.

    Raises:
        Exception: the error of the future.
    """
    if not future.done():
        yield Request(torch.empty(0), torch.empty(0, dtype=torch.int64), want=frozenset(), until=future)
    return future.result()


def _done(result: Result) -> Future[Result]:
    future: Future[Result] = Future()
    future.set_result(result)
    return future


def _threads() -> ThreadPoolExecutor:
    global _pool
    with _lock:
        if _pool is None:
            _pool = ThreadPoolExecutor(max(1, torch.get_num_threads()), "beside")
        return _pool


def _forget() -> None:
    """A child of a fork has none of its parent's threads, and a lock of its parent's may stay closed in it."""
    global _lock, _pool
    _lock, _pool = threading.Lock(), None


os.register_at_fork(after_in_child=_forget)
