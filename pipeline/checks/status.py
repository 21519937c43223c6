"""How far a run is, from its listing and commit records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipeline.run.directory import RunDirectory
from pipeline.run.lease import holder
from pipeline.storage import open_storage


@dataclass(frozen=True)
class LabelStatus:
    """One model-and-method label, or an evaluation of it: units done of all, and committed rows by status."""

    model: str
    method: str
    evaluation: str | None
    units_done: int
    units: int
    statuses: Mapping[str, int]


@dataclass(frozen=True)
class RunStatus:
    """A run: its expected samples, each label, the records in quarantine, and who works on it.

    While its shards are being listed, `unsealed` says how far that is, and `expected` counts the samples so far.
    """

    run: str
    expected: int
    labels: Sequence[LabelStatus]
    quarantined: int
    driver: str | None
    unsealed: str | None = None

    @property
    def finished(self) -> bool:
        """Whether every label, and every evaluation, is done."""
        return (
            self.unsealed is None
            and bool(self.labels)
            and all(label.units_done == label.units for label in self.labels)
        )


def status(run: str) -> RunStatus:
    """The state of a run.

    Raises:
        UsageError: there is no run.
        RefusedError: one of its records is damaged.
    """
    directory = RunDirectory(open_storage(run))
    directory.opened()
    manifest = directory.manifest
    labels = [
        LabelStatus(
            label.model,
            label.method,
            label.evaluation,
            directory.done_count(label),
            manifest.unit_count,
            directory.counts(label),
        )
        for label in (*directory.labels, *directory.evaluations)
    ]
    driver, unsealed = holder(directory.storage), directory.unsealed
    if driver is not None and directory.listed is not None:  # it goes on without being asked
        unsealed = "{}: {} of {} shards are listed so far".format(directory.root, *directory.listed)
    return RunStatus(directory.root, len(manifest), labels, directory.quarantined, driver, unsealed)
