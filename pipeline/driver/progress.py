"""The progress of a run, for a person; the command line draws it, other callers may ignore it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass
class Progress:
    """The state of a run as its driver sees it.

    Attributes:
        phase: what is being done, in a few words.
        units_total, units_done: units of this command, counted once for all their labels.
        rows_total, rows_done: samples times methods of this command.
        rows_under_way: rows that are computed but not committed; attribution and metrics count half each.
        failed: rows whose status is not ok.
        actors: actor name -> what it is doing.
        listed: shards listed, and how many there are; None where all are. The totals count what is listed.
        started: monotonic time of the first order.
    """

    phase: str = "starting"
    units_total: int = 0
    units_done: int = 0
    rows_total: int = 0
    rows_done: int = 0
    rows_under_way: float = 0.0
    failed: int = 0
    actors: dict[str, str] = field(default_factory=dict)
    started: float | None = None
    listed: tuple[int, int] | None = None

    @property
    def rate(self) -> float:
        """Rows a second since the first order; 0 before anything is done."""
        if self.started is None:
            return 0.0
        return self.rows_computed / max(time.monotonic() - self.started, 1e-9)

    @property
    def rows_computed(self) -> float:
        """Rows done and under way."""
        return min(self.rows_done + self.rows_under_way, self.rows_total)

    @property
    def seconds_left(self) -> float | None:
        """At the present rate; None while it is unknown."""
        if self.listed is not None:
            return None
        return (self.rows_total - self.rows_computed) / self.rate if self.rate else None


def shards_listed(listed: tuple[int, int]) -> str:
    """How far the listing of the shards is."""
    return "{:,} of {:,} shards listed".format(*listed)


Listener = Callable[[Progress, str | None], None]


def silent(progress: Progress, message: str | None) -> None:
    """A listener that ignores all progress."""
