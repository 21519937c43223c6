"""The pool of Ray actors: who is ready, what each has in flight, and what happened to it."""

from __future__ import annotations

import math
import os
import signal
import socket
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, cast

import ray
from ray.exceptions import ActorDiedError, GetTimeoutError, RayActorError, RayError, RayTaskError

from pipeline.driver.actor import STATUS, WATCH, AttributionActor, reason_of, remote_class
from pipeline.driver.executor import Counters, Event, Member, failure_of, loss, overdue
from pipeline.driver.ray_cluster import draining_nodes, is_gone, nodes, nodes_for_work
from pipeline.driver.resources import Shape, fits_type, places
from pipeline.driver.schedule import Failure, Order
from pipeline.driver.telemetry import Telemetry
from pipeline.unit.messages import NoCudaError, Task
from pipeline.unit.setup import WorkerSetup
from ssig.errors import UsageError

# How often Ray is asked which nodes are about to go; a cloud gives notice half a minute before, or earlier.
RELEASE_SECONDS = 2.0
# How long a file system may take to tell whether a file is there.
SEES_SECONDS = 120.0


@dataclass(eq=False)
class Actor(Member):
    """An actor of the pool.

    `starting`, `asking` and `watching` are pending calls; the last is answered when the actor has ended.
    """

    handle: Any = None
    starting: Any = None
    asking: Any = None
    watching: Any = None


