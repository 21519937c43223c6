"""The seconds that a device computes for a job, read when they are known instead of waiting for them."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from ssig.engine.accelerators import Mark, mark


class Spent:
    """Seconds of computing for one job: a sum of spans between two marks, each shared with other jobs or not."""

    def __init__(self) -> None:
        self._known = 0.0
        self._open: deque[tuple[Mark, Mark, float]] = deque()

    def add(self, start: Mark, stop: Mark, share: float = 1.0) -> None:
        """Adds a share of a span; its marks may lie ahead."""
        self._open.append((start, stop, share))
        # What has been reached is read now: a long job would hold thousands of marks.
        while self._open and self._open[0][1].reached():
            self._read()

    @contextmanager
    def charged(self, device: torch.device) -> Iterator[None]:
        """Adds what the body gives to a device, also where it fails."""
        start = mark(device)
        try:
            yield
        finally:
            self.add(start, mark(device))

    @property
    def seconds(self) -> float:
        """All seconds so far; waits until the device has come to the last mark."""
        while self._open:
            self._read()
        return self._known

    def _read(self) -> None:
        start, stop, share = self._open.popleft()
        self._known += start.until(stop) * share
