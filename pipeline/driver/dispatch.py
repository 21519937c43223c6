"""The driver of a run: plans it, keeps actors busy, survives their deaths, and reports.

Everything is checked before any work: shards, model, options, output directory, cluster. Then units go to actors, a
bounded number in flight each; an actor that dies is charged with what it had in flight and replaced. The driver holds
no result: what is done is what the commit records say.
"""

from __future__ import annotations

import copy
import math
import signal
import sys
import threading
import time
import uuid
from collections import deque
from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from typing import Any, Literal

import ray
from ray.exceptions import GetTimeoutError, RayActorError

from pipeline import fault_points
from pipeline.driver.actor import AttributionActor, remote_class
from pipeline.driver.ending import EXIT_INTERRUPTED, Ending
from pipeline.driver.pool import Event, Member, Pool
from pipeline.driver.progress import Listener, Progress
from pipeline.driver.ray_cluster import is_gone, nodes
from pipeline.driver.resources import Shape, places, wording
from pipeline.driver.schedule import Order, Schedule, Work, time_limit
from pipeline.driver.telemetry import Telemetry
from pipeline.job.configuration import Actors, Job
from pipeline.run.labels import Label
from pipeline.run.layout import config_name, given_up_name, log_name, poison_name
from pipeline.run.lease import Lease
from pipeline.run.log import RunLog
from pipeline.run.publishing import clean_staging
from pipeline.shards.manifest import Manifest
from pipeline.shards.samples import Status
from pipeline.storage.base import Storage, is_object_url
from pipeline.storage.jsontext import to_json
from pipeline.unit.messages import Task
from pipeline.unit.worker import Worker
from ssig.engine.replica import Replica
from ssig.engine.trial import try_method
from ssig.errors import SsigError
from ssig.models import Model, export
from ssig.registry import METHODS, METRICS, Source

# Actors that fail to start one after the other before the run is given up.
MOST_FAILED_STARTS = 3
WAIT_SECONDS = 0.5
SHOW_SECONDS = 1.0
RESIZE_SECONDS = 10.0
# How long a file system may take to tell whether a file is there.
SEES_SECONDS = 120.0
# Staged files of attempts that were killed are removed when they are this old.
STALE_STAGED_SECONDS = 3600.0
# Of so many of the last units it is known how long they took.
TIMED_UNITS = 100
# Signals that follow each other so soon are one.
ONE_SIGNAL_SECONDS = 0.5


class RunError(SsigError):
    """The run could not finish; what is committed stays, and the same command goes on."""


def try_methods(job: Job, storage: Storage, model: Model) -> None:
    """Tries each method that the run does not know yet on one point, on this machine.

    Raises:
        UsageError: the network has not what a method needs, such as a layer.
        ModelError: the network cannot be explained.
    """
    # In full precision, which every CPU has: what a method needs of a network does not hang on it.
    plain = copy.copy(model)
    plain.precision = "fp32"
    replica = Replica(plain, device="cpu", micro_batch=1)
    for choice in job.methods:
        if storage.entry(config_name(job.model_label, choice.title)) is None:
            field = f"methods.{choice.title}"
            try_method(choice.spec, choice.parsed(), replica, model.input_size, job.model.score, field=field)


def pool_of(
    actors: Actors,
    seed: int,
    storage: Storage,
    labels: Sequence[Label],
    model: Model,
    size: Shape,
    worker: type[Worker] = Worker,
) -> Pool:
    """The actors that do the tasks of a run, each with a worker."""
    micro_batch = None if actors.micro_batch == "auto" else actors.micro_batch
    remote = remote_class(AttributionActor, size.num_cpus, size.num_gpus)
    # Put once, so that every actor reads the same copy of the weights; labels go along for the same reason.
    state = ray.put(export(model))
    known = ray.put({label.method: label for label in labels})
    sources = sources_of(labels)
    return Pool(
        lambda: remote.remote(
            state, known, storage.root, seed, micro_batch, actors.compile, size.threads, sys.path, worker, sources
        )
    )


