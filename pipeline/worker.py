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
from datetime import UTC, datetime
from typing import cast

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

import ssig.methods
import ssig.metrics  # noqa: F401  (fills the registries)
from pipeline.commit import Commit, write_commit
from pipeline.evaluate import evaluate
from pipeline.names import commit_name, table_name
from pipeline.plan import Label
from pipeline.prepare import Prepared, prepare
from pipeline.records import ManifestRow, Status
from pipeline.replicas import BaselineScores
from pipeline.shards import read_unit
from pipeline.storage import Storage, open_storage
from pipeline.tables import Measured, attributions_table, decode_maps, metrics_table
from pipeline.tasks import Done, Task
from pipeline.writer import check_table, identity_of, publish_table, read_table
from ssig.api import concatenate, method_job
from ssig.device import Device
from ssig.engine import Job, groups
from ssig.models import Model
from ssig.options import build
from ssig.randomness import stream
from ssig.registry import METHODS
from ssig.replica import Replica
from ssig.types import Attribution

# Told how many maps have just been attributed or measured.
Told = Callable[[int], None]


def silent(count: int) -> None:
    """Tells nobody."""


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
        self.storage: Storage = open_storage(run)
        self.seed = seed
        self.device = Device(replica)
        self.baselines = BaselineScores(self.device, self.model)
        self._under_way: Counter[tuple[str, str]] = Counter()

    def process(self, task: Task) -> Done:
        """Commits a task's unit under each of its labels.

        Raises:
            OSError: the shard cannot be read or the run cannot be written; the unit can be tried again.
            Exception: what the network raised; some sample of the unit is to blame.
        """
        started = time.perf_counter()
        reading = self.device.clock()
        prepared = self._prepared(task)
        decoded = self.device.clock() - reading
        statuses = {}
        for name in task.labels:
            label = self.labels[name]
            if self.storage.entry(commit_name(label.model, label.method, task.unit)) is None:
                statuses[name] = self._commit(task, label, prepared, decoded)
        for name in task.labels:
            self._under_way.pop((task.unit, name), None)
        return Done(task.unit, task.attempt, statuses, time.perf_counter() - started)

    @property
    def under_way(self) -> float:
        """How many maps are computed but not committed; attribution and metrics count half each."""
        return sum(list(self._under_way.values())) / 2

    def probe(self, task: Task) -> None:
        """Does a task's computation and writes nothing: dies or raises if one of its samples is poison."""
        prepared = self._prepared(task)
        for name in task.labels:
            label = self.labels[name]
            attributed = self._attribute(label, prepared)
            self._measure(label, prepared, attributions_table(label, prepared, attributed), attributed)

    def _prepared(self, task: Task) -> Prepared:
        model = self.labels[task.labels[0]].config["model"]
        by_label = model["target"] == "label"
        samples = read_unit(task.url, task.rows, needs_label=by_label, classes=model["classes"] if by_label else None)
        prepared = prepare(samples, self.model, model["target"], task.poison)
        prepared.predict(self.device.forward)
        return prepared

    def _commit(self, task: Task, label: Label, prepared: Prepared, decoded: float) -> dict[str, int]:
        seconds: dict[str, float] = {"decode": decoded}

        def told(count: int) -> None:
            self._under_way[task.unit, label.method] += count

        attributions, attributed, files = self._attributions(task, label, prepared, seconds, told)
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
        self, task: Task, label: Label, prepared: Prepared, seconds: dict[str, float], told: Told
    ) -> tuple[pa.Table, Attribution | None, dict[str, Mapping[str, object]]]:
        """The published attributions of a unit, the result they came from if it is ours, and the file's identity."""
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
        with self._timed(seconds, "attribute"):
            attributed = self._attribute(label, prepared, told)
        table = attributions_table(label, prepared, attributed)
        with self._timed(seconds, "write"):
            first, identity = publish_table(self.storage, name, table, task.rows, task.attempt)
            if not first:
                table = read_table(self.storage.read(name), name)
        return table, attributed, {name: identity}

    def _attribute(self, label: Label, prepared: Prepared, told: Told = silent) -> Attribution | None:
        """The attribution of a unit's ok samples, in order; None where there are none."""
        if not prepared.ok:
            return None
        spec = METHODS[label.config["method"]["name"]]
        options = build(spec.options, label.config["method"]["options"], where=f"methods.{spec.name}")
        rows = [prepared.outcomes[position].row for position in prepared.ok]
        score = options.score or label.config["model"]["score"]
        image_scores = prepared.scores(score)

        def jobs() -> Iterator[Job[None]]:
            for span, budget in groups(len(rows), self.device.replica.micro_batch):
                yield method_job(
                    None,
                    spec,
                    options,
                    prepared.images[span].to(self.device.replica.device),
                    prepared.targets[span],
                    tuple(stream(self.seed, row.shard, row.key, spec.name) for row in rows[span]),
                    mean=self.model.mean,
                    score=score,
                    budget=budget,
                    scores=image_scores[span],
                    baseline_scores=self.baselines(options.baseline, score, prepared.targets[span]),
                )

        parts = self.device.run(jobs(), lambda result: told(len(result)))
        return concatenate([_on_cpu(part) for part in parts])

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
        return evaluate(self.device, self.model, prepared, kept, maps, label.config["metrics"], scalars, told)

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


def _on_cpu(result: Attribution) -> Attribution:
    """A result moved off the device, so that a unit's results do not fill it."""

    def moved(tensor: Tensor | None) -> Tensor | None:
        return None if tensor is None else tensor.cpu()

    return Attribution(
        values=result.values.cpu(),
        map=result.map.cpu(),
        score=result.score.cpu(),
        baseline_score=result.baseline_score.cpu(),
        completeness_residual=moved(result.completeness_residual),
        standard_error=moved(result.standard_error),
        gradient_evaluations=result.gradient_evaluations,
    )
