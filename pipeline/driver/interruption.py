"""Signals: the first asks a run to finish what is in flight, the second ends it."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ssig.errors import INTERRUPTED

# Signals that follow each other so soon are one.
ONE_SIGNAL_SECONDS = 0.5


@contextmanager
def draining(interrupted: threading.Event, tell: Callable[[str], None]) -> Iterator[None]:
    """Turns the first SIGINT or SIGTERM into a drain and the second into an end. Goes in after Ray's own handler.

    Does nothing outside of the main thread, which alone may set handlers.

    Args:
        interrupted: set by the first signal.
        tell: tells a person.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    first = 0.0

    def handle(number: int, frame: object) -> None:
        nonlocal first
        if interrupted.is_set():
            # `timeout` and others signal the process, and then its group: both are one.
            if time.monotonic() - first < ONE_SIGNAL_SECONDS:
                return
            sys.exit(INTERRUPTED)
        first = time.monotonic()
        interrupted.set()
        tell(f"{signal.Signals(number).name}: finishing the units in flight; once more to stop at once")

    previous = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
