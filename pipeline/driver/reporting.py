"""How far a run is, for a person (`Progress`, which a listener draws) and for machines (`Counters`)."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from pipeline.driver.executor import Counters, Executor, State
from pipeline.driver.progress import Listener, Progress
from pipeline.driver.schedule import Order, Work
from pipeline.run.log import UNDER_WAY, RunLog
from pipeline.shards.samples import Status
from pipeline.unit.messages import Done

SHOW_SECONDS = 1.0
# A line of the log says so often how far each actor is within its units, of so many actors at most.
LOG_SECONDS, MOST_LOGGED = 15.0, 100


class Reporter:
    """Keeps `progress` and `counters` up to date.

    Args:
        listener: receives `progress`.
        progress: the state that the listener receives.
        counters: for machines.
        log: of the run.
    """

    def __init__(self, listener: Listener, progress: Progress, counters: Counters, log: RunLog | None = None) -> None:
        self.progress = progress
        self._listener = listener
        self._counters = counters
        self._log = log
        self._logged = 0.0
        self._shown = 0.0
        self._rows_shown = 0.0
        self._rows_mapped = 0.0

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
        self._rows_mapped -= _rows_mapped(order.work)
        self.progress.failed += sum(
            count for counts in done.statuses.values() for status, count in counts.items() if status != Status.OK
        )
        self._counters.done(done)

    def mapped(self, order: Order, done: Done) -> None:
        """Notes that the maps of a unit are published, to be measured by another actor."""
        self._rows_mapped += _rows_mapped(order.work)
        self._counters.mapped(done)

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
        under_way = executor.under_way() + self._rows_mapped
        self.progress.rows_under_way = max(under_way, self._rows_shown - self.progress.rows_done)
        self._rows_shown = self.progress.rows_computed
        makers = [member for member in executor.members if not member.measures]
        ready = [member.info for member in makers if member.info is not None]
        self._counters.state(
            State(
                actors=len(ready),
                in_flight=in_flight,
                units_left=self.progress.units_total - self.progress.units_done,
                rows_under_way=self.progress.rows_under_way,
                seconds_left=self.progress.seconds_left,
                micro_batches=[info["micro_batch"] for info in ready if "micro_batch" in info],
            )
        )
        self._listener(self.progress, None)
        if self._log is not None and self._shown - self._logged > LOG_SECONDS:
            self._logged = self._shown
            self._log.write(UNDER_WAY, **_under_way(self.progress, executor))

    def show_now_and_then(self, executor: Executor, in_flight: int) -> None:
        """The same, at most every `SHOW_SECONDS`, since every actor is called for it."""
        if time.monotonic() - self._shown > SHOW_SECONDS:
            self.show(executor, in_flight)


def _rows_mapped(work: Work) -> float:
    """How many rows published maps of a unit count for: half of each, where its metrics are still to be computed."""
    return 0.0 if work.spent is None else work.size * len(work.labels) / 2


def _under_way(progress: Progress, executor: Executor) -> Mapping[str, object]:
    """How far a command is, and its actors within their units."""
    actors = [member for member in executor.members if member.info is not None][:MOST_LOGGED]
    return {
        "shards_listed": progress.listed,
        "units_total": progress.units_total,
        "units_done": progress.units_done,
        "rows_total": progress.rows_total,
        "rows_done": progress.rows_done,
        "rows_under_way": round(progress.rows_under_way, 1),
        "rows_per_second": round(progress.rate, 3),
        "seconds_left": None if progress.seconds_left is None else round(progress.seconds_left, 1),
        "actors": {member.name: [round(member.under_way, 1), len(member.in_flight)] for member in actors},
    }
