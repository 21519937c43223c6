"""Chooses by the clock among forms of a network that give the same answers.

Which form is faster depends on the device. On the CPU nothing is timed: there the choices were measured beforehand.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import median

import torch
from torch import Tensor, nn

from ssig.acceleration.changes import Change, Undo
from ssig.acceleration.proof import Forward, answers

Call = Callable[[], object]
# Prepares a form, and returns the call to time.
Form = Callable[[], Call]

ROUNDS = 5
# A form is not slower if it takes at most so many times the seconds of the fastest one.
MARGIN = 1.02


@dataclass(frozen=True)
class Stopwatch:
    """How forms are timed on a device.

    Attributes:
        points: evaluated at once; fewer if they do not fit.
        seconds: of a call, until the device has finished.
    """

    points: int
    seconds: Callable[[Call], float]


def first_fast(forms: Sequence[Form], seconds: Callable[[Call], float]) -> int:
    """The index of the first form that is not slower than any other.

    The forms are timed in turn, so that drifts of the device's speed affect all alike. The first call of each includes
    one-time work and does not count.
    """
    measured: list[list[float]] = [[] for _ in forms]
    for _ in range(1 + ROUNDS):
        for form, times in zip(forms, measured, strict=True):
            times.append(seconds(form()))
    medians = [median(times[1:]) for times in measured]
    return next(index for index, taken in enumerate(medians) if taken <= MARGIN * min(medians))


class Race:
    """Times the input gradients of a network in several forms, and leaves it in the chosen one.

    Args:
        network: will be changed.
        forward: of the network, under the autocast of its use.
        point: (1, C, H, W), repeated for a micro-batch.
        stopwatch: of the device.
        batches: whether the network takes more than one point at once.
    """

    def __init__(
        self, network: nn.Module, forward: Forward, point: Tensor, stopwatch: Stopwatch, batches: bool
    ) -> None:
        self._network, self._forward, self._point = network, forward, point
        self._seconds, self._count = stopwatch.seconds, stopwatch.points if batches else 1

    def layout(self) -> torch.memory_format:
        """Channels last if that is not slower, else the usual layout."""
        layouts = (torch.channels_last, torch.contiguous_format)

        def form(layout: torch.memory_format) -> Call:
            self._network.to(memory_format=layout)
            return self._passing(layout)

        chosen = layouts[self._first_fast([partial(form, layout) for layout in layouts])]
        self._network.to(memory_format=chosen)
        return chosen

    def apply(self, changes: Sequence[Change], layout: torch.memory_format) -> bool:
        """Makes the changes if the network is not slower with them; whether they were made."""
        undos: list[Undo] = []

        def changed() -> Call:
            if not undos:
                undos.extend([change(self._network) for change in changes])
            return self._passing(layout)

        def unchanged() -> Call:
            while undos:
                undos.pop()()
            return self._passing(layout)

        forms = (changed, unchanged)
        chosen = self._first_fast(forms)
        forms[chosen]()
        return chosen == 0

    def _passing(self, layout: torch.memory_format) -> Call:
        points = self._point.expand(self._count, -1, -1, -1).contiguous(memory_format=layout)
        return lambda: answers(self._forward, points)

    def _first_fast(self, forms: Sequence[Form]) -> int:
        """The first form that is not slower; without memory for a single point, the first."""
        while True:
            try:
                return first_fast(forms, self._seconds)
            except torch.OutOfMemoryError:
                if self._count == 1:
                    return 0
            self._count //= 2
