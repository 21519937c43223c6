"""Runs of a `Schedule` on simulated actors, some of which have a sick GPU, in simulated time.

A sick process fails with every order until it is replaced. A sick card fails with every order at a random time, in
any process, and passes a self-check as often as it is told to.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from pipeline.driver.executor import calls_at_once
from pipeline.driver.schedule import Failure, Order, Schedule, Work

# Seconds: of a sound order, of one that fails at once, and of starting an actor.
ORDER, AT_ONCE, START = 10.0, 0.5, 15.0


@dataclass(frozen=True)
class Card:
    """A GPU that becomes sick at a time.

    Attributes:
        since: when.
        passes: share of self-checks that it passes though it is sick.
        only_this_process: whether a new process cures it.
    """

    since: float
    passes: float = 1.0
    only_this_process: bool = False


@dataclass
class Simulated:
    """An actor.

    Attributes:
        gpu: its GPU.
        card: how it is sick, if it is.
        broken: whether the device has failed in its process.
        ready: when it is ready.
        queue: what it has in flight; the first is under way.
    """

    gpu: str
    card: Card | None
    broken: bool = False
    ready: float = 0.0
    queue: list[Order] = field(default_factory=list)
    run: int = 0  # that the event of its first order belongs to

    @property
    def room(self) -> int:
        return 0 if any(order.alone for order in self.queue) else calls_at_once(on_gpu=True) - len(self.queue)


class Fleet:
    """Actors that work a schedule off.

    Args:
        schedule: the units.
        poison: unit -> what its poisonous samples do, by position: they raise, kill the process or break the device.
        cards: the number of an actor -> how its GPU is sick.
        actors: how many there are, each with a GPU.
        told_apart: whether errors of a device end their actor, and orders that go alone are preceded by a self-check.
        seed: of all chance.
    """

    def __init__(
        self,
        schedule: Schedule,
        poison: Mapping[str, Mapping[int, Failure]],
        cards: Mapping[int, Card],
        *,
        actors: int = 8,
        told_apart: bool = True,
        seed: int = 0,
    ) -> None:
        self.schedule, self.poison, self.told_apart = schedule, poison, told_apart
        self.chance = random.Random(seed)
        self.actors = [Simulated(f"GPU {number}", cards.get(number)) for number in range(actors)]
        self.events: list[tuple[float, int, Simulated, int]] = []
        self.numbers: Iterator[int] = itertools.count()
        self.now = 0.0
        self.orders = self.starts = 0

    def work_off(self) -> None:
        """Works until nothing is left or the run is hopeless."""
        while not self.schedule.finished and not self.schedule.hopeless:
            self._hand_out()
            if not self.events:
                raise RuntimeError("nothing is in flight, and orders wait")
            self.now, _, actor, run = heapq.heappop(self.events)
            if actor.queue and run == actor.run:
                self._end(actor)

    def _hand_out(self) -> None:
        ready = [actor for actor in self.actors if actor.ready <= self.now]
        gpus = {actor.gpu for actor in ready} if self.told_apart else set()
        for actor in sorted(ready, key=lambda actor: len(actor.queue)):
            while actor.room > 0:
                order = self.schedule.next(not actor.queue, actor.gpu if self.told_apart else None, gpus)
                if order is None:
                    break
                self.orders += 1
                actor.queue.append(order)
                if len(actor.queue) == 1:
                    self._begin(actor)

    def _begin(self, actor: Simulated) -> None:
        """Begins the first order of an actor."""
        seconds = AT_ONCE if actor.broken else ORDER * self.chance.uniform(0.5, 1.5)
        self._later(actor, seconds)

    def _later(self, actor: Simulated, seconds: float) -> None:
        actor.run += 1
        heapq.heappush(self.events, (self.now + seconds, next(self.numbers), actor, actor.run))

    def _end(self, actor: Simulated) -> None:
        order = actor.queue[0]
        failure = self._failure(actor, order)
        gpu = actor.gpu if self.told_apart else None
        if failure is None:
            actor.queue.pop(0)
            self.schedule.succeeded(order, gpu)
        elif failure is Failure.RAISED:
            actor.queue.pop(0)
            self.schedule.failed(order, failure, "it raised", gpu)
        else:
            lost, actor.queue = actor.queue, []
            for order in lost:
                self.schedule.failed(order, failure, "it was lost", gpu)
            self._replace(actor)
        if actor.queue:
            self._begin(actor)

    def _failure(self, actor: Simulated, order: Order) -> Failure | None:
        if self.told_apart and order.alone and not self._is_fit(actor):
            return Failure.UNFIT
        if actor.broken or self._is_sick(actor):
            actor.broken = True
            return Failure.DEVICE if self.told_apart else Failure.RAISED
        deadly = self.poison.get(order.work.unit, {})
        whole = (position for position in range(order.work.size) if position not in order.work.poison)
        kinds = [deadly[position] for position in order.probe or whole if position in deadly]
        if not kinds:
            return None
        if kinds[0] is Failure.DEVICE:
            actor.broken = True
            return Failure.DEVICE if self.told_apart else Failure.RAISED
        return kinds[0]

    def _is_sick(self, actor: Simulated) -> bool:
        return actor.card is not None and self.now >= actor.card.since

    def _is_fit(self, actor: Simulated) -> bool:
        if actor.broken:
            return False
        return not self._is_sick(actor) or actor.card is None or self.chance.random() < actor.card.passes

    def _replace(self, actor: Simulated) -> None:
        """Starts a process in place of one that ended; it is ready once it passes a self-check."""
        actor.broken = False
        if actor.card is not None and actor.card.only_this_process and self._is_sick(actor):
            actor.card = None
        actor.ready = self.now
        while True:
            self.starts += 1
            actor.ready += START
            if not self.told_apart or self._is_fit(actor) or self.starts > 100_000:
                break
            if actor.card is not None and actor.card.passes == 0:
                actor.ready = float("inf")
                return
        self._later(actor, actor.ready - self.now)


def units(count: int, size: int) -> list[Work]:
    return [Work(f"u{number}", ("ssig",), size) for number in range(count)]


def some_poison(works: list[Work], share: float, seed: int) -> dict[str, dict[int, Failure]]:
    """Poisonous samples of all kinds, spread over units at random."""
    chance = random.Random(seed)
    kinds = (Failure.RAISED, Failure.DIED, Failure.DEVICE)
    found: dict[str, dict[int, Failure]] = {}
    for work in works:
        for position in range(work.size):
            if chance.random() < share:
                found.setdefault(work.unit, {})[position] = chance.choice(kinds)
    return found
