"""Which unit goes where next: a pure state machine, without Ray and without clocks.

A unit that fails (its actor died or took too long, or the network raised) is tried again alone. If it fails alone, it
is bisected: halves of its samples are probed, without writing, until the failing ones are found; they are kept from
the network and the rest commits. A sample must fail twice alone, since a machine may be lost during a probe.
A unit that fails because of storage is tried again and then left undone, since no sample is to blame.

A GPU can fail too, for one process or for good, and then fails with every sample. So where actors have GPUs:

- An order that goes alone is preceded by a self-check of the actor. If that fails, nothing counts against a sample.
- It goes to a device whose last order was done, else to another device than the one where its unit failed last.
- Samples with which the process or the device ended are blamed. They are kept from the network once another sample
  of the unit was done after them. If none is, the unit is given up.

Where some actors only measure (`actors.metrics`), a fresh unit may be handed out for its maps alone. It then waits,
published and not committed, for an actor that measures it and commits. If that fails, the unit goes on as any other
that failed: all of it is tried again alone, by an actor that makes maps and finds them made.

State is kept for units that are waiting, in flight or failing; for samples only while their unit is bisected.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from enum import StrEnum
from statistics import median
from typing import Literal

from pipeline.shards.samples import Poison, Status
from pipeline.unit.messages import Portion

MOST_FAILURES = 3
# Failed self-checks before orders of one unit.
MOST_UNFIT = 5
# Samples of a unit that are blamed, while none of the unit's was done, before the device is suspected.
MOST_BLAMED = 3
# Units in a row that are given up so before the run is.
MOST_SUSPICIONS = 3
TIMEOUT_FACTOR, LEAST_TIMEOUT_SECONDS = 20, 600.0


class Failure(StrEnum):
    """Why an order failed: `device`, the accelerator failed; `unfit`, the self-check before the order did."""

    DIED = "died"
    DEVICE = "device"
    UNFIT = "unfit"
    RAISED = "raised"
    TIMEOUT = "timeout"
    STORAGE = "storage"


# With these, a device may be to blame in place of the samples.
_ENDS = frozenset({Failure.DIED, Failure.DEVICE, Failure.TIMEOUT})


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
        failed_on: the device on which it failed last; None for the CPU.
        unfit: how often the self-check before an order failed.
        blamed: like `poison`, but the device may be to blame.
        sound: position of a sample that was done alone or with others in the bisection.
        spent: once its maps are published and not measured, the seconds that they took, by method label and step.
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
    failed_on: str | None = None
    unfit: int = 0
    blamed: dict[int, Poison] = field(default_factory=dict)
    sound: int | None = None
    spent: Mapping[str, Mapping[str, float]] | None = None


@dataclass(frozen=True, eq=False)
class Order:
    """What an actor is to do: a portion of a unit, or a probe of some positions.

    It goes `alone`, with nothing else in flight, where a failure is to be told from others.
    """

    work: Work
    alone: bool = False
    probe: range | None = None
    portion: Portion = Portion.ALL


class Schedule:
    """Hands out orders and takes in their results.

    Args:
        works: the units to do.
        proven: labels under which units were done before.

    Attributes:
        given_up: units that stay undone, with the reason.
        total, done: how many units there are so far, and how many are done.
        hopeless: set when every sample of two units failed and none was ever done, or when devices do no sample of
            several units in a row: the fault is not in the data.
    """

    def __init__(self, works: Iterable[Work], proven: Set[str] = frozenset()) -> None:
        self._fresh: deque[Work] = deque()
        self._again: deque[Order] = deque()
        self._mapped: deque[Work] = deque()
        self._proven = proven
        self._in_flight = 0
        self._all_poison = 0
        self._suspicions = 0
        self._failing: set[str] = set()
        self.given_up: dict[str, str] = {}
        self.total = 0
        self.done = 0
        self.hopeless: str | None = None
        self.add(works)

    def add(self, works: Iterable[Work]) -> None:
        """Takes in more units to do."""
        before = len(self._fresh)
        self._fresh.extend(works)
        self.total += len(self._fresh) - before

    def next(
        self,
        idle: bool,
        device: str | None = None,
        devices: Set[str] = frozenset(),
        portion: Literal[Portion.ALL, Portion.MAPS] = Portion.ALL,
    ) -> Order | None:
        """The next order for an actor that makes maps, or None.

        Orders that must go alone come first, to an actor that is idle; while they wait, no others are handed
        out, so that a fault of the network or the machine shows before the whole data set has been tried. Units whose
        maps are published come last.

        Args:
            idle: whether the actor has nothing in flight.
            device: the actor's GPU; None for the CPU.
            devices: the GPUs of all actors that are ready.
            portion: what it does of a unit that nobody has begun.
        """
        if self._again:
            order = next((order for order in self._again if self._suits(order.work, device, devices)), None)
            if not idle or order is None:
                return None
            self._again.remove(order)
            self._in_flight += 1
            return order
        if not self._fresh:
            return self.next_mapped()
        self._in_flight += 1
        return Order(self._fresh.popleft(), portion=portion)

    def next_mapped(self) -> Order | None:
        """The next order for an actor that measures, or None: a unit whose maps are published."""
        if not self._mapped:
            return None
        self._in_flight += 1
        return Order(self._mapped.popleft(), portion=Portion.METRICS)

    @property
    def mapped(self) -> int:
        """How many units wait, with their maps published, to be measured."""
        return len(self._mapped)

    def _suits(self, work: Work, device: str | None, devices: Set[str]) -> bool:
        """Whether an order of a unit that failed may go to a device, or should wait for a better one."""
        if device is None:
            return True
        good = devices - self._failing or devices - {work.failed_on}
        return device in good or not good

    @property
    def finished(self) -> bool:
        """Whether nothing is left to hand out and nothing is in flight."""
        return not self._fresh and not self._again and not self._mapped and self._in_flight == 0

    @property
    def in_flight(self) -> int:
        return self._in_flight

    def succeeded(self, order: Order, device: str | None = None) -> None:
        """Takes in that an order was done, on a device; None for the CPU."""
        self._in_flight -= 1
        if order.portion is not Portion.METRICS:  # which speak for no device that makes maps
            self._suspicions = 0
        if device is not None:
            self._failing.discard(device)
        work = order.work
        if order.portion is Portion.MAPS:
            self._mapped.append(work)
        elif order.probe is None:
            self.done += 1
        else:
            work.sound = order.probe[0]
            work.poison |= work.blamed
            work.blamed.clear()
            self._bisect(work)

    def failed(self, order: Order, kind: Failure, reason: str, device: str | None = None) -> None:
        """Takes in that an order failed, on a device; None for the CPU."""
        self._in_flight -= 1
        work = order.work
        work.reason = reason
        if device is not None and kind is not Failure.STORAGE:
            self._failing.add(device)
            work.failed_on = device
        if kind is Failure.UNFIT:
            self._put_off(order)
            return
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

    def _put_off(self, order: Order) -> None:
        """Hands an order that was not begun out again."""
        work = order.work
        work.unfit += 1
        if work.unfit > MOST_UNFIT:
            self._give_up_on_devices(work, f"no device was fit for it {work.unfit} times")
        else:
            self._again.append(order)

    def _give_up_on_devices(self, work: Work, why: str) -> None:
        """Leaves a unit undone because devices fail, whatever its samples."""
        self.given_up[work.unit] = f"{why}, last: {work.reason}"
        self._suspicions += 1
        if self._suspicions >= MOST_SUSPICIONS:
            self.hopeless = (
                f"{self._suspicions} units in a row could not be done by any device, and nothing was done between "
                f"them: {work.reason}; see what nvidia-smi and dmesg say of the GPU, then type the same command to "
                "resume"
            )

    def _narrow(self, work: Work, probed: range, kind: Failure, reason: str) -> None:
        suspects = work.suspects if work.suspects is not None else []
        if probed[0] == work.sound:
            work.unfit += 1
            work.accused -= work.blamed.keys()
            suspects.extend(range(position, position + 1) for position in work.blamed)
            work.blamed.clear()
        elif len(probed) > 1:
            suspects.extend(_halves(probed))
        elif probed[0] not in work.accused:
            work.accused.add(probed[0])
            suspects.append(probed)
        else:
            status = Status.TIMEOUT if kind is Failure.TIMEOUT else Status.QUARANTINED
            may_be_the_device = work.failed_on is not None and kind in _ENDS
            (work.blamed if may_be_the_device else work.poison)[probed[0]] = Poison(reason, status)
            if may_be_the_device:
                suspects.reverse()  # next, the largest part: if it is done, the device is not to blame
        work.suspects = suspects
        if work.unfit > MOST_UNFIT:
            self._give_up_on_devices(work, f"no device was fit for it {work.unfit} times")
        else:
            self._bisect(work)

    def _bisect(self, work: Work) -> None:
        """Probes the next suspects of a unit, or hands it out with its poison known."""
        if work.blamed and work.sound is not None:
            self._again.append(Order(work, alone=True, probe=range(work.sound, work.sound + 1)))
            return
        if work.blamed and (not work.suspects or len(work.blamed) >= MOST_BLAMED):
            count = len(work.blamed)
            self._give_up_on_devices(work, f"{count} of its samples failed alone, and none of them could be done")
            return
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
