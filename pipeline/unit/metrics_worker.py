"""Metrics that are added to a run: a unit's maps are read as they were committed, measured, and committed beside it.

    RUN/attributions/…/<unit>.parquet  ──> metrics ──>  RUN/evaluations/NAME/…/<unit>.parquet, and its commit

Nothing is attributed and nothing of the run is written to. A sample that has no map there has none here; one that
has a map and fails now, in its shard or in a metric, is a row with its own status.
"""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa

from pipeline.run.commit import read_commit
from pipeline.run.labels import Label
from pipeline.run.layout import commit_name, table_name
from pipeline.run.publishing import DamagedTableError, identity_of, read_table
from pipeline.shards.samples import Status
from pipeline.unit.attributor import Told
from pipeline.unit.inputs import Prepared
from pipeline.unit.messages import Task
from pipeline.unit.worker import Worker, _Unit
from ssig.types import Attribution


class Evaluator(Worker):
    """Does tasks of an evaluation with one replica; its labels are the evaluation's."""

    def probe(self, task: Task) -> None:
        """Measures a task's samples and writes nothing: dies or raises if one of them is poison."""
        prepared = self._read(task).prepared
        wanted = {row.index for row in task.rows}
        for name in task.labels:
            label = self.labels[name]
            table, _ = self._committed(task, label)
            rows = [position for position, index in enumerate(table["index"].to_pylist()) if index in wanted]
            self._measure(label, prepared, as_now(table.take(rows), prepared), None)

    def _attributions(
        self, task: Task, label: Label, unit: _Unit, seconds: dict[str, float], told: Told
    ) -> tuple[pa.Table, Attribution | None, dict[str, Mapping[str, object]]]:
        table, identity = self._committed(task, label)
        told(sum(status == Status.OK for status in table["status"].to_pylist()))
        # The commit names what was measured, so that a unit that is attributed anew is seen to be another.
        name = table_name("attributions", label.model, label.method, task.unit)
        return as_now(table, unit.prepared), None, {name: identity}

    def _committed(self, task: Task, label: Label) -> tuple[pa.Table, Mapping[str, object]]:
        """A unit's attributions with their identity, if they are those that its commit names.

        Raises:
            DamagedTableError: they are not.
        """
        name = table_name("attributions", label.model, label.method, task.unit)
        commit = read_commit(self.storage, commit_name(label.model, label.method, task.unit))
        data = self.storage.read(name)
        identity = identity_of(data)
        if commit.files.get(name) != identity:
            raise DamagedTableError(f"{name}: not the file that its commit names; `ssig audit --repair` mends the run")
        return read_table(data, name), identity


def as_now(attributions: pa.Table, prepared: Prepared) -> pa.Table:
    """Attributions in which a sample that was ok and is not now, because its shard or a metric fails, says so."""
    statuses, errors = attributions["status"].to_pylist(), attributions["error"].to_pylist()
    for position, outcome in enumerate(prepared.outcomes):
        if statuses[position] == Status.OK and outcome.status is not Status.OK:
            statuses[position], errors[position] = outcome.status.value, outcome.error
    for name, values in (("status", statuses), ("error", errors)):
        column = attributions.schema.get_field_index(name)
        attributions = attributions.set_column(column, attributions.schema.field(name), pa.array(values, pa.string()))
    return attributions
