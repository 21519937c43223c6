"""A few threads that draw random numbers while other code goes on."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import torch

_lock = threading.Lock()
_pool: ThreadPoolExecutor | None = None


def begin(function: Callable[..., None], *arguments: Any) -> Future[None]:
    """Runs a function in a thread of the pool; at the end of the process, where threads start no more, at once.

    The pool starts with its first task, with as many threads as torch has (`OMP_NUM_THREADS`, the cores of an actor).
    """
    try:
        return _threads().submit(function, *arguments)
    except RuntimeError:  # the interpreter is shutting down
        done: Future[None] = Future()
        function(*arguments)
        done.set_result(None)
        return done


def _threads() -> ThreadPoolExecutor:
    global _pool
    with _lock:
        if _pool is None:
            _pool = ThreadPoolExecutor(max(1, torch.get_num_threads()), "draws")
        return _pool


def _forget() -> None:
    """A child of a fork has none of its parent's threads, and a lock of its parent's may stay closed in it."""
    global _lock, _pool
    _lock, _pool = threading.Lock(), None


os.register_at_fork(after_in_child=_forget)
