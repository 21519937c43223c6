"""Files of a unit in its run: what earlier attempts left, what is published now, and the commit record that goes last.

First attempt wins. A file that an attempt left without a commit is kept if it is whole and fits, and else made anew;
what is committed is never removed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from pipeline.run.commit import write_batch_commit, write_commit
from pipeline.run.labels import Label
from pipeline.run.layout import TABLES, metrics_name, table_name
from pipeline.run.publishing import DamagedTableError, check_table, identity_of, publish_table, read_table
from pipeline.run.records import CommitRecord
from pipeline.shards.samples import Poison, Status
from pipeline.storage.base import Storage
from pipeline.unit.messages import Task
from pipeline.unit.tables import table_schemas

# Hash and size of a file, as commit records hold them.
Identity = Mapping[str, Any]


class UnitFiles:
    """The files of units in a run.

    Args:
        storage: the run.
    """

    def __init__(self, storage: Storage) -> None:
        self.storage = storage

    def is_committed(self, task: Task, label: Label) -> bool:
        """Whether the unit is done under the label, by a commit of its own or of its batch."""
        return any(self.storage.entry(name) is not None for name in label.commit_names(task.unit))

    def kept(
        self, task: Task, label: Label, measured: Callable[[], tuple[pa.Table, Mapping[str, Identity]]]
    ) -> CommitRecord | None:
        """The commit of a label that an earlier attempt has done: its tables are all there, whole, and fit.

        They are kept even if they hold a map of a sample that is poison by now: the sample failed under another label.

        Args:
            task, label: the unit.
            measured: of an evaluation, the attributions that it measures, as they are now, and their file.

        Returns:
            What is to be committed; None where the label is to be done.
        """
        names = label.table_names(task.unit)
        if any(self.storage.entry(name) is None for name in names.values()):
            return None
        tables: list[pa.Table] = []
        files: dict[str, Identity] = {}
        try:
            for folder, schema in table_schemas(label).items():
                data = self.storage.read(names[folder])
                tables.append(read_table(data, names[folder]))
                check_table(tables[-1], schema, task.rows, names[folder])
                files[names[folder]] = identity_of(data)
        except (DamagedTableError, FileNotFoundError):
            return None  # made anew
        if label.evaluation is not None:
            attributions, of_the_run = measured()
            tables.insert(0, attributions)
            files = {**of_the_run, **files}
        first, *others = [table["status"].to_pylist() for table in tables]
        return self.record(task, label, tables[0], files, {}) if all(other == first for other in others) else None

    def is_attributed(self, task: Task, label: Label) -> bool:
        """Whether some attempt has published the unit's attributions under the label."""
        return self.storage.entry(attributions_name(task, label)) is not None

    def leftover_attributions(
        self, task: Task, label: Label, schema: Callable[[], pa.Schema]
    ) -> tuple[pa.Table, Identity] | None:
        """The attributions that an uncommitted attempt left, with their identity.

        They are removed if they are damaged, or hold a map of a sample that is poison by now: no commit may name them.

        Args:
            task, label: the unit.
            schema: gives that of its attributions.

        Raises:
            DamagedTableError: that attempt has committed meanwhile.
        """
        name = attributions_name(task, label)
        if self.storage.entry(name) is None:
            return None
        data = self.storage.read(name)
        try:
            table = read_table(data, name)
            check_table(table, schema(), task.rows, name)
            if not holds_poison(table, task.poison):
                return table, identity_of(data)
        except DamagedTableError:
            pass  # damaged on the disk: doing the unit again repairs it
        self._refuse_committed(task, label, name)
        for kind in reversed(TABLES):
            self.storage.delete(table_name(kind, label.model, label.method, task.unit))
        return None

    def publish_attributions(self, task: Task, label: Label, table: pa.Table) -> tuple[pa.Table, Identity]:
        """Publishes attributions unless another attempt has; the published table and its identity."""
        name = attributions_name(task, label)
        first, identity = publish_table(self.storage, name, table, task.rows, task.attempt)
        return table if first else read_table(self.storage.read(name), name), identity

    def publish_metrics(self, task: Task, label: Label, table: pa.Table) -> tuple[str, Identity]:
        """Publishes metrics, in place of unfit ones that another attempt left; their name and identity.

        Raises:
            DamagedTableError: unfit ones are committed.
        """
        name = metrics_name(label.model, label.method, task.unit, label.evaluation)
        if self._is_unfit(name, table, task):
            self._refuse_committed(task, label, name)
            self.storage.delete(name)
        _, identity = publish_table(self.storage, name, table, task.rows, task.attempt)
        return name, identity

    def record(
        self,
        task: Task,
        label: Label,
        attributions: pa.Table,
        files: Mapping[str, Identity],
        seconds: Mapping[str, float],
    ) -> CommitRecord:
        """What is committed of the unit under a label."""
        return CommitRecord(
            unit=task.unit,
            attempt=task.attempt,
            fingerprint=label.fingerprint,
            rows=len(task.rows),
            statuses=dict(Counter(attributions["status"].to_pylist())),
            files={name: dict(identity) for name, identity in files.items()},
            seconds=dict(seconds),
            gradient_evaluations=_spent(attributions) if label.evaluation is None else 0,
            finished=datetime.now(UTC).isoformat(timespec="milliseconds"),
            model=label.model,
            method=label.method,
        )

    def commit(self, name: str, batch: str | None, commits: Sequence[CommitRecord]) -> None:
        """Records the unit as done under one label, or under all labels of a batch.

        Args:
            name: of the file.
            batch: id of the batch; None for one label.
            commits: one of each label.

        Raises:
            DamagedTableError: a file is not what was published.
        """
        for commit in commits:
            self._check_unchanged(commit.files)
        if batch is None:
            write_commit(self.storage, name, commits[0])
        else:
            write_batch_commit(self.storage, name, batch, commits)

    def _refuse_committed(self, task: Task, label: Label, name: str) -> None:
        """Keeps an attempt that stood still from removing what its successor has committed.

        Raises:
            DamagedTableError: the unit is committed under the label.
        """
        if self.is_committed(task, label):
            raise DamagedTableError(f"{name}: another attempt has committed it with other content")

    def _is_unfit(self, name: str, metrics: pa.Table, task: Task) -> bool:
        """Whether metrics that an uncommitted attempt left are damaged, or do not fit the attributions."""
        if self.storage.entry(name) is None:
            return False
        try:
            table = read_table(self.storage.read(name), name)
            check_table(table, metrics.schema, task.rows, name)
        except DamagedTableError:
            return True
        return bool(table["status"].to_pylist() != metrics["status"].to_pylist())

    def _check_unchanged(self, files: Mapping[str, Identity]) -> None:
        """Checks that the files to commit are still there: an attempt that knows of poison may have removed them.

        Raises:
            DamagedTableError: they are not.
        """
        for name, identity in files.items():
            entry = self.storage.entry(name)
            if entry is None or entry.size != identity["bytes"]:
                raise DamagedTableError(f"{name}: another attempt has replaced it")


def attributions_name(task: Task, label: Label) -> str:
    """The file of a unit's attributions; metrics that are added to a run measure the same file."""
    return table_name("attributions", label.model, label.method, task.unit)


def holds_poison(attributions: pa.Table, poison: Mapping[int, Poison]) -> bool:
    """Whether a sample that is kept from the network now was attributed by an earlier attempt."""
    rows = zip(attributions["index"].to_pylist(), attributions["status"].to_pylist(), strict=True)
    return any(index in poison and status == Status.OK for index, status in rows)


def _spent(attributions: pa.Table) -> int:
    return sum(n or 0 for n in attributions["gradient_evaluations"].to_pylist())