def sources_of(labels: Sequence[Label]) -> tuple[Source, ...]:
    """Where the methods and metrics of labels come from that are not ssig's own, each once."""
    found: dict[Source, None] = {}
    for label in labels:
        methods = [] if label.evaluation is not None else [METHODS.source(label.config["method"]["name"])]
        for source in (*methods, *map(METRICS.source, label.config["metrics"])):
            if source is not None:
                found[source] = None
    return tuple(found)


class Dispatch:
    """One driver's work on a run: hands its units to actors until none is left.

    Args:
        storage: of the run.
        manifest: of the run.
        works: the units to do.
        pool: the actors; those that it lacks are started.
        size: how many there should be, and what they take of the cluster.
        lease: of the run, held.
        listener: told of progress.
        progress: what it is told.
        unit_timeout: seconds after which an actor with an order is taken to hang; None for ever.
        proven: labels under which units were done before.

    Attributes:
        orders: how many orders were handed out.
    """

    def __init__(
        self,
        storage: Storage,
        manifest: Manifest,
        works: Sequence[Work],
        pool: Pool,
        size: Shape,
        lease: Lease,
        listener: Listener,
        progress: Progress,
        unit_timeout: float | Literal["auto"] | None = None,
        proven: Set[str] = frozenset(),
    ) -> None:
        self.attempt = uuid.uuid4().hex[:12]
        self.storage = storage
        self.manifest = manifest
        self.pool = pool
        self.size = size
        self.lease = lease
        self.listener = listener
        self.progress = progress
        self.to_do = len(works)
        self.schedule = Schedule(works, proven)
        self.interrupted = threading.Event()
        self.log = RunLog(storage, self.attempt)
        self.telemetry = Telemetry()
        self._urls = {shard.name: shard.url for shard in manifest.shards}
        self.orders = 0
        self._unit_timeout = unit_timeout
        self._unit_seconds: deque[float] = deque(maxlen=TIMED_UNITS)
        self._failed_starts = 0
        self._resized = 0.0
        self._shown = 0.0
        self._placeless_since: float | None = None
        progress.units_total = self.to_do
        progress.rows_total = sum(work.size * len(work.labels) for work in works)

    def run(self) -> None:
        """Works until nothing is left, a signal asks to drain, or going on makes no sense."""
        self.log.write("started", run=self.storage.root, units=self.to_do, actors=_most(self.size))
        try:
            with _draining(self.interrupted, self._tell):
                self._loop()
                if not self._is_bereft:
                    self._show()
        finally:
            if not self._is_bereft:
                self.pool.stop()
            self.log.write("ended", done=self.schedule.done, given_up=self.schedule.given_up)
            try:
                self.log.close()
                clean_staging(self.storage, time.time() - STALE_STAGED_SECONDS)
            except OSError as error:  # of the log and of leavings alone: what is done is done
                self._tell(f"the log, or what killed attempts left, could not be seen to: {error}")

    @property
    def ending(self) -> Ending:
        """What became of the units."""
        return Ending(self.to_do, self.schedule.done, self.schedule.given_up, self.interrupted.is_set())

    def _loop(self) -> None:
        self.progress.phase = "starting actors"
        while not self.schedule.finished:
            if self.interrupted.is_set() and (self.schedule.in_flight == 0 or self._is_bereft):
                return
            if self.lease.lost:
                raise RunError(f"{self.storage.root}: another driver has taken this run over")
            if self.schedule.hopeless:
                raise RunError(self.schedule.hopeless)
            if not self.interrupted.is_set():
                self._resize()
                self._await_place()
                self._hand_out()
            heard = self.pool.wait(WAIT_SECONDS)
            limit = time_limit(self._unit_timeout, self._unit_seconds)
            for event in [*heard, *self.pool.end_overdue(limit)]:
                self._handle(event)
                fault_points.point("after-event", event.kind)
            if time.monotonic() - self._shown > SHOW_SECONDS:
                self._show()

    def _hand_out(self) -> None:
        """Gives every actor work before it gives any a second unit to read ahead, so that none idles at the end."""
        for member in sorted(self.pool.members, key=lambda member: len(member.in_flight)):
            while member.room > 0 and (not member.in_flight or self._waiting > self._unemployed):
                order = self.schedule.next(idle=not member.in_flight)
                if order is None:
                    break
                self.pool.send(member, order, self._task(order))
                fault_points.point("after-order", order.work.unit)

    @property
    def _waiting(self) -> int:
        """Units that nobody has in hand."""
        return self.to_do - self.schedule.done - len(self.schedule.given_up) - self.schedule.in_flight

    @property
    def _unemployed(self) -> int:
        """Actors with nothing in flight, those that are starting included."""
        return sum(not member.in_flight for member in self.pool.members)

    def _task(self, order: Order) -> Task:
        work = order.work
        rows = tuple(self.manifest.rows(work.unit))
        self.orders += 1
        return Task(
            unit=work.unit,
            url=self._urls[rows[0].shard],
            rows=rows if order.probe is None else rows[order.probe.start : order.probe.stop],
            labels=work.labels,
            attempt=f"{self.attempt}-{self.orders}",
            poison={rows[position].index: why for position, why in work.poison.items()},
        )

    def _handle(self, event: Event) -> None:
        order, name = event.order, event.member.name
        if event.kind == "ready":
            self._failed_starts = 0
            self.log.write("actor ready", actor=name, **(event.member.info or {}))
            self._check_shared(event.member)
            self.progress.phase = "attributing"
            self.progress.started = self.progress.started or time.monotonic()
        elif event.kind == "lost":
            self.log.write("actor lost", actor=name, reason=event.reason)
            if event.member.info is None:
                self._failed_starts += 1
                # A place where none can start ends nothing while others work; it is tried less and less often.
                is_hopeless = self._failed_starts >= MOST_FAILED_STARTS and not self._has_ready
                if is_hopeless and not self.interrupted.is_set():
                    raise RunError(f"{self._failed_starts} actors in a row failed to start: {event.reason}")
            self._tell(f"{name} is lost: {event.reason}")
        elif event.kind == "done" and order is not None:
            self.schedule.succeeded(order)
            if event.done is not None and order.probe is None:
                self._count(order, event)
        elif order is not None and event.failure is not None:
            self.log.write("unit failed", actor=name, unit=order.work.unit, kind=event.failure, reason=event.reason)
            self.telemetry.failed(event.failure)
            before = len(order.work.poison)
            self.schedule.failed(order, event.failure, event.reason)
            if len(order.work.poison) > before:
                self._quarantine(order, event.reason)
            if order.work.unit in self.schedule.given_up:
                self._give_up(order)
            self._tell(f"unit {order.work.unit} failed: {event.reason}")

    def _count(self, order: Order, event: Event) -> None:
        done = event.done
        if done is None:
            return
        self._unit_seconds.append(done.seconds)
        self.progress.units_done += 1
        self.progress.rows_done += order.work.size * len(order.work.labels)
        self.progress.failed += sum(
            count for counts in done.statuses.values() for status, count in counts.items() if status != Status.OK
        )
        self.telemetry.committed(done.statuses)
        self.log.write(
            "unit done",
            unit=done.unit,
            attempt=done.attempt,
            actor=event.member.name,
            seconds=round(done.seconds, 3),
            statuses=done.statuses,
        )

    def _quarantine(self, order: Order, reason: str) -> None:
        """Records a sample that was found to kill, break or hold up its worker."""
        if order.probe is None:
            return
        row = self.manifest.rows(order.work.unit)[order.probe[0]]
        record = {
            "shard": row.shard,
            "kind": "poison",
            "key": row.key,
            "offset": row.members[0].offset if row.members else None,
            "reason": reason,
            "attempts": order.work.failures,
        }
        self.log.write("sample quarantined", **record)
        self._record(poison_name(order.work.unit, row.index), record)

    def _give_up(self, order: Order) -> None:
        """Records a unit that stays undone; the summary says so too."""
        work = order.work
        record = {
            "shard": self.manifest.rows(work.unit)[0].shard,
            "kind": "exhausted",
            "key": None,
            "offset": None,
            "reason": f"unit {work.unit}: {self.schedule.given_up[work.unit]}",
            "attempts": work.failures,
        }
        self.log.write("unit given up", **record)
        self._record(given_up_name(work.unit), record)

    def _record(self, name: str, record: Mapping[str, object]) -> None:
        """Records what a person should know; where the storage itself is at fault, at least says so."""
        try:
            self.storage.put(name, to_json(record).encode())
        except OSError as error:
            self._tell(f"{name} could not be written: {error}; it says {record['reason']}")

    def _resize(self) -> None:
        """Keeps as many actors as the work, the job and the cluster allow."""
        now = time.monotonic()
        if self.pool.members and now - self._resized < RESIZE_SECONDS * 2 ** min(self._failed_starts, 6):
            return
        self._resized = now
        left = self.to_do - self.schedule.done - len(self.schedule.given_up)
        # A given number may exceed the cluster: actors that wait for a place are what makes an autoscaler add nodes.
        most = self.size.most
        if math.isinf(most):
            most = max(1, places(nodes(), self.size.num_gpus, self.size.num_cpus))
        for _ in range(int(min(most, left)) - len(self.pool.members)):
            self.pool.start()

    @property
    def _is_bereft(self) -> bool:
        """Whether a signal took Ray away too: there is nothing to wait for, and Ray would keep each call waiting."""
        return self.interrupted.is_set() and is_gone()

    @property
    def _has_ready(self) -> bool:
        return any(member.info is not None for member in self.pool.members)

    def _await_place(self) -> None:
        """Tells what is waited for while no node has a place for an actor.

        Raises:
            RunError: for too long.
        """
        if self.size.wait is None or self._has_ready or places(nodes(), self.size.num_gpus, self.size.num_cpus):
            if self._placeless_since is not None:
                self._placeless_since = None
                self.progress.phase = "starting actors"
            return
        now = time.monotonic()
        self._placeless_since = self._placeless_since or now
        wanted = f"a node with {wording(self.size.num_cpus, 'CPU')}"
        if self.size.num_gpus:
            wanted += f" and {wording(self.size.num_gpus, 'GPU')}"
        if now - self._placeless_since > self.size.wait:
            raise RunError(
                f"waited {self.size.wait:g} s (actors.wait) for {wanted}, and none came; see that the cluster's "
                "autoscaler adds such nodes, or keep one alive (min_workers: 1)"
            )
        self.progress.phase = (
            f"waiting for {wanted}: actors that wait for a place are what makes an autoscaler add nodes; "
            f"at most {self.size.wait:g} s (actors.wait)"
        )

    def _check_shared(self, member: Member) -> None:
        """Refuses a local output path that an actor on another node does not share."""
        if is_object_url(self.storage.root) or len(nodes()) == 1:
            return
        probe = log_name(self.attempt)
        try:
            is_shared = ray.get(member.handle.sees.remote(probe), timeout=SEES_SECONDS)
        except RayActorError:
            return  # the pool hears of its death
        except GetTimeoutError:
            is_shared = False
        if not is_shared:
            raise RunError(
                f"output.path: {self.storage.root} is a local path that {(member.info or {}).get('host')} does not "
                "see; give a shared file system or an s3:// or gs:// URL"
            )

    def _show(self) -> None:
        """Tells how far the run is; now and then, since every actor is asked."""
        self._shown = time.monotonic()
        self.progress.actors = {
            member.name: "starting" if member.info is None else f"{len(member.in_flight)} in flight"
            for member in self.pool.members
        }
        self.progress.rows_under_way = self.pool.ask()
        self.telemetry.state(sum(m.info is not None for m in self.pool.members), self.schedule.in_flight)
        self.listener(self.progress, None)

    def _tell(self, message: str) -> None:
        self.listener(self.progress, message)


def _most(size: Shape) -> int | str:
    """The most actors, for the log; `auto` where the cluster alone sets the bound."""
    return "auto" if math.isinf(size.most) else int(size.most)


@contextmanager
def _draining(interrupted: threading.Event, tell: Any) -> Iterator[None]:
    """Turns the first SIGINT or SIGTERM into a drain and the second into an end. Goes in after Ray's own handler."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    first = 0.0

    def handle(number: int, frame: object) -> None:
        nonlocal first
        if interrupted.is_set():
            # `timeout` and others signal the process, and then its group: both are one.
            if time.monotonic() - first < ONE_SIGNAL_SECONDS:
                return
            sys.exit(EXIT_INTERRUPTED)
        first = time.monotonic()
        interrupted.set()
        tell(f"{signal.Signals(number).name}: finishing the units in flight; once more to stop at once")

    previous = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
