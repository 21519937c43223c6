"""Where the maps of a unit come from: computed and published now, or read as they were committed.

ComputedMaps     method ──> RUN/attributions/…/<unit>.parquet ──> maps      of a run
CommittedMaps               RUN/attributions/…/<unit>.parquet ──> maps      of metrics that are added to it
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import pyarrow as pa

from pipeline.run.commit import read_commit
from pipeline.run.compaction_content import content_hash
from pipeline.run.labels import Label
from pipeline.run.publishing import DamagedTableError, identity_of, read_table
from pipeline.shards.samples import Status
from pipeline.storage import fault_points
from pipeline.unit.attributor import Advance, Attributor
from pipeline.unit.committing import Identity, UnitFiles, attributions_name
from pipeline.unit.inputs import Prepared, Unit
from pipeline.unit.messages import Portion, Task
from pipeline.unit.stopwatch import Stopwatch
from pipeline.unit.tables import attributions_table
from ssig.types import Attribution


@dataclass(frozen=True)
class UnitMaps:
    """The maps of a unit under a label.

    Attributes:
        table: the attributions.
        attribution: what they were made from, of the unit's ok samples; None where they were read.
        files: name -> identity of the file that holds them; empty for a trial.
    """

    table: pa.Table
    attribution: Attribution | None
    files: Mapping[str, Identity]


class MapSource(Protocol):
    """Gives the maps that are measured."""

    def maps(self, task: Task, label: Label, unit: Unit, watch: Stopwatch, advance: Advance) -> UnitMaps:
        """The maps of a unit under a label, as they lie in the run.

        Args:
            task, label, unit: the unit.
            watch: adds up the seconds of the steps.
            advance: called with the number of maps that were just computed or read.
        """

    def trial(self, task: Task, label: Label, prepared: Prepared) -> UnitMaps:
        """The maps of a task's samples, to find a sample that kills; writes nothing."""


class ComputedMaps:
    """Attributes units and publishes their maps, unless an earlier attempt did.

    A task of `Portion.METRICS` is refused (`DamagedTableError`) where no attempt did.

    Args:
        attributor: computes them.
        files: of the run.
        labels: the run's labels by method label.
    """

    def __init__(self, attributor: Attributor, files: UnitFiles, labels: Mapping[str, Label]) -> None:
        self._attributor = attributor
        self._files = files
        self._labels = labels

    def maps(self, task: Task, label: Label, unit: Unit, watch: Stopwatch, advance: Advance) -> UnitMaps:
        prepared = unit.prepared
        name = attributions_name(task, label)
        # An attempt that died before its commit may have left its maps: they are as good as new ones would be.
        leftover = self._files.leftover_attributions(
            task, label, lambda: attributions_table(label, prepared, None).schema
        )
        if label.settings.maps != "none" and leftover is not None:
            table, identity = leftover
            for step, seconds in task.spent.get(label.method, {}).items():
                watch.add(step, seconds)
            return UnitMaps(table, None, {name: identity})
        if task.portion is Portion.METRICS:
            raise DamagedTableError(f"{name}: the maps that were published are gone, or are not whole")
        attributed = None
        if prepared.ok:
            if label.method not in unit.attributed:
                self._attribute(task, label, unit, advance)
            attributed, seconds = unit.attributed.pop(label.method)
            watch.add("attribute", seconds)
        fault_points.point("after-attribute", name)
        table = attributions_table(label, prepared, attributed)
        with watch.step("write"):
            table, identity = self._files.publish_attributions(task, label, table)
        return UnitMaps(table, attributed, {name: identity})

    def trial(self, task: Task, label: Label, prepared: Prepared) -> UnitMaps:
        attributed = self._attributor.attribute([label], prepared)[0] if prepared.ok else None
        return UnitMaps(attributions_table(label, prepared, attributed), attributed, {})

    def _attribute(self, task: Task, label: Label, unit: Unit, advance: Advance) -> None:
        """Attributes a unit under a label, and under those still to be done whose methods walk the same path."""
        later_labels = [self._labels[name] for name in task.labels[task.labels.index(label.method) + 1 :]]
        undone = [later_label for later_label in later_labels if not self._files.is_attributed(task, later_label)]
        labels: Sequence[Label] = [label, *self._attributor.companions(label, undone)]
        watch = Stopwatch(self._attributor.device.clock)
        with watch.step("attribute"):
            results = self._attributor.attribute(labels, unit.prepared, advance)
        for attributed_label, result in zip(labels, results, strict=True):
            unit.attributed[attributed_label.method] = result, watch.seconds["attribute"] / len(labels)


class CommittedMaps:
    """Reads the maps that a run has committed.

    Nothing is attributed, and the run's own files stay as they are. A sample without a map in the run has none here. A
    sample with a map that fails now, in its shard or in a metric, is a row with a status of its own.

    Args:
        files: of the run.
    """

    def __init__(self, files: UnitFiles) -> None:
        self._storage = files.storage
        self._stored = files.stored

    def maps(self, task: Task, label: Label, unit: Unit, watch: Stopwatch, advance: Advance) -> UnitMaps:
        table, files = self.measured(task, label, unit.prepared)
        advance(sum(status == Status.OK for status in table["status"].to_pylist()))
        return UnitMaps(table, None, files)

    def measured(self, task: Task, label: Label, prepared: Prepared) -> tuple[pa.Table, Mapping[str, Identity]]:
        """The attributions of a unit as they are now, with the file that holds them.

        Raises:
            DamagedTableError: they are not those that the run has committed.
        """
        table, identity = self._committed(task, label)
        # The commit names the measured file, so that an audit notices if the unit is attributed again.
        return as_now(table, prepared), {attributions_name(task, label): identity}

    def trial(self, task: Task, label: Label, prepared: Prepared) -> UnitMaps:
        indices = {row.index for row in task.rows}
        table, _ = self._committed(task, label)
        rows = [position for position, index in enumerate(table["index"].to_pylist()) if index in indices]
        return UnitMaps(as_now(table.take(rows), prepared), None, {})

    def _committed(self, task: Task, label: Label) -> tuple[pa.Table, Identity]:
        """A unit's attributions with their identity, if they are those that its commit names.

        Raises:
            DamagedTableError: they are not.
        """
        name = attributions_name(task, label)
        commit = read_commit(self._storage, label.base_commit_names(task.unit), label.model, label.method)
        identity = commit.files.get(name, {})
        changed = DamagedTableError(f"{name}: not the file that its commit names; `ssig audit --repair` mends the run")
        place = self._stored.place(name)
        if place.unit is not None:
            rows = self._stored.read(name)
            if place.unit.table != identity.get("sha256") or place.unit.content != content_hash(rows):
                raise changed
            return rows, identity
        data = self._storage.read(name)
        if identity_of(data) != identity:
            raise changed
        return read_table(data, name), identity


def as_now(attributions: pa.Table, prepared: Prepared) -> pa.Table:
    """Attributions with the present status of samples that were ok and fail now, in their shard or in a metric."""
    statuses, errors = attributions["status"].to_pylist(), attributions["error"].to_pylist()
    for position, outcome in enumerate(prepared.outcomes):
        if statuses[position] == Status.OK and outcome.status is not Status.OK:
            statuses[position], errors[position] = outcome.status.value, outcome.error
    for name, values in (("status", statuses), ("error", errors)):
        column = attributions.schema.get_field_index(name)
        attributions = attributions.set_column(column, attributions.schema.field(name), pa.array(values, pa.string()))
    return attributions
