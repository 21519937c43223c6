"""Units done in this process: the protocol of a run without Ray.

A worker has a few threads, so that units are read or written while another is on the device. A sample that kills
its process ends the command, which can be resumed, and a unit that hangs keeps its thread. An error of the GPU ends
the command too, since nothing can be computed on it in the same process.
"""

from __future__ import annotations

import itertools
import math
import queue
import socket
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import cast

from pipeline.driver.executor import (
    Counters,
    Event,
    Member,
    NoCounters,
    RunError,
    failure_of,
    loss,
    overdue,
)
from pipeline.driver.resources import Shape
from pipeline.driver.schedule import Failure, Order
from pipeline.unit.health import Health, KnownPoint
from pipeline.unit.messages import DeviceFailedError, Done, Task
from pipeline.unit.setup import described
from pipeline.unit.worker import Worker
from ssig.errors import UsageError, one_line

# How long threads may take to end once their worker is stopped.
STOP_SECONDS = 10.0
RESUME = (
    "a GPU that failed cannot be used again by the same process: run the same command to resume, or leave out "
    "--in-process, so that a process for each GPU can be replaced"
)


@dataclass(frozen=True)
class _Call:
    """An order that a thread works on, under the number that it is in flight with."""

    number: int
    order: Order
    task: Task


@dataclass(frozen=True)
class _Answer:
    """The result of a call, or an error; without a call, whether the worker is ready."""

    call: _Call | None
    done: Done | None = None
    error: BaseException | None = None


@dataclass(eq=False)
class LocalMember(Member):
    """A worker of this process, with its threads; None among the calls ends one of them."""

    worker: Worker | None = None
    health: Health | None = None
    calls: queue.SimpleQueue[_Call | None] = field(default_factory=queue.SimpleQueue)
    threads: list[threading.Thread] = field(default_factory=list)


class LocalExecutor:
    """Workers of this process.

    Args:
        create: makes one worker; called in a new thread.
        known: for the self-check of its GPU; None for no such check.
    """

    def __init__(self, create: Callable[[], Worker], known: KnownPoint | None = None) -> None:
        self._create = create
        self._known = known
        self._members: list[LocalMember] = []
        self._answers: queue.SimpleQueue[tuple[LocalMember, _Answer]] = queue.SimpleQueue()
        self._numbers = itertools.count()
        self._started = 0
        self.counters: Counters = NoCounters()

    @property
    def members(self) -> Sequence[LocalMember]:
        return self._members

    def start(self, measures: bool = False) -> LocalMember:
        """Starts one more worker; a `ready` or `lost` event follows."""
        self._started += 1
        member = LocalMember(f"local-{self._started}", measures=measures)
        self._members.append(member)
        self._thread(member, self._set_up)
        return member

    def send(self, member: Member, order: Order, task: Task) -> None:
        """Hands an order to a worker."""
        number = next(self._numbers)
        member.in_flight[number] = order
        member.since[number] = time.monotonic()
        cast(LocalMember, member).calls.put(_Call(number, order, task))

    def wait(self, seconds: float) -> list[Event]:
        """The events since the last call, waiting at most so long for the first.

        Raises:
            UsageError: a worker cannot start, nor could any other.
            RunError: the GPU failed.
        """
        events: list[Event] = []
        deadline = time.monotonic() + seconds
        while True:
            try:
                remaining_seconds = 0.0 if events else max(0.0, deadline - time.monotonic())
                member, answer = self._answers.get(block=remaining_seconds > 0, timeout=remaining_seconds or None)
            except queue.Empty:
                return events
            if member in self._members:  # and not given up meanwhile
                events += self._event(member, answer)

    def end_overdue(self, seconds: float, measuring: float = math.inf) -> list[Event]:
        """Gives up the workers with an order older than so many seconds; another is started in place of each."""
        late = overdue(self._members, seconds, measuring)
        for member, _ in late:
            self._give_up(member)
        return [event for member, reason in late for event in loss(member, reason, Failure.TIMEOUT)]

    def release(self) -> list[Event]:
        """Nothing: the workers live as long as this process."""
        return []

    def under_way(self) -> float:
        """Maps that are computed but not committed."""
        for member in self._members:
            member.under_way = 0.0 if member.worker is None else member.worker.under_way
        return sum(member.under_way for member in self._members)

    def places(self, size: Shape) -> int:
        """One: in one process, several workers gain nothing over the threads of one."""
        return 1

    def sees(self, member: Member, name: str) -> bool:
        """Whether a worker sees a file of the run: it is in the same process."""
        return True

    def is_gone(self) -> bool:
        """False: the workers live as long as this process."""
        return False

    def stop(self) -> None:
        """Ends every worker; what it had in flight fails as soon as it asks for the device."""
        members = list(self._members)
        for member in members:
            self._give_up(member)
        deadline = time.monotonic() + STOP_SECONDS
        for thread in (thread for member in members for thread in member.threads):
            thread.join(max(0.0, deadline - time.monotonic()))
        for member in members:
            if member.worker is not None and not any(thread.is_alive() for thread in member.threads):
                member.worker.close()

    def _thread(self, member: LocalMember, target: Callable[[LocalMember], None]) -> None:
        # Daemons, so that a unit that hangs does not keep the command from ending.
        thread = threading.Thread(target=target, args=(member,), name=member.name, daemon=True)
        member.threads.append(thread)
        thread.start()

    def _set_up(self, member: LocalMember) -> None:
        """Makes a worker."""
        try:
            member.worker = self._create()
            member.health = Health(member.worker.device, self._known, f"the GPU of {socket.gethostname()}")
            member.health.check()
        # Any error: the driver would wait for ever for one that is not reported.
        except BaseException as error:
            self._answers.put((member, _Answer(None, error=error)))
        else:
            self._answers.put((member, _Answer(None)))

    def _work(self, member: LocalMember) -> None:
        """Does the calls of a worker, one after the other."""
        worker, health = member.worker, member.health
        while worker is not None and health is not None and (call := member.calls.get()) is not None:
            done = None
            try:
                if call.order.probe is None:
                    done = health.guarded(worker.process, call.task)
                else:
                    health.guarded(worker.probe, call.task)
            except BaseException as error:  # see `_set_up`
                self._answers.put((member, _Answer(call, error=error)))
            else:
                self._answers.put((member, _Answer(call, done)))

    def _event(self, member: LocalMember, answer: _Answer) -> list[Event]:
        call, error = answer.call, answer.error
        if isinstance(error, DeviceFailedError):
            raise RunError(f"{error}; {RESUME}")
        if call is None and error is None and member.worker is not None:
            member.info = described(member.worker)
            for _ in range(member.most_calls):
                self._thread(member, self._work)
            return [Event("ready", member)]
        if call is None:
            self._members.remove(member)
            if isinstance(error, UsageError):
                raise error
            return loss(member, "" if error is None else one_line(error))
        member.forget(call.number)
        if error is not None:
            return [Event("failed", member, call.order, None, failure_of(error), one_line(error))]
        return [Event("done", member, call.order, answer.done)]

    def _give_up(self, member: LocalMember) -> None:
        """Lets a worker's threads end: at once if they have nothing to do, else at the next use of the device."""
        self._members.remove(member)
        for _ in range(member.most_calls):
            member.calls.put(None)
        if member.worker is not None:
            member.worker.stop()
