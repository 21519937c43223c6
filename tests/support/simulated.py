"""An executor whose workers answer at once and compute nothing: for what a driver does, without Ray."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence

from pipeline.driver.executor import Counters, Event, Member, NoCounters, State
from pipeline.driver.resources import Shape
from pipeline.driver.schedule import Order
from pipeline.unit.messages import Done, Task

# A worker's answer to an order: None for `done`, or the events of something else.
Answer = Callable[[Member, Order, Task], list[Event] | None]


class Recorded(NoCounters):
    """Counters that can be read."""

    def __init__(self) -> None:
        self.rows: Counter[tuple[str, str]] = Counter()
        self.failures: Counter[str] = Counter()
        self.states: list[State] = []

    def done(self, done: Done) -> None:
        for method, counts in done.statuses.items():
            for status, count in counts.items():
                self.rows[method, status] += count

    def failed(self, kind: str) -> None:
        self.failures[kind] += 1

    def state(self, state: State) -> None:
        self.states.append(state)


class SimulatedExecutor:
    """Answers each order in the next `wait`.

    Args:
        answer: how an order goes; by default it is done.
        room: how many workers have a place.
        starts: whether a worker that is started becomes ready; by default each does.
        gpus: how many GPUs there are, one for each worker in turn.
    """

    def __init__(
        self,
        answer: Answer = lambda member, order, task: None,
        room: int = 1,
        starts: Callable[[int], bool] = lambda number: True,
        gpus: int = 0,
    ) -> None:
        self._gpus = gpus
        self.counters: Counters = Recorded()
        self.maps_under_way = 0.0
        self.room = room
        self.sent: list[tuple[str, Task, Order]] = []
        self.shares_files = True
        self.stopped = False
        self.started = 0
        self._answer = answer
        self._starts = starts
        self._members: list[Member] = []
        self._waiting: list[tuple[Member, Order, Task]] = []

    @property
    def members(self) -> Sequence[Member]:
        return self._members

    def start(self, measures: bool = False) -> Member:
        self.started += 1
        self._members.append(Member(f"actor-{self.started}", measures=measures))
        return self._members[-1]

    def send(self, member: Member, order: Order, task: Task) -> None:
        self.sent.append((member.name, task, order))
        member.in_flight[task.attempt] = order
        member.since[task.attempt] = 0.0
        self._waiting.append((member, order, task))

    def wait(self, seconds: float) -> list[Event]:
        events: list[Event] = []
        for member in [member for member in self._members if member.info is None]:
            if self._starts(int(member.name.removeprefix("actor-"))):
                number = int(member.name.removeprefix("actor-"))
                gpu = f"GPU {number % self._gpus}" if self._gpus and not member.measures else None
                member.info = {"host": "elsewhere", "pid": 1, "gpu": gpu}
                events.append(Event("ready", member))
            else:
                self.lose(member)
                events.append(Event("lost", member, reason="it does not start"))
        waiting, self._waiting = self._waiting, []
        for member, order, task in waiting:
            answer = self._answer(member, order, task)
            if answer is None:
                statuses = {label: {"ok": len(task.rows)} for label in task.labels}
                done = Done(task.unit, task.attempt, statuses, 0.1)
                answer = [Event("done", member, order, done if order.probe is None else None)]
            member.forget(task.attempt)
            events += answer
        return events

    def lose(self, member: Member) -> None:
        """Takes a worker away."""
        self._members.remove(member)

    def end_overdue(self, seconds: float, measuring: float = math.inf) -> list[Event]:
        return []

    def release(self) -> list[Event]:
        leaving = [member for member in self._members if member.is_leaving and not member.in_flight]
        for member in leaving:
            self.lose(member)
        return [Event("left", member, reason="its node is about to go") for member in leaving]

    def under_way(self) -> float:
        return self.maps_under_way

    def places(self, size: Shape) -> int:
        return self.room

    def sees(self, member: Member, name: str) -> bool:
        return self.shares_files

    def is_gone(self) -> bool:
        return False

    def stop(self) -> None:
        self.stopped = True
        self._members.clear()
