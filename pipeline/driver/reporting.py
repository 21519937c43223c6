"""How far a run is, for a person (`Progress`, which a listener draws) and for machines (`Counters`)."""

from __future__ import annotations

import time
from collections.abc import Sequence

from pipeline.driver.executor import Counters, Executor
from pipeline.driver.progress import Listener, Progress
from pipeline.driver.schedule import Order, Work
from pipeline.shards.samples import Status
from pipeline.unit.messages import Done

SHOW_SECONDS = 1.0


class Reporter:
    """Keeps `progress` and `counters` up to date.

    Args:
        listener: receives `progress`.
        progress: the state that the listener receives.
        counters: for machines.
    """

    def __init__(self, listener: Listener, progress: Progress, counters: Counters) -> None:
        self.progress = progress
        self._listener = listener
        self._counters = counters
        self._shown = 0.0
        self._rows_shown = 0.0

    def begin(self, works: Sequence[Work]) -> None:
        """Notes what there is to do, or what more."""
        self.progress.units_total += len(works)
        self.progress.rows_total += sum(work.size * len(work.labels) for work in works)

    def ready(self) -> None:
        """Notes that an actor is ready."""
        self.progress.phase = "attributing"
        self.progress.started = self.progress.started or time.monotonic()

    def done(self, order: Order, done: Done) -> None:
        """Notes that a unit is done."""
        self.progress.units_done += 1
        self.progress.rows_done += order.work.size * len(order.work.labels)
        self.progress.failed += sum(
            count for counts in done.statuses.values() for status, count in counts.items() if status != Status.OK
        )
        self._counters.committed(done.statuses)

    def failed(self, kind: str) -> None:
        """Notes that an order failed, so that its maps are to be computed again."""
        self._rows_shown = 0.0
        self._counters.failed(kind)

    def tell(self, message: str) -> None:
        """Tells a person something."""
        self._listener(self.progress, message)

    def show(self, executor: Executor, in_flight: int) -> None:
        """Shows how far the run is.

        Args:
            executor: asked for what its workers do.
            in_flight: units that are handed out.
        """
        self._shown = time.monotonic()
        self.progress.actors = {
            member.name: "starting" if member.info is None else f"{len(member.in_flight)} in flight"
            for member in executor.members
        }
        # An actor counts a unit no longer once it is committed, which is before the driver hears of it.
        self.progress.rows_under_way = max(executor.under_way(), self._rows_shown - self.progress.rows_done)
        self._rows_shown = self.progress.rows_computed
        self._counters.state(sum(member.info is not None for member in executor.members), in_flight)
        self._listener(self.progress, None)

    def show_now_and_then(self, executor: Executor, in_flight: int) -> None:
        """The same, at most every `SHOW_SECONDS`, since every actor is called for it."""
        if time.monotonic() - self._shown > SHOW_SECONDS:
            self.show(executor, in_flight)
