"""The loop of a run: keeps actors busy, takes in the results of orders, and survives the deaths of actors.

Each actor has a bounded number of units in flight. If it dies, these have failed, and another actor takes its place.
The driver holds no results: the commit records say which units are done.

Beside the actors that make maps there may be some that only measure (`actors.metrics`). While these have too little
to do, a fresh unit is handed out for its maps, and then, published, to one of them. The others measure what these have
no room for, so that none waits for them.
"""

from __future__ import annotations

import math
import threading
import time
import uuid
from collections import deque
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol

from pipeline.driver.ending import Ending
from pipeline.driver.executor import Event, Executor, Member, RunError
from pipeline.driver.interruption import draining
from pipeline.driver.listing import Listing
from pipeline.driver.outcomes import Outcomes
from pipeline.driver.progress import Listener, Progress
from pipeline.driver.remaining import whole_batches
from pipeline.driver.reporting import Reporter
from pipeline.driver.resources import Shape
from pipeline.driver.scaling import Scaling, most_actors
from pipeline.driver.schedule import MOST_FAILURES, Order, Schedule, Work, time_limit
from pipeline.driver.shared_path import check_shared
from pipeline.run.layout import log_name
from pipeline.run.lease import Lease
from pipeline.run.log import RunLog
from pipeline.run.publishing import clean_staging
from pipeline.shards.samples import ManifestRow
from pipeline.shards.survey import ShardRecord
from pipeline.storage import fault_points
from pipeline.storage.base import Storage
from pipeline.unit.messages import Portion, Task

WAIT_SECONDS = 0.5
# Staged files of attempts that were killed are removed when they are this old.
STALE_STAGED_SECONDS = 3600.0
# Number of last units whose seconds are kept.
TIMED_UNITS = 100
# Units whose maps are published may wait for each actor that measures; while more do, others do units as a whole.
MAPPED_AHEAD = 4


class UnitRows(Protocol):
    """The samples of units: a manifest, whole or while it grows."""

    shards: tuple[ShardRecord, ...]

    def rows(self, unit_id: str) -> list[ManifestRow]:
        """The samples of a unit, in order."""


@dataclass(frozen=True)
class Agenda:
    """What a driver is to do in a run.

    Attributes:
        storage, manifest: the run.
        works: the units to do.
        proven: labels under which units were done before.
        unit_timeout: seconds after which an actor with an order is taken to hang; None for ever.
        batches: batch -> the method labels of all its labels.
        listing: gives more units, as shards are listed.
    """

    storage: Storage
    manifest: UnitRows
    works: Sequence[Work]
    proven: Set[str] = frozenset()
    unit_timeout: float | Literal["auto"] | None = None
    batches: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    listing: Listing | None = None


