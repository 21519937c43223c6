"""Which unit goes where next: a pure state machine, without Ray and without clocks.

A unit that fails (its actor died or took too long, or the network raised) is tried again alone. If it fails alone, it
is bisected: halves of its samples are probed, without writing, until the failing ones are found; they are kept from
the network and the rest commits. A sample must fail twice alone, since a machine may be lost during a probe.
A unit that fails because of storage is tried again and then left undone, since no sample is to blame.

State is kept for units that are waiting, in flight or failing; for samples only while their unit is bisected.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Sequence, Set
from dataclasses import dataclass, field
from enum import StrEnum
from statistics import median
from typing import Literal

from pipeline.shards.samples import Poison, Status

MOST_FAILURES = 3
TIMEOUT_FACTOR, LEAST_TIMEOUT_SECONDS = 20, 600.0


class Failure(StrEnum):
    """Why an order failed."""

    DIED = "died"
    RAISED = "raised"
    TIMEOUT = "timeout"
    STORAGE = "storage"


@dataclass(eq=False, slots=True)
class Work:
    """A unit with the labels to do.

    Attributes:
        unit, labels, size: the unit's id, the method labels to do, its number of samples.
        failures: how often it failed.
        reason: of the last failure.
        poison: position of a sample in the unit -> why it is kept from the network.
        accused: positions of samples that failed once alone.
        suspects: runs of positions still to be probed; None when the unit is not being bisected.
        was_bisected: whether it has been.
    """

    unit: str
    labels: tuple[str, ...]
    size: int
    failures: int = 0
    reason: str = ""
    poison: dict[int, Poison] = field(default_factory=dict)
    accused: set[int] = field(default_factory=set)
    suspects: list[range] | None = None
    was_bisected: bool = False


@dataclass(frozen=True, eq=False)
class Order:
    """What an actor is to do: all of a unit, or a probe of some positions; `alone`, with nothing else in flight."""

    work: Work
    alone: bool = False
    probe: range | None = None


class Schedule:
    """Hands out orders and takes in their results.

    Args:
        works: the units to do.
        proven: labels under which units were done before.

    Attributes:
        given_up: units that stay undone, with the reason.
        done: how many units are done.
        hopeless: set when every sample of two units failed and none was ever done: the fault is not in the data.
    """

    def __init__(self, works: Iterable[Work], proven: Set[str] = frozenset()) -> None:
        self._fresh = deque(works)
        self._again: deque[Order] = deque()
        self._proven = proven
        self._in_flight = 0
        self._all_poison = 0
        self.given_up: dict[str, str] = {}
        self.done = 0
        self.hopeless: str | None = None

    def next(self, idle: bool) -> Order | None:
        """The next order for an actor, or None.

        Orders that must go alone come first, to an actor that is idle; while they wait, no others are handed
        out, so that a fault of the network or the machine shows before the whole data set has been tried.
        """
        if self._again:
            if not idle:
                return None
            self._in_flight += 1
            return self._again.popleft()
        if not self._fresh:
            return None
        self._in_flight += 1
        return Order(self._fresh.popleft())

    @property
    def finished(self) -> bool:
        """Whether nothing is left to hand out and nothing is in flight."""
        return not self._fresh and not self._again and self._in_flight == 0

    @property
    def in_flight(self) -> int:
        return self._in_flight

    def succeeded(self, order: Order) -> None:
        self._in_flight -= 1
        work = order.work
        if order.probe is None:
            self.done += 1
        else:
            self._bisect(work)

    def failed(self, order: Order, kind: Failure, reason: str) -> None:
        self._in_flight -= 1
        work = order.work
        work.reason = reason
        if order.probe is not None and kind is not Failure.STORAGE:
            self._narrow(work, order.probe, kind, reason)
            return
        work.failures += 1
        if kind is Failure.STORAGE or work.was_bisected:
            if work.failures > MOST_FAILURES:
                self.given_up[work.unit] = f"failed {work.failures} times, last: {reason}"
            else:
                self._again.append(Order(work, alone=True, probe=order.probe))
        elif order.alone:
            work.suspects = list(_halves(range(work.size)))
            self._bisect(work)
        else:
            self._again.append(Order(work, alone=True))

    def _narrow(self, work: Work, probed: range, kind: Failure, reason: str) -> None:
        suspects = work.suspects if work.suspects is not None else []
        if len(probed) > 1:
            suspects.extend(_halves(probed))
        elif probed[0] not in work.accused:
            work.accused.add(probed[0])
            suspects.append(probed)
        else:
            status = Status.TIMEOUT if kind is Failure.TIMEOUT else Status.QUARANTINED
            work.poison[probed[0]] = Poison(reason, status)
        work.suspects = suspects
        self._bisect(work)

    def _bisect(self, work: Work) -> None:
        """Probes the next suspects of a unit, or hands it out with its poison known."""
        if work.suspects:
            self._again.append(Order(work, alone=True, probe=work.suspects.pop()))
            return
        work.suspects = None
        work.was_bisected = True
        if len(work.poison) == work.size and self.done == 0 and not set(work.labels) <= self._proven:
            self._all_poison += 1
            if self._all_poison >= 2 or work.size > 1:
                self.hopeless = f"every sample of unit {work.unit} failed and no unit was done: {work.reason}"
        self._again.append(Order(work, alone=True))


def time_limit(setting: float | Literal["auto"] | None, unit_seconds: Collection[float]) -> float:
    """Seconds after which an actor with an order is taken to hang.

    Args:
        setting: `actors.unit_timeout`.
        unit_seconds: seconds that the last units took; ``auto`` sets no limit without them.
    """
    if setting is None or (setting == "auto" and not unit_seconds):
        return math.inf
    return max(LEAST_TIMEOUT_SECONDS, TIMEOUT_FACTOR * median(unit_seconds)) if setting == "auto" else setting


def _halves(positions: Sequence[int]) -> Iterator[range]:
    """Two halves of a run of positions; one run if it has one position."""
    start, stop = positions[0], positions[-1] + 1
    middle = (start + stop + 1) // 2
    yield range(start, middle)
    if middle < stop:
        yield range(middle, stop)
