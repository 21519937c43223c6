"""One unit of work: read, decode, attribute, measure, write, commit. No cluster in sight.

A unit is done under each label in turn: attributions are published first, metrics are computed from the maps *as they
were published* (by whichever attempt came first), and the commit record goes last. A sample that fails at any step
is a row with a status.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from typing import cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor, nn

from pipeline import fault_points
from pipeline.run.commit import write_commit
from pipeline.run.labels import Label
from pipeline.run.layout import TABLES, commit_name, metrics_name, table_name
from pipeline.run.maps import decode_maps
from pipeline.run.publishing import DamagedTableError, check_table, identity_of, publish_table, read_table
from pipeline.run.records import CommitRecord
from pipeline.shards.reading import read_unit
from pipeline.shards.samples import ManifestRow, Poison, Status
from pipeline.storage import open_storage
from pipeline.storage.base import Storage
from pipeline.unit.attributor import Attributor, Told, companions, silent
from pipeline.unit.inputs import Prepared, prepare
from pipeline.unit.measuring import evaluate
from pipeline.unit.messages import Done, Task
from pipeline.unit.references import ReferencePool
from pipeline.unit.tables import Measured, attributions_table, metrics_table
from ssig.acceleration.allocator import return_memory
from ssig.engine.device import Device
from ssig.engine.replica import Replica
from ssig.models import Model
from ssig.registry import METHODS, METRICS
from ssig.types import Attribution

# Seldom enough to cost nothing where units are small.
TIDY_SECONDS = 15.0


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
        fresh: gives a plain copy of the network as it was loaded; without it, metrics that randomise it are excluded.
    """

    def __init__(
        self,
        replica: Replica,
        labels: Mapping[str, Label],
        run: str,
        seed: int,
        fresh: Callable[[], nn.Module] | None = None,
    ) -> None:
        self.model = cast(Model, replica.model)
        self.labels = labels
        self.seed = seed
        self.storage: Storage = open_storage(run)
        self.device = Device(replica)
        self.attributor = Attributor(
            self.device, self.model, seed, ReferencePool(self.storage, self.model, self.device, seed), fresh
        )
        self._under_way: Counter[tuple[str, str]] = Counter()
        self._tidied = time.monotonic()

    def process(self, task: Task) -> Done:
        """Commits a task's unit under each of its labels.

        Raises:
            OSError: the shard cannot be read or the run cannot be written; the unit can be tried again.
            Exception: what the network raised; some sample of the unit is to blame.
        """
        started = time.perf_counter()
        fault_points.point("before-read", task.unit)
        unit = self._read(task)
        fault_points.point("after-read", task.unit)
        statuses = {}
        try:
            for name in task.labels:
                label = self.labels[name]
                if not self._is_committed(task, label):
                    statuses[name] = self._commit(task, label, unit)
        finally:
            for name in task.labels:
                self._under_way.pop((task.unit, name), None)
            self._tidy()
        return Done(task.unit, task.attempt, statuses, time.perf_counter() - started)

    def close(self) -> None:
        """Ends the thread that owns the device."""
        self.device.close()

    @property
    def under_way(self) -> float:
        """How many maps are computed but not committed; attribution and metrics count half each."""
        return sum(list(self._under_way.values())) / 2

    def _tidy(self) -> None:
        """Now and then gives back the memory of what is done."""
        now = time.monotonic()
        if now - self._tidied > TIDY_SECONDS:
            self._tidied = now
            pa.default_memory_pool().release_unused()
            return_memory()

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
        classes = model["classes"] if by_label else None
        samples = read_unit(task.url, _without_poison(task), needs_label=by_label, classes=classes)
        prepared = prepare(samples, self.model, model["target"])
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
        name = metrics_name(label.model, label.method, task.unit, label.evaluation)
        with self._timed(seconds, "write"):
            if self._is_unfit(name, metrics, task):
                self._refuse_committed(task, label, name)
                self.storage.delete(name)
            _, files[name] = publish_table(self.storage, name, metrics, task.rows, task.attempt)
        seconds["total"] = sum(seconds.values())
        statuses = dict(Counter(attributions["status"].to_pylist()))
        commit = CommitRecord(
            unit=task.unit,
            attempt=task.attempt,
            fingerprint=label.fingerprint,
            rows=len(task.rows),
            statuses=statuses,
            files={name: dict(identity) for name, identity in files.items()},
            seconds=seconds,
            gradient_evaluations=_spent(attributions) if label.evaluation is None else 0,
            finished=datetime.now(UTC).isoformat(timespec="milliseconds"),
        )
        self._check_unchanged(files)
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
        left = self._left(task, label, prepared, name)
        if stores_maps and left is not None:
            table, identity = left
            return table, None, {name: identity}
        attributed = None
        if prepared.ok:
            if label.method not in unit.attributed:
                self._attribute(task, label, unit, told)
            attributed, seconds["attribute"] = unit.attributed.pop(label.method)
        fault_points.point("after-attribute", name)
        table = attributions_table(label, prepared, attributed)
        with self._timed(seconds, "write"):
            first, identity = publish_table(self.storage, name, table, task.rows, task.attempt)
            if not first:
                table = read_table(self.storage.read(name), name)
        return table, attributed, {name: identity}

    def _left(
        self, task: Task, label: Label, prepared: Prepared, name: str
    ) -> tuple[pa.Table, Mapping[str, object]] | None:
        """The attributions that an attempt left that did not commit, with their identity.

        They are removed if they are damaged, or hold a sample that was deadly only to a metric: no commit names them,
        and none ever may.

        Raises:
            DamagedTableError: that attempt has committed meanwhile.
        """
        if self.storage.entry(name) is None:
            return None
        data = self.storage.read(name)
        try:
            table = read_table(data, name)
            check_table(table, attributions_table(label, prepared, None).schema, task.rows, name)
            if not _holds_poison(table, task.poison):
                return table, identity_of(data)
        except DamagedTableError:
            pass  # a disk's fault, and made good by doing the unit again
        self._refuse_committed(task, label, name)
        for kind in reversed(TABLES):
            self.storage.delete(table_name(kind, label.model, label.method, task.unit))
        return None

    def _refuse_committed(self, task: Task, label: Label, name: str) -> None:
        """Keeps an attempt that stood still from removing what its successor has committed.

        Raises:
            DamagedTableError: the unit is committed under the label.
        """
        if self._is_committed(task, label):
            raise DamagedTableError(f"{name}: another attempt has committed it, unlike what this one would")

    def _is_unfit(self, name: str, metrics: pa.Table, task: Task) -> bool:
        """Whether metrics that an attempt left that did not commit are damaged, or not those of the attributions."""
        if self.storage.entry(name) is None:
            return False
        try:
            table = read_table(self.storage.read(name), name)
            check_table(table, metrics.schema, task.rows, name)
        except DamagedTableError:
            return True
        return bool(table["status"].to_pylist() != metrics["status"].to_pylist())

    def _check_unchanged(self, files: Mapping[str, Mapping[str, object]]) -> None:
        """Looks whether the files to be committed are still there: an attempt that knows more may have removed them.

        Raises:
            DamagedTableError: they are not.
        """
        for name, identity in files.items():
            entry = self.storage.entry(name)
            if entry is None or entry.size != identity["bytes"]:
                raise DamagedTableError(f"{name}: another attempt has replaced it")

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
        name = table_name("attributions", label.model, label.method, task.unit)
        return self._is_committed(task, label) or self.storage.entry(name) is not None

    def _is_committed(self, task: Task, label: Label) -> bool:
        name = commit_name(label.model, label.method, task.unit, label.evaluation)
        return self.storage.entry(name) is not None

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
            maps = decode_maps(attributions.filter(pc.equal(attributions["status"], Status.OK.value)))
            if len(maps) != len(ok):
                raise DamagedTableError(f"the attributions of {label.method}: a row is ok and has no map")
        elif attributed is not None:
            maps = attributed.map.float().numpy()[kept]
        else:
            maps = np.zeros((0, *self.model.input_size), dtype=np.float32)
        scalars = {
            name: _tensor(attributions[name], ok) for name in ("score", "baseline_score", "completeness_residual")
        }
        return evaluate(
            self.device,
            self.model,
            prepared,
            kept,
            maps,
            label.config["metrics"],
            scalars,
            self.seed,
            told,
            # Metrics that are added to a run do not call its method, whose code need not be at hand.
            explain=partial(self.attributor.explainer, label) if label.evaluation is None else None,
            tidy=self._tidy,
        )

    @contextmanager
    def _timed(self, seconds: dict[str, float], step: str) -> Iterator[None]:
        """Adds what the body took, in seconds of computing: another unit's share of the device is not this one's."""
        started = self.device.clock()
        try:
            yield
        finally:
            seconds[step] = seconds.get(step, 0.0) + self.device.clock() - started