class Dispatch:
    """One driver's work on a run: hands its units to actors until none is left.

    Args:
        agenda: what there is to do.
        executor: the actors; those that it lacks are started.
        size: how many actors there should be, and their resources.
        lease: of the run, held.
        listener: receives progress.
        progress: the state that the listener receives.

    Attributes:
        orders: how many orders were handed out.
    """

    def __init__(
        self,
        agenda: Agenda,
        executor: Executor,
        size: Shape,
        lease: Lease,
        listener: Listener,
        progress: Progress,
    ) -> None:
        self.attempt = uuid.uuid4().hex[:12]
        self.schedule = Schedule(agenda.works, agenda.proven)
        self.orders = 0
        self._agenda = agenda
        self._executor = executor
        self._size = size
        self._lease = lease
        self._interrupted = threading.Event()
        self._log = RunLog(agenda.storage, self.attempt)
        self._reporter = Reporter(listener, progress, executor.counters, self._log)
        self._reporter.begin(agenda.works)
        # Of actors that make maps, and of those that only measure.
        self._scaling = {measures: Scaling(executor, size, progress, measures) for measures in (False, True)}
        self._outcomes = Outcomes(agenda.storage, agenda.manifest.rows, self._log, self._reporter.tell)
        self._urls = {shard.name: shard.url for shard in agenda.manifest.shards}
        self._unit_seconds: dict[bool, deque[float]] = {
            measures: deque(maxlen=TIMED_UNITS) for measures in (False, True)
        }

    def run(self) -> None:
        """Works until no unit is left, a signal asks to stop, or no unit can be done.

        Raises:
            RunError: another driver has the run, no unit can be done, or no actor starts.
        """
        root, to_do = self._agenda.storage.root, len(self._agenda.works)
        self._log.write("started", run=root, units=to_do, actors=most_actors(self._size))
        try:
            with draining(self._interrupted, self._reporter.tell):
                self._loop()
                if not self._has_lost_workers:
                    self._reporter.show(self._executor, self.schedule.in_flight)
        finally:
            if self._agenda.listing is not None:
                self._agenda.listing.stop()
            if not self._has_lost_workers:
                self._executor.stop()
            self._log.write("ended", done=self.schedule.done, given_up=self.schedule.given_up)
            try:
                self._log.close()
                clean_staging(self._agenda.storage, time.time() - STALE_STAGED_SECONDS)
            except OSError as error:  # of the log or of staged files: the units are done
                self._reporter.tell(f"the log could not be stored, or files of killed attempts not removed: {error}")

    @property
    def ending(self) -> Ending:
        """What became of the units."""
        schedule = self.schedule
        return Ending(schedule.total, schedule.done, schedule.given_up, self._interrupted.is_set())

    def _loop(self) -> None:
        self._reporter.progress.phase = "starting actors"
        while True:
            self._take_in()
            if self.schedule.finished and not self._is_listing:
                return
            if self._interrupted.is_set() and (self.schedule.in_flight == 0 or self._has_lost_workers):
                return
            if self._lease.lost:
                raise RunError(f"{self._agenda.storage.root}: another driver has taken this run over")
            if self.schedule.hopeless:
                raise RunError(self.schedule.hopeless)
            if not self._interrupted.is_set():
                self._resize()
                self._hand_out()
            heard = self._executor.wait(WAIT_SECONDS)
            limits = [
                time_limit(self._agenda.unit_timeout, self._unit_seconds[measures]) for measures in (False, True)
            ]
            left = [] if self._interrupted.is_set() else self._executor.release()
            for event in [*heard, *left, *self._executor.end_overdue(*limits)]:
                self._handle(event)
                fault_points.point("after-event", event.kind)
            self._reporter.show_now_and_then(self._executor, self.schedule.in_flight)

    def _take_in(self) -> None:
        """Takes in the units of shards that were listed meanwhile."""
        if self._is_listing and self._agenda.listing is not None and (works := self._agenda.listing.take()):
            self.schedule.add(works)
            self._reporter.begin(works)
        self._reporter.progress.listed = None if self._agenda.listing is None else self._agenda.listing.listed

    @property
    def _is_listing(self) -> bool:
        """Whether more units may come."""
        return self._agenda.listing is not None and not self._agenda.listing.is_over

    def _resize(self) -> None:
        """Starts the actors that are lacking."""
        # While shards are listed there will be more units than are known.
        undone = math.inf if self._is_listing else self._undone
        self._scaling[False].resize(undone)
        self._scaling[False].await_place()
        if self._size.metrics:
            self._scaling[True].resize(undone)

    def _hand_out(self) -> None:
        """Gives orders to actors: first to those that only measure; what they have no room for, others measure."""
        for measures in (True, False):
            self._hand_out_to([member for member in self._executor.members if member.measures is measures])

    def _hand_out_to(self, members: Sequence[Member]) -> None:
        """Gives every actor a unit before any gets a second one to read ahead, and so on: none is idle at the end."""
        for depth in range(max((member.most_calls for member in members), default=0)):
            for member in members:
                has_turn = len(member.in_flight) == depth and member.room > 0
                if has_turn and (not member.in_flight or self._waiting(member) > _unemployed(members)):
                    self._give(member)

    def _give(self, member: Member) -> None:
        """Sends the next order to an actor, if there is one for it."""
        if member.measures:
            order = self.schedule.next_mapped()
        else:
            order = self.schedule.next(not member.in_flight, member.gpu, self._gpus, self._portion)
        if order is not None:
            self._executor.send(member, order, self._task(order, checked=order.alone and member.gpu is not None))
            fault_points.point("after-order", order.work.unit)

    @property
    def _portion(self) -> Literal[Portion.ALL, Portion.MAPS]:
        """What an actor does of a fresh unit: the maps alone, while actors that measure have too little to do."""
        measuring = [member for member in self._executor.members if member.measures and not member.is_leaving]
        ready = sum(member.info is not None for member in measuring)
        return Portion.MAPS if self.schedule.mapped < MAPPED_AHEAD * ready else Portion.ALL

    @property
    def _gpus(self) -> Set[str]:
        """The GPUs of the actors that are ready and stay."""
        members = [member for member in self._executor.members if not member.is_leaving]
        return {member.gpu for member in members if member.gpu is not None}

    @property
    def _undone(self) -> int:
        """Units that are not done."""
        return self.schedule.total - self.schedule.done - len(self.schedule.given_up)

    def _waiting(self, member: Member) -> int:
        """Units that are not done and not in flight, of those that a member may get."""
        return self.schedule.mapped if member.measures else self._undone - self.schedule.in_flight

    @property
    def _has_lost_workers(self) -> bool:
        """Whether a signal ended the actors too: no event will come, and every call of Ray would block."""
        return self._interrupted.is_set() and self._executor.is_gone()

    def _task(self, order: Order, checked: bool) -> Task:
        work = order.work
        rows = tuple(self._agenda.manifest.rows(work.unit))
        self.orders += 1
        # After one more failure the unit stays undone: as many of its labels as can be are committed before.
        is_last = work.failures >= MOST_FAILURES
        return Task(
            unit=work.unit,
            url=self._urls[rows[0].shard],
            rows=rows if order.probe is None else rows[order.probe.start : order.probe.stop],
            labels=work.labels,
            attempt=f"{self.attempt}-{self.orders}",
            poison={rows[position].index: why for position, why in work.poison.items()},
            checked=checked,
            batches={} if is_last else whole_batches(self._agenda.batches, work.labels),
            apart=is_last,
            portion=order.portion,
            spent=work.spent or {},
        )

    def _handle(self, event: Event) -> None:
        if event.kind == "ready":
            self._handle_ready(event)
        elif event.kind == "lost":
            self._handle_loss(event)
        elif event.kind == "left":
            self._log.write("actor left", actor=event.member.name, reason=event.reason)
            self._reporter.tell(f"{event.member.name} has left: {event.reason}; other actors take over")
        elif event.kind == "done" and event.order is not None:
            self._handle_done(event, event.order)
        elif event.order is not None:
            self._handle_failure(event, event.order)

    def _handle_ready(self, event: Event) -> None:
        self._scaling[event.member.measures].started()
        self._log.write("actor ready", actor=event.member.name, **(event.member.info or {}))
        check_shared(self._executor, event.member, self._agenda.storage.root, log_name(self.attempt))
        self._reporter.ready()

    def _handle_loss(self, event: Event) -> None:
        self._log.write("actor lost", actor=event.member.name, reason=event.reason)
        scaling = self._scaling[event.member.measures]
        scaling.lost(event.member.gpu)
        if event.member.info is None:
            try:
                scaling.failed_to_start(event.reason)
            except RunError:
                if not self._interrupted.is_set():
                    raise
        self._reporter.tell(f"{event.member.name} is lost: {event.reason}")

    def _handle_done(self, event: Event, order: Order) -> None:
        before = set(order.work.poison)
        self.schedule.succeeded(order, event.member.gpu)
        self._scaling[event.member.measures].proved(event.member.gpu)
        self._record_poison(order, before)
        done = event.done
        if done is None or order.probe is not None:
            return
        self._unit_seconds[event.member.measures].append(done.seconds)
        is_mapped = order.portion is Portion.MAPS
        if is_mapped:
            order.work.spent = done.spent
            self._reporter.mapped(order, done)
        else:
            # The device of an actor that only measures is not one that should always be busy.
            self._reporter.done(order, replace(done, device_seconds=0.0) if event.member.measures else done)
        self._log.write(
            "unit mapped" if is_mapped else "unit done",
            unit=done.unit,
            attempt=done.attempt,
            actor=event.member.name,
            seconds=round(done.seconds, 3),
            statuses=done.statuses,
        )

    def _handle_failure(self, event: Event, order: Order) -> None:
        if event.failure is None:
            return
        unit = order.work.unit
        self._log.write("unit failed", actor=event.member.name, unit=unit, kind=event.failure, reason=event.reason)
        self._reporter.failed(event.failure)
        before = set(order.work.poison)
        self.schedule.failed(order, event.failure, event.reason, event.member.gpu)
        self._record_poison(order, before)
        if unit in self.schedule.given_up:
            self._outcomes.given_up(order, self.schedule.given_up[unit])
        self._reporter.tell(f"unit {unit} failed: {event.reason}")

    def _record_poison(self, order: Order, before: Set[int]) -> None:
        """Records the samples of a unit that have become poison."""
        for position in sorted(order.work.poison.keys() - before):
            self._outcomes.quarantined(order.work, position)


def _unemployed(members: Sequence[Member]) -> int:
    """How many of some actors have nothing in flight, those that are starting included."""
    return sum(not member.in_flight for member in members)
