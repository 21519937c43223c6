"""How far a run is, from its listing and commit records."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipeline.run.commit import commits
from pipeline.run.labels import recorded_evaluations, recorded_labels
from pipeline.run.lease import holder
from pipeline.run.records import open_run_record, run_manifest
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
    """A run: its expected samples, each label, the records in quarantine, and who works on it."""

    run: str
    expected: int
    labels: Sequence[LabelStatus]
    quarantined: int
    driver: str | None

    @property
    def finished(self) -> bool:
        """Whether every label, and every evaluation, is done."""
        return bool(self.labels) and all(label.units_done == label.units for label in self.labels)


def status(run: str) -> RunStatus:
    """The state of a run.

    Raises:
        UsageError: there is no run.
        RefusedError: its files are not ours.
    """
    storage = open_storage(run)
    open_run_record(storage)
    manifest = run_manifest(storage)
    labels = []
    own = recorded_labels(storage)
    for label in (*own, *recorded_evaluations(storage, own)):
        counts: Counter[str] = Counter()
        done = 0
        for _, commit in commits(storage, label):
            done += commit.fingerprint == label.fingerprint
            counts.update(commit.statuses)
        labels.append(
            LabelStatus(label.model, label.method, label.evaluation, done, manifest.unit_count, dict(counts))
        )
    quarantined = sum(1 for _ in storage.list("quarantine"))
    return RunStatus(storage.root, len(manifest), labels, quarantined, holder(storage))