class Pool:
    """The actors of a run.

    Args:
        create: starts one actor and returns its handle.
        run: path or URL of the run.
        create_measuring: the same of an actor that only measures; None where there are none.
    """

    def __init__(
        self, create: Callable[[], Any], run: str = "", create_measuring: Callable[[], Any] | None = None
    ) -> None:
        self._create = create
        self._create_measuring = create_measuring or create
        self._started = 0
        self._released = 0.0
        self._actors: list[Actor] = []
        self.counters: Counters = Telemetry(run)

    @property
    def members(self) -> Sequence[Actor]:
        return self._actors

    def start(self, measures: bool = False) -> Actor:
        """Starts one more actor; a `ready` or `lost` event follows."""
        handle = self._create_measuring() if measures else self._create()
        self._started += 1
        name = f"{'metrics' if measures else 'actor'}-{self._started}"
        actor = Actor(name, measures=measures, handle=handle, starting=handle.ready.remote())
        self._actors.append(actor)
        return actor

    def send(self, member: Member, order: Order, task: Task) -> None:
        """Hands an order to an actor."""
        handle = cast(Actor, member).handle
        call = handle.process if order.probe is None else handle.probe
        ref = call.remote(task)
        member.in_flight[ref] = order
        member.since[ref] = time.monotonic()

    def wait(self, seconds: float) -> list[Event]:
        """The events since the last call, waiting at most so long for the first.

        Raises:
            UsageError: an actor cannot start, nor could any other.
        """
        owners = {ref: member for member in self._actors for ref in member.in_flight}
        owners.update({member.starting if member.info is None else member.watching: member for member in self._actors})
        if not owners:
            return []
        ray.wait(list(owners), num_returns=1, timeout=seconds)
        events: list[Event] = []
        for ref in _answered(owners):
            if owners[ref] in self._actors:
                events += self._event(owners[ref], ref)
        return events

    def release(self) -> list[Event]:
        """Gives no more orders to actors on nodes that drain; those with none in flight end. Asked now and then."""
        if time.monotonic() - self._released > RELEASE_SECONDS:
            self._released = time.monotonic()
            draining = draining_nodes()
            for actor in self._actors:
                actor.is_leaving = actor.is_leaving or (actor.info or {}).get("node") in draining
        leaving = [actor for actor in self._actors if actor.is_leaving and not actor.in_flight]
        for actor in leaving:
            self._actors.remove(actor)
            ray.kill(actor.handle)
        return [Event("left", actor, reason="its node is about to go") for actor in leaving]

    def under_way(self) -> float:
        """Maps that are computed but not committed, as the actors said last; asks those that have answered again."""
        actors_by_call = {member.asking: member for member in self._actors if member.asking is not None}
        for ref in _answered(actors_by_call):
            try:
                actors_by_call[ref].under_way = ray.get(ref)
            except RayError:
                actors_by_call[ref].under_way = 0.0  # `wait` reports its end
            actors_by_call[ref].asking = None
        for member in self._actors:
            if member.asking is None and member.info is not None:
                member.asking = member.handle.under_way.options(concurrency_group=STATUS).remote()
        return sum(member.under_way for member in self._actors)

    def end_overdue(self, seconds: float, measuring: float = math.inf) -> list[Event]:
        """Kills the actors with an order older than so many seconds; all that they had in flight has failed."""
        late = overdue(self._actors, seconds, measuring)
        return [event for member, reason in late for event in self._lose(member, reason, Failure.TIMEOUT)]

    def places(self, size: Shape) -> int:
        """How many actors of a size fit the cluster as it is now."""
        left = size.beside(nodes_for_work())
        usable = [node for node in left if fits_type(node, size.accelerator)]
        return places(usable, size.num_gpus, size.num_cpus)

    def sees(self, member: Member, name: str) -> bool:
        """Whether an actor, perhaps on another node, sees a file that the driver has just written."""
        if len(nodes()) == 1:
            return True
        try:
            return bool(ray.get(cast(Actor, member).handle.sees.remote(name), timeout=SEES_SECONDS))
        except RayActorError:
            return True  # `wait` reports its death
        except GetTimeoutError:
            return False

    def is_gone(self) -> bool:
        """Whether the cluster has ended."""
        return is_gone()

    def stop(self) -> None:
        """Ends every actor at once."""
        for actor in self._actors:
            ray.kill(actor.handle)
        self._actors.clear()

    def _event(self, actor: Actor, ref: Any) -> list[Event]:
        order = actor.in_flight.get(ref)
        try:
            value = ray.get(ref)
        except RayActorError as error:
            return self._lose(actor, reason_of(error), is_dead=isinstance(error, ActorDiedError))
        except RayTaskError as error:
            cause = error.cause if isinstance(error.cause, Exception) else error
            reason = reason_of(error)
            if order is None and isinstance(cause, UsageError):
                if isinstance(cause, NoCudaError) and any(member.info is not None for member in self._actors):
                    return self._lose(actor, reason)  # a node that is unlike the others ends no run
                raise cause from None
            if order is None:
                return self._lose(actor, reason)
            kind = failure_of(cause)
            if kind in (Failure.DEVICE, Failure.UNFIT):  # its later units would fail too
                return self._lose(actor, reason, kind)
            actor.forget(ref)
            return [Event("failed", actor, order, None, kind, reason)]
        except RayError as error:  # its answer was lost with its node, or memory ran out there
            return self._lose(actor, reason_of(error))
        if order is None:
            actor.info = value
            actor.watching = actor.handle.watch.options(concurrency_group=WATCH).remote()
            return [Event("ready", actor)]
        actor.forget(ref)
        return [Event("done", actor, order, value)]

    def _lose(self, actor: Actor, reason: str, kind: Failure = Failure.DIED, *, is_dead: bool = False) -> list[Event]:
        """The events of an actor that is dead or about to be."""
        self._actors.remove(actor)
        if not is_dead:  # to kill it once more would wait for a cluster that may have died with it
            ray.kill(actor.handle)
        if kind is Failure.TIMEOUT:
            _kill(actor)
        return loss(actor, reason, kind)


def pool_of(setup: WorkerSetup, size: Shape) -> Pool:
    """Actors of a size that each have a worker.

    Args:
        setup: what the workers are made from.
        size: what an actor takes of the cluster.
    """
    remote = remote_class(AttributionActor, size.num_cpus, size.num_gpus, size.marks)
    measuring = remote_class(AttributionActor, size.metrics_cpus, 0)
    threads = max(1, math.floor(size.metrics_cpus))
    shared_setup = ray.put(setup)  # once, so that every actor reads the same copy of the weights
    return Pool(
        lambda: remote.remote(shared_setup), setup.run, lambda: measuring.remote(shared_setup, measuring=threads)
    )


def _kill(member: Member) -> None:
    """Kills an actor of this machine that may not react to Ray, such as a stopped process."""
    info = member.info or {}
    if info.get("host") == socket.gethostname():
        with suppress(OSError):
            os.kill(info["pid"], signal.SIGKILL)


def _answered(refs: Iterable[Any]) -> list[Any]:
    """The references whose results are ready."""
    waiting = list(refs)
    answered: list[Any] = ray.wait(waiting, num_returns=len(waiting), timeout=0)[0] if waiting else []
    return answered
