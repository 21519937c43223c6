"""The pool of Ray actors: who is ready, what each has in flight, and what happened to it."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Literal

import ray
from ray.exceptions import ActorDiedError, RayActorError, RayError, RayTaskError

from pipeline.driver.actor import CALLS_AT_ONCE, STATUS, WATCH, reason_of
from pipeline.driver.schedule import Failure, Order
from pipeline.run.publishing import DamagedTableError
from pipeline.unit.messages import Done, Task
from ssig.errors import UsageError


@dataclass(eq=False)
class Member:
    """An actor of the pool: `info` once it is ready, what it has in flight, and since when (`time.monotonic`).

    `starting`, `asking` and `watching` are calls that are out: the last is answered when the actor has ended.
    """

    name: str
    handle: Any
    starting: Any
    info: dict[str, Any] | None = None
    under_way: float = 0.0
    asking: Any = None
    watching: Any = None
    in_flight: dict[Any, Order] = field(default_factory=dict)
    since: dict[Any, float] = field(default_factory=dict)

    def forget(self, ref: Any) -> None:
        """Takes an order back that has been answered."""
        del self.in_flight[ref], self.since[ref]

    @property
    def room(self) -> int:
        """How many more orders it takes; none while one of them must be alone."""
        if self.info is None or any(order.alone for order in self.in_flight.values()):
            return 0
        return CALLS_AT_ONCE - len(self.in_flight)


@dataclass(frozen=True)
class Event:
    """What the pool saw: an actor became `ready`, was `lost`, or an order came back `done` or `failed`."""

    kind: Literal["ready", "lost", "done", "failed"]
    member: Member
    order: Order | None = None
    done: Done | None = None
    failure: Failure | None = None
    reason: str = ""


class Pool:
    """The actors of a run.

    Args:
        create: starts one actor and returns its handle.
    """

    def __init__(self, create: Callable[[], Any]) -> None:
        self._create = create
        self._started = 0
        self.members: list[Member] = []

    def start(self) -> Member:
        """Starts one more actor; a `ready` or `lost` event follows."""
        handle = self._create()
        self._started += 1
        member = Member(f"actor-{self._started}", handle, handle.ready.remote())
        self.members.append(member)
        return member

    def send(self, member: Member, order: Order, task: Task) -> None:
        """Hands an order to an actor."""
        call = member.handle.process if order.probe is None else member.handle.probe
        ref = call.remote(task)
        member.in_flight[ref] = order
        member.since[ref] = time.monotonic()

    def wait(self, seconds: float) -> list[Event]:
        """What happened, waiting at most so long for the first event.

        Raises:
            UsageError: an actor refuses to start, as every other one like it would.
        """
        owners = {ref: member for member in self.members for ref in member.in_flight}
        owners.update({member.starting if member.info is None else member.watching: member for member in self.members})
        if not owners:
            return []
        ray.wait(list(owners), num_returns=1, timeout=seconds)
        events: list[Event] = []
        for ref in _answered(owners):
            if owners[ref] in self.members:
                events += self._event(owners[ref], ref)
        return events

    def ask(self) -> float:
        """Maps that are computed but not committed, as the actors said last; asks those that have answered again."""
        asked = {member.asking: member for member in self.members if member.asking is not None}
        for ref in _answered(asked):
            try:
                asked[ref].under_way = ray.get(ref)
            except RayError:
                asked[ref].under_way = 0.0  # `wait` hears of its end
            asked[ref].asking = None
        for member in self.members:
            if member.asking is None and member.info is not None:
                member.asking = member.handle.under_way.options(concurrency_group=STATUS).remote()
        return sum(member.under_way for member in self.members)

    def end_overdue(self, seconds: float) -> list[Event]:
        """Kills the actors with an order older than so many seconds; all that they had in flight has failed."""
        latest = time.monotonic() - seconds
        late = [member for member in self.members if any(since < latest for since in member.since.values())]
        reason = f"took longer than {seconds:.0f} s (actors.unit_timeout)"
        return [event for member in late for event in self._lost(member, reason, Failure.TIMEOUT)]

    def stop(self) -> None:
        """Ends every actor at once."""
        for member in self.members:
            ray.kill(member.handle)
        self.members.clear()

    def _event(self, member: Member, ref: Any) -> list[Event]:
        order = member.in_flight.get(ref)
        try:
            value = ray.get(ref)
        except RayActorError as error:
            return self._lost(member, reason_of(error), is_dead=isinstance(error, ActorDiedError))
        except RayTaskError as error:
            cause = error.cause if isinstance(error.cause, Exception) else error
            reason = reason_of(error)
            if order is None and isinstance(cause, UsageError):
                raise cause from None
            if order is None:
                return self._lost(member, reason)
            member.forget(ref)
            is_storage = isinstance(cause, (OSError, DamagedTableError))
            return [Event("failed", member, order, None, Failure.STORAGE if is_storage else Failure.RAISED, reason)]
        except RayError as error:  # its answer went with its node, or memory ran out there
            return self._lost(member, reason_of(error))
        if order is None:
            member.info = value
            member.watching = member.handle.watch.options(concurrency_group=WATCH).remote()
            return [Event("ready", member)]
        member.forget(ref)
        return [Event("done", member, order, value)]

    def _lost(
        self, member: Member, reason: str, kind: Failure = Failure.DIED, *, is_dead: bool = False
    ) -> list[Event]:
        """The events of an actor that is dead or about to be: its own, and one for each order that it had."""
        self.members.remove(member)
        if not is_dead:  # to kill it once more would wait for a cluster that may have died with it
            ray.kill(member.handle)
        if kind is Failure.TIMEOUT:
            _kill(member)
        why = f"the actor died: {reason}" if kind is Failure.DIED else reason
        orders = list(member.in_flight.values())
        return [Event("lost", member, reason=reason), *(Event("failed", member, o, None, kind, why) for o in orders)]


def _kill(member: Member) -> None:
    """Kills an actor of this machine that may be too far gone to hear Ray: one that is stopped, for instance."""
    info = member.info or {}
    if info.get("host") == socket.gethostname():
        with suppress(OSError):
            os.kill(info["pid"], signal.SIGKILL)


def _answered(refs: Iterable[Any]) -> list[Any]:
    """Those of some results that are there."""
    waiting = list(refs)
    answered: list[Any] = ray.wait(waiting, num_returns=len(waiting), timeout=0)[0] if waiting else []
    return answered
