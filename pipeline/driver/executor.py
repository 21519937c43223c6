"""The interface between a campaign and the workers that do its units.

    Pool             one Ray actor for each worker, on any number of machines      `pipeline.driver.pool`
    LocalExecutor    one worker in this process, without Ray                       `pipeline.driver.local`

Both take the same protocol steps in the run directory. With a pool, the driver survives the death of a worker.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeVar

from pipeline.driver.resources import Shape
from pipeline.driver.schedule import Failure, Order
from pipeline.run.publishing import DamagedTableError
from pipeline.unit.beside_device import UNITS_ON_A_CPU, UNITS_ON_A_GPU
from pipeline.unit.messages import DeviceFailedError, Done, Task
from ssig.errors import SsigError


def calls_at_once(*, on_gpu: bool) -> int:
    """Units that a worker has in hand: one on the device, and those that are read, measured or written meanwhile."""
    return UNITS_ON_A_GPU if on_gpu else UNITS_ON_A_CPU


class RunError(SsigError):
    """The run could not finish; what is committed stays, and the same command goes on."""


@dataclass(eq=False)
class Member:
    """A worker.

    Attributes:
        info: where it is, once it is ready.
        in_flight, since: its orders, and when they were given (`time.monotonic`).
        is_leaving: whether its node is about to go: it gets no more orders.
        under_way: maps that it has computed and not committed, as it reported last.
        measures: whether it only measures maps of others (`actors.metrics`).
    """

    name: str
    info: dict[str, Any] | None = None
    in_flight: dict[Any, Order] = field(default_factory=dict)
    since: dict[Any, float] = field(default_factory=dict)
    is_leaving: bool = False
    under_way: float = 0.0
    measures: bool = False

    def forget(self, call: Any) -> None:
        """Removes an order that has been answered."""
        del self.in_flight[call], self.since[call]

    @property
    def gpu(self) -> str | None:
        """Names the GPU that it computes on; None for the CPU, and while it starts."""
        return None if self.info is None else self.info.get("gpu")

    @property
    def most_calls(self) -> int:
        """How many orders it takes at once."""
        device = "" if self.info is None else str(self.info.get("device"))
        return calls_at_once(on_gpu=self.gpu is not None or device.startswith("cuda"))

    @property
    def room(self) -> int:
        """How many more orders it takes; none while one of them must be alone, or when its node is about to go."""
        if self.info is None or self.is_leaving or any(order.alone for order in self.in_flight.values()):
            return 0
        return self.most_calls - len(self.in_flight)


AnyMember = TypeVar("AnyMember", bound=Member)


@dataclass(frozen=True)
class Event:
    """What happened: a worker became `ready`, was `lost` or `left`, or an order came back `done` or `failed`.

    A worker leaves when nothing of it is in flight and its node is about to go: no order fails with it.
    """

    kind: Literal["ready", "lost", "left", "done", "failed"]
    member: Member
    order: Order | None = None
    done: Done | None = None
    failure: Failure | None = None
    reason: str = ""


@dataclass(frozen=True)
class State:
    """How a run stands, for machines.

    Attributes:
        actors: workers that are ready, without those that only measure.
        in_flight, units_left: units handed out, and units that are not done.
        rows_under_way: maps computed and not committed.
        seconds_left: at the present rate; None while it is unknown.
        micro_batches: points that each of these workers evaluates at once.
    """

    actors: int
    in_flight: int
    units_left: int = 0
    rows_under_way: float = 0.0
    seconds_left: float | None = None
    micro_batches: Sequence[int] = ()


class Counters(Protocol):
    """Progress for machines."""

    def done(self, done: Done) -> None:
        """Counts a unit that is done, and what it took."""

    def mapped(self, done: Done) -> None:
        """Counts what the maps of a unit took that is still to be measured."""

    def failed(self, kind: str) -> None:
        """Counts a unit that failed."""

    def state(self, state: State) -> None:
        """Tells how the run stands."""


class NoCounters:
    """Counts nothing."""

    def done(self, done: Done) -> None:
        pass

    def mapped(self, done: Done) -> None:
        pass

    def failed(self, kind: str) -> None:
        pass

    def state(self, state: State) -> None:
        pass


class Executor(Protocol):
    """Does orders on workers."""

    @property
    def members(self) -> Sequence[Member]:
        """The workers that are starting or ready."""

    @property
    def counters(self) -> Counters:
        """Progress for machines."""

    def start(self, measures: bool = False) -> Member:
        """Starts one more worker, also one that only measures; a `ready` or `lost` event follows."""

    def send(self, member: Member, order: Order, task: Task) -> None:
        """Hands an order to a worker with room; a `done` or `failed` event follows."""

    def wait(self, seconds: float) -> list[Event]:
        """The events since the last call, waiting at most so long for the first.

        Raises:
            UsageError: a worker cannot start, nor could any other.
        """

    def end_overdue(self, seconds: float, measuring: float = math.inf) -> list[Event]:
        """Gives up the workers with an order older than so many seconds; all that they had in flight has failed.

        Args:
            seconds: of workers that make maps.
            measuring: of workers that only measure.
        """

    def release(self) -> list[Event]:
        """Gives no more orders to workers on nodes that are about to go; those with none in flight leave."""

    def under_way(self) -> float:
        """Maps that are computed but not committed, as the workers last reported."""

    def places(self, size: Shape) -> int:
        """How many workers of a size have a place now."""

    def sees(self, member: Member, name: str) -> bool:
        """Whether a worker sees a file of the run that this process has just written."""

    def is_gone(self) -> bool:
        """Whether the cluster of the workers has ended, so that no more events come."""

    def stop(self) -> None:
        """Ends every worker at once."""


def failure_of(error: BaseException) -> Failure:
    """Whether a unit failed because of storage or a device, so that no sample is to blame, or something raised."""
    if isinstance(error, DeviceFailedError):
        return Failure.DEVICE if error.begun else Failure.UNFIT
    return Failure.STORAGE if isinstance(error, (OSError, DamagedTableError)) else Failure.RAISED


def loss(member: Member, reason: str, kind: Failure = Failure.DIED) -> list[Event]:
    """The events of a worker that is dead or given up: its own, and one for each order that it had."""
    why = f"the actor died: {reason}" if kind is Failure.DIED else reason
    orders = list(member.in_flight.values())
    return [Event("lost", member, reason=reason), *(Event("failed", member, o, None, kind, why) for o in orders)]


def overdue(members: Sequence[AnyMember], seconds: float, measuring: float) -> list[tuple[AnyMember, str]]:
    """Those with an order that is too old, and why they are given up.

    Args:
        members: workers.
        seconds: that an order may take, of workers that make maps.
        measuring: the same of those that only measure.
    """
    now, late = time.monotonic(), []
    for member in members:
        limit = measuring if member.measures else seconds
        if any(since < now - limit for since in member.since.values()):
            late.append((member, overdue_reason(limit)))
    return late


def overdue_reason(seconds: float) -> str:
    """Why a worker that took longer than so many seconds is given up."""
    return f"took longer than {seconds:.0f} s (actors.unit_timeout)"
