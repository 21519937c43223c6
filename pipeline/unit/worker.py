"""One unit of work: read, decode, attribute, measure, write, commit. It needs no cluster.

A unit is done under each label in turn: attributions are published first, and metrics are computed from the maps *as
they were published* (by whichever attempt came first). The commit record goes last: one for all labels of a batch,
where all of them are to be done. A sample that fails at any step is a row with a status.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import cast

import pyarrow as pa
from torch import nn

from pipeline.run.labels import Label
from pipeline.run.records import CommitRecord
from pipeline.storage import fault_points, open_storage
from pipeline.unit.attributor import Advance, Attributor, method_of
from pipeline.unit.committing import UnitFiles
from pipeline.unit.inputs import Unit, read_task
from pipeline.unit.map_sources import CommittedMaps, ComputedMaps, MapSource
from pipeline.unit.measuring import Explain, Measuring
from pipeline.unit.messages import Done, Portion, Task
from pipeline.unit.references import ReferencePool
from pipeline.unit.stopwatch import Stopwatch
from pipeline.unit.tables import metrics_table
from ssig.acceleration.allocator import return_memory
from ssig.engine.device import Device
from ssig.engine.replica import Replica
from ssig.models import Model
from ssig.registry import METRICS

# Seldom enough to cost nothing where units are small.
TIDY_SECONDS = 15.0


class Worker:
    """Does tasks with one replica.

    Several threads may call `process` at once: one reads, measures or writes while the other's points are on the
    device, and the units fill each other's last micro-batches.

    Args:
        replica: of a `Model`; this worker alone may use it from now on.
        labels: the run's labels by method label; those of an evaluation for metrics that are added to a run.
        run: URL or path of the run.
        seed: of the run.
        fresh: gives a plain copy of the network as it was loaded; without it, metrics that randomise it are excluded.
        decoders: threads that decode and resize for each unit; 0 for the unit's own.
    """

    def __init__(
        self,
        replica: Replica,
        labels: Mapping[str, Label],
        run: str,
        seed: int,
        fresh: Callable[[], nn.Module] | None = None,
        decoders: int = 0,
    ) -> None:
        model = cast(Model, replica.model)
        storage = open_storage(run)
        self.labels = labels
        self._decoders = decoders
        self.device = Device(replica)
        self.files = UnitFiles(storage)
        self._attributor = Attributor(
            self.device, model, seed, ReferencePool(storage, model, self.device, seed), fresh
        )
        self._computed = ComputedMaps(self._attributor, self.files, labels)
        self._committed = CommittedMaps(self.files)
        self._measuring = Measuring(self.device, model, seed, self._tidy)
        self._under_way: Counter[tuple[str, str]] = Counter()
        self._tidied = time.monotonic()
        self._asking, self._told_seconds = threading.Lock(), 0.0

    def process(self, task: Task) -> Done:
        """Does the portion of a unit that a task asks for: all but `Portion.MAPS` commit it under each of its labels.

        Raises:
            OSError: the shard cannot be read or the run cannot be written; the unit can be tried again.
            Exception: what the network raised; some sample of the unit is to blame.
        """
        started = time.perf_counter()
        fault_points.point("before-read", task.unit)
        unit = self.read(task)
        fault_points.point("after-read", task.unit)
        commits: list[CommitRecord] = []
        spent: Mapping[str, Mapping[str, float]] = {}
        try:
            if task.portion is Portion.MAPS:
                spent = self._publish_maps(task, unit)
            else:
                commits = self._commit_all(task, unit)
        finally:
            for name in task.labels:
                self._under_way.pop((task.unit, name), None)
            self._tidy()
        return Done(
            unit=task.unit,
            attempt=task.attempt,
            statuses={commit.method: commit.statuses for commit in commits},
            seconds=time.perf_counter() - started,
            gradients={commit.method: commit.gradient_evaluations for commit in commits},
            steps=_steps(commits),
            device_seconds=self._newly_computed(),
            spent=spent,
        )

    def probe(self, task: Task) -> None:
        """Does a task's computation and writes nothing: dies or raises if one of its samples is poison."""
        prepared = self.read(task).prepared
        for name in task.labels:
            label = self.labels[name]
            maps = self.source(label).trial(task, label, prepared)
            self._measuring.measure(
                label.settings.metrics, prepared, maps.table, maps.attribution, explain=self._explain(label)
            )

    def close(self) -> None:
        """Ends the thread that owns the device."""
        self.device.close()

    def stop(self) -> None:
        """Makes units in progress fail at their next use of the device, so that their threads end soon."""
        self.device.stop()

    @property
    def under_way(self) -> float:
        """How many maps are computed but not committed; attribution and metrics count half each."""
        return sum(list(self._under_way.values())) / 2

    def source(self, label: Label) -> MapSource:
        """Where the maps of a label come from: metrics that are added to a run measure what it has committed."""
        return self._computed if label.evaluation is None else self._committed

    def read(self, task: Task) -> Unit:
        """The samples of a task, read, decoded and predicted."""
        label = self.labels[task.labels[0]]
        return read_task(task, label, self._attributor.model, self.device, self._decoders)

    def _publish_maps(self, task: Task, unit: Unit) -> dict[str, Mapping[str, float]]:
        """Publishes a unit's maps under each label and commits nothing; what that took, by label and step."""
        spent: dict[str, Mapping[str, float]] = {}
        for label in (self.labels[name] for name in task.labels):
            if not self.files.is_committed(task, label):
                watch = self._watch(unit)
                self.source(label).maps(task, label, unit, watch, self._advance(task, label))
                spent[label.method] = watch.seconds
        fault_points.point("after-maps", task.unit)
        return spent

    def _commit_all(self, task: Task, unit: Unit) -> list[CommitRecord]:
        """Does a unit under each of its labels; what was committed."""
        if task.portion is Portion.METRICS:
            fault_points.point("before-measuring", task.unit)
        commits: list[CommitRecord] = []
        failures: list[Exception] = []
        for batch, names in task.commits:
            try:
                commits += self._commit(task, batch, [self.labels[name] for name in names], unit)
            except Exception as error:
                if not task.apart:
                    raise
                failures.append(error)
        if failures:
            raise failures[0]
        return commits

    def _commit(self, task: Task, batch: str | None, labels: Sequence[Label], unit: Unit) -> list[CommitRecord]:
        """Does a unit under the labels that one commit names, unless it is there; what was committed."""
        name = labels[0].commit_name(task.unit) if batch is None else labels[0].batch_commit_name(task.unit)
        if name is None or self.files.is_committed(task, labels[0]):
            return []
        commits = []
        for label in labels:
            kept = self.files.kept(task, label, partial(self._committed.measured, task, label, unit.prepared))
            commits.append(kept or self.do(task, label, unit))
            if batch is not None:
                fault_points.point("after-label", label.commit_name(task.unit))
        self.files.commit(name, batch, commits)
        return commits

    def do(self, task: Task, label: Label, unit: Unit) -> CommitRecord:
        """Does a unit under a label, from its maps to its tables; what is to be committed."""
        prepared = unit.prepared
        watch, advance = self._watch(unit), self._advance(task, label)
        maps = self.source(label).maps(task, label, unit, watch, advance)
        with watch.step("metrics"):
            measured = self._measuring.measure(
                label.settings.metrics, prepared, maps.table, maps.attribution, advance, self._explain(label)
            )
        metrics = metrics_table(label, prepared, maps.table, measured)
        with watch.step("write"):
            name, identity = self.files.publish_metrics(task, label, metrics)
        seconds = {**watch.seconds, "total": sum(watch.seconds.values())}
        return self.files.record(task, label, maps.table, {**maps.files, name: identity}, seconds)

    def _watch(self, unit: Unit) -> Stopwatch:
        """A stopwatch for one label of a unit."""
        watch = Stopwatch(self.device.clock)
        watch.add("decode", unit.decode_seconds)
        return watch

    def _advance(self, task: Task, label: Label) -> Advance:
        """Counts maps of a unit that are computed under a label."""

        def advance(count: int) -> None:
            self._under_way[task.unit, label.method] += count

        return advance

    def _newly_computed(self) -> float:
        """Seconds that the device has computed since this was asked last."""
        with self._asking:
            before, self._told_seconds = self._told_seconds, self.device.busy_seconds
            return self._told_seconds - before

    def _explain(self, label: Label) -> Explain | None:
        """The method of a label, for metrics that call it; None for added metrics: its code may be missing."""
        return partial(self._attributor.explainer, label) if label.evaluation is None else None

    def _tidy(self) -> None:
        """Gives free memory back to the system, at most every `TIDY_SECONDS`."""
        now = time.monotonic()
        if now - self._tidied > TIDY_SECONDS:
            self._tidied = now
            pa.default_memory_pool().release_unused()
            return_memory()


def _steps(commits: Sequence[CommitRecord]) -> dict[str, float]:
    """Step -> seconds of commits together."""
    steps: Counter[str] = Counter()
    for commit in commits:
        steps.update({step: seconds for step, seconds in commit.seconds.items() if step != "total"})
    return dict(steps)


def may_change_network(label: Label) -> bool:
    """Whether a metric of a label may ask for a copy of the network, or its method asks for the plain network."""
    if any({"method", "model"} <= METRICS[name].needs for name in label.settings.metrics):
        return True
    if label.evaluation is not None:
        return False
    method = method_of(label)
    return method.spec.needs_network(method.options)
