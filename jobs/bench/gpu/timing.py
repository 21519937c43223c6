"""Rates: how many things a second, where the device computes after the call has returned."""

from __future__ import annotations

import time
from collections.abc import Callable

from jobs.bench.gpu.session import Session

MOST_CALLS = 20_000


def rate(session: Session, function: Callable[[], object], count: int, seconds: float = 0.5) -> float:
    """Things a second, over about so many seconds, where a call does `count` things.

    The number of calls is settled beforehand, because a host that only launches runs far ahead of the device.
    """
    seconds = session.pick(seconds, 0.02)
    duration(session, function)
    calls = min(MOST_CALLS, max(1, int(seconds / max(duration(session, function), 1e-6))))

    def repeated() -> None:
        for _ in range(calls):
            function()

    return calls * count / duration(session, repeated)


def duration(session: Session, function: Callable[[], object]) -> float:
    """Seconds of a call, until the device has done its work."""
    session.sync()
    started = time.perf_counter()
    function()
    session.sync()
    return time.perf_counter() - started
