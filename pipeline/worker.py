"""One unit of work: read, decode, attribute, measure, write, commit. No cluster in sight.

A unit is done under each label in turn: attributions are published first, metrics are computed from the maps *as they
were published* (by whichever attempt came first), and the commit record goes last. A sample that fails at any step
is a row with a status.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import cast

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

import ssig.methods
import ssig.metrics  # noqa: F401  (fills the registries)
from pipeline.attributor import Attributor, Told, companions, silent
from pipeline.commit import Commit, write_commit
from pipeline.evaluate import evaluate
from pipeline.names import commit_name, table_name
from pipeline.plan import Label
from pipeline.prepare import Prepared, prepare
from pipeline.records import Status
from pipeline.references import ReferencePool
from pipeline.shards import read_unit
from pipeline.storage import Storage, open_storage
from pipeline.tables import Measured, attributions_table, decode_maps, metrics_table
from pipeline.tasks import Done, Task
from pipeline.writer import check_table, identity_of, publish_table, read_table
from ssig.device import Device
from ssig.models import Model
from ssig.replica import Replica
from ssig.types import Attribution


@dataclass
class _Unit:
    """A unit while it is worked on.

    Attributes:
        prepared: its samples.
        decode_seconds: what reading and decoding took.
        attributed: method label -> its attribution and the seconds it took, where not yet published.
    """

    prepared: Prepared
    decode_seconds: float
    attributed: dict[str, tuple[Attribution, float]] = field(default_factory=dict)


class Worker:
    """Does tasks with one replica.

    Several threads may call `process` at once: one reads, measures or writes while the other's points are on the
    device, and the units fill each other's last micro-batches.

    Args:
        replica: of a `Model`; nobody else may use it from now on.
        labels: the run's labels by method label.
        run: URL or path of the run.
        seed: of the run.
    """

    def __init__(self, replica: Replica, labels: Mapping[str, Label], run: str, seed: int) -> None:
        self.model = cast(Model, replica.model)
        self.labels = labels
        self.seed = seed
        self.storage: Storage = open_storage(run)
        self.device = Device(replica)
        self.attributor = Attributor(
            self.device, self.model, seed, ReferencePool(self.storage, self.model, self.device, seed)
        )
        self._under_way: Counter[tuple[str, str]] = Counter()

    def process(self, task: Task) -> Done:
        """Commits a task's unit under each of its labels.

        Raises:
            OSError: the shard cannot be read or the run cannot be written; the unit can be tried again.
            Exception: what the network raised; some sample of the unit is to blame.
        """
        started = time.perf_counter()
        unit = self._read(task)
        statuses = {}
        for name in task.labels:
            label = self.labels[name]
            if self.storage.entry(commit_name(label.model, label.method, task.unit)) is None:
                statuses[name] = self._commit(task, label, unit)
        for name in task.labels:
            self._under_way.pop((task.unit, name), None)
        return Done(task.unit, task.attempt, statuses, time.perf_counter() - started)

    def close(self) -> None:
        """Ends the thread that owns the device."""
        self.device.close()

    @property
    def under_way(self) -> float:
        """How many maps are computed but not committed; attribution and metrics count half each."""
        return sum(list(self._under_way.values())) / 2

    def probe(self, task: Task) -> None:
        """Does a task's computation and writes nothing: dies or raises if one of its samples is poison."""
        prepared = self._read(task).prepared
        for name in task.labels:
            label = self.labels[name]
            attributed = self.attributor.attribute([label], prepared)[0] if prepared.ok else None
            self._measure(label, prepared, attributions_table(label, prepared, attributed), attributed)

    def _read(self, task: Task) -> _Unit:
        started = self.device.clock()
        model = self.labels[task.labels[0]].config["model"]
        by_label = model["target"] == "label"
        samples = read_unit(task.url, task.rows, needs_label=by_label, classes=model["classes"] if by_label else None)
        prepared = prepare(samples, self.model, model["target"], task.poison)
        prepared.predict(self.device.forward)
        return _Unit(prepared, self.device.clock() - started)

    def _commit(self, task: Task, label: Label, unit: _Unit) -> dict[str, int]:
        prepared = unit.prepared
        seconds: dict[str, float] = {"decode": unit.decode_seconds}

        def told(count: int) -> None:
            self._under_way[task.unit, label.method] += count

        attributions, attributed, files = self._attributions(task, label, unit, seconds, told)
        with self._timed(seconds, "metrics"):
            measured = self._measure(label, prepared, attributions, attributed, told)
        metrics = metrics_table(label, prepared, attributions, measured)
        name = table_name("metrics", label.model, label.method, task.unit)
        with self._timed(seconds, "write"):
            _, files[name] = publish_table(self.storage, name, metrics, task.rows, task.attempt)
        seconds["total"] = sum(seconds.values())
        statuses = dict(Counter(attributions["status"].to_pylist()))
        commit = Commit(
            unit=task.unit,
            attempt=task.attempt,
            fingerprint=label.fingerprint,
            rows=len(task.rows),
            statuses=statuses,
            files=files,
            seconds=seconds,
            gradient_evaluations=sum(n or 0 for n in attributions["gradient_evaluations"].to_pylist()),
            finished=datetime.now(UTC).isoformat(timespec="milliseconds"),
        )
        write_commit(self.storage, label, commit)
        return statuses

    def _attributions(
        self, task: Task, label: Label, unit: _Unit, seconds: dict[str, float], told: Told
    ) -> tuple[pa.Table, Attribution | None, dict[str, Mapping[str, object]]]:
        """The published attributions of a unit, the result they came from if it is ours, and the file's identity."""
        prepared = unit.prepared
        name = table_name("attributions", label.model, label.method, task.unit)
        stores_maps = label.config["maps"] != "none"
        # An attempt that died before its commit may have left its maps: they are as good as ours would be.
        if stores_maps and self.storage.entry(name) is not None:
            data = self.storage.read(name)
            table = read_table(data, name)
            check_table(table, attributions_table(label, prepared, None).schema, task.rows, name)
            if not _holds_poison(table, task.poison):
                return table, None, {name: identity_of(data)}
            # A sample that is deadly to a metric alone left its map: no commit names the file, and none ever may.
            self.storage.delete(name)
        attributed = None
        if prepared.ok:
            if label.method not in unit.attributed:
                self._attribute(task, label, unit, told)
            attributed, seconds["attribute"] = unit.attributed.pop(label.method)
        table = attributions_table(label, prepared, attributed)
        with self._timed(seconds, "write"):
            first, identity = publish_table(self.storage, name, table, task.rows, task.attempt)
            if not first:
                table = read_table(self.storage.read(name), name)
        return table, attributed, {name: identity}

    def _attribute(self, task: Task, label: Label, unit: _Unit, told: Told) -> None:
        """Attributes a unit under a label, and under those still to be done whose methods walk the same path."""
        later = [self.labels[name] for name in task.labels[task.labels.index(label.method) + 1 :]]
        labels = [label, *companions(label, [other for other in later if not self._is_attributed(task, other)])]
        spent: dict[str, float] = {}
        with self._timed(spent, "attribute"):
            results = self.attributor.attribute(labels, unit.prepared, told)
        for one, result in zip(labels, results, strict=True):
            unit.attributed[one.method] = result, spent["attribute"] / len(labels)

    def _is_attributed(self, task: Task, label: Label) -> bool:
        names = (
            commit_name(label.model, label.method, task.unit),
            table_name("attributions", label.model, label.method, task.unit),
        )
        return any(self.storage.entry(name) is not None for name in names)

    def _measure(
        self,
        label: Label,
        prepared: Prepared,
        attributions: pa.Table,
        attributed: Attribution | None,
        told: Told = silent,
    ) -> Measured:
        """Metrics of the rows that the attributions call ok, from the maps as stored."""
        ok = [position for position, status in enumerate(attributions["status"].to_pylist()) if status == Status.OK]
        at = {position: k for k, position in enumerate(prepared.ok)}
        kept = [at[position] for position in ok]
        if "map" in attributions.schema.names:
            maps = decode_maps(attributions)
        elif attributed is not None:
            maps = attributed.map.float().numpy()[kept]
        else:
            maps = np.zeros((0, *self.model.input_size), dtype=np.float32)
        scalars = {
            name: _tensor(attributions[name], ok) for name in ("score", "baseline_score", "completeness_residual")
        }
        return evaluate(
            self.device, self.model, prepared, kept, maps, label.config["metrics"], scalars, self.seed, told
        )

    @contextmanager
    def _timed(self, seconds: dict[str, float], step: str) -> Iterator[None]:
        """Adds what the body took, in seconds of computing: another unit's share of the device is not this one's."""
        started = self.device.clock()
        try:
            yield
        finally:
            seconds[step] = seconds.get(step, 0.0) + self.device.clock() - started


def _holds_poison(attributions: pa.Table, poison: Mapping[int, str]) -> bool:
    """Whether a sample that is quarantined now was attributed by an earlier attempt."""
    rows = zip(attributions["index"].to_pylist(), attributions["status"].to_pylist(), strict=True)
    return any(index in poison and status == Status.OK for index, status in rows)


def _tensor(column: pa.ChunkedArray, rows: list[int]) -> Tensor | None:
    """Some rows of a column, or None where it is null there."""
    values = column.take(rows) if rows else column.slice(0, 0)
    return None if values.null_count else torch.from_numpy(values.to_numpy().copy())
