"""A run that is under way, seen from outside: from its own files, without Ray and without the network."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from pipeline.run.commit_names import CommitNames, Paced
from pipeline.run.directory import RunDirectory
from pipeline.run.following import FollowedDriver, FollowedLog
from pipeline.run.labels import Label
from pipeline.run.layout import batch_folder
from pipeline.storage.base import Storage

# The labels and the number of units change seldom.
PLAN_SECONDS = 10.0


class WatchedLabel(NamedTuple):
    """A label, or an evaluation of it, with its units done and of all."""

    title: str
    units_done: int
    units: int


class WatchedActor(NamedTuple):
    """An actor that is ready: where it is, its units in flight, maps under way, and units of the last ten minutes."""

    name: str
    where: str
    in_flight: int
    under_way: float
    units: int


@dataclass(frozen=True)
class Look:
    """A run at one time.

    Attributes:
        run: its path or URL.
        labels, actors: of each, how far it is.
        shards_listed: shards listed so far, and how many there are; None once the listing has ended.
        silent_seconds: since the driver wrote a line last; None where no driver has written.
        has_ended: whether the driver said that it ends.
        rows_per_second, seconds_left: as the driver said last; None where it has not.
        failures: units that failed, by kind.
    """

    run: str
    labels: Sequence[WatchedLabel]
    shards_listed: tuple[int, int] | None = None
    actors: Sequence[WatchedActor] = ()
    silent_seconds: float | None = None
    has_ended: bool = False
    rows_per_second: float | None = None
    seconds_left: float | None = None
    failures: Mapping[str, int] = field(default_factory=Counter)

    @property
    def is_finished(self) -> bool:
        """Whether every label is done."""
        return (
            self.shards_listed is None
            and bool(self.labels)
            and all(label.units_done == label.units for label in self.labels)
        )


class _Plan(NamedTuple):
    labels: Sequence[Label]
    units: int
    shards_listed: tuple[int, int] | None


class Watch:
    """Looks at a run again and again.

    Args:
        storage: the run.
    """

    def __init__(self, storage: Storage) -> None:
        self._directory = RunDirectory(storage)
        self._plan = Paced(self._read_plan, PLAN_SECONDS)
        self._names = CommitNames(storage)
        self._log = FollowedLog(storage)

    def look(self) -> Look:
        """The run as it is now.

        Raises:
            UsageError: there is no run.
            RefusedError: one of its records is damaged.
            OSError: the storage does not give a file.
        """
        plan, names, driver = self._plan.value(), self._names.look(), self._log.look()
        labels = [WatchedLabel(label.title, _done(label, names), plan.units) for label in plan.labels]
        if driver is None:
            return Look(self._directory.root, labels, plan.shards_listed)
        return Look(
            run=self._directory.root,
            labels=labels,
            shards_listed=plan.shards_listed,
            actors=[] if driver.has_ended else _actors(driver),
            silent_seconds=max(0.0, time.time() - driver.last),
            has_ended=driver.has_ended,
            rows_per_second=driver.state.get("rows_per_second"),
            seconds_left=driver.state.get("seconds_left"),
            failures=driver.failures,
        )

    def _read_plan(self) -> _Plan:
        directory = self._directory
        directory.refresh()
        directory.opened()
        labels = (*directory.labels, *directory.evaluations)
        return _Plan(labels, directory.manifest.unit_count, directory.listed)


def _done(label: Label, names: Mapping[str, frozenset[str]]) -> int:
    """How many units have a commit under a label, of its own or of its batch."""
    own = names.get(label.commits, frozenset())
    if label.batch is None:
        return len(own)
    batch = names.get(batch_folder(label.batch, label.evaluation, label.version), frozenset())
    return len(own | batch) if own else len(batch)


def _actors(driver: FollowedDriver) -> list[WatchedActor]:
    units = driver.units
    return [
        WatchedActor(name, actor.where, actor.in_flight, actor.under_way, units[name])
        for name, actor in driver.actors.items()
    ]