def may_change_network(label: Label) -> bool:
    """Whether a metric of a label may ask for a copy of the network, or its method asks for the plain network."""
    if any({"method", "model"} <= METRICS[name].needs for name in label.config["metrics"]):
        return True
    return label.evaluation is None and METHODS[label.config["method"]["name"]].network


def _without_poison(task: Task) -> list[ManifestRow]:
    """A task's rows; those kept from the network have a status, so that they are not even decoded: that may kill."""
    why = task.poison
    return [
        replace(row, status=why[row.index].status, error=why[row.index].reason) if row.index in why else row
        for row in task.rows
    ]


def _holds_poison(attributions: pa.Table, poison: Mapping[int, Poison]) -> bool:
    """Whether a sample that is kept from the network now was attributed by an earlier attempt."""
    rows = zip(attributions["index"].to_pylist(), attributions["status"].to_pylist(), strict=True)
    return any(index in poison and status == Status.OK for index, status in rows)


def _spent(attributions: pa.Table) -> int:
    return sum(n or 0 for n in attributions["gradient_evaluations"].to_pylist())


def _tensor(column: pa.ChunkedArray, rows: list[int]) -> Tensor | None:
    """Some rows of a column, NaN where it is null; None where all are."""
    values = column.take(rows) if rows else column.slice(0, 0)
    return None if rows and values.null_count == len(rows) else torch.from_numpy(values.to_numpy().copy())
