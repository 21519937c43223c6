"""A few images of a job, done by a worker as in a run, in a temporary folder: seconds of each step, and bytes.

The network is loaded, optimised and tuned as for the run. A first image pays for what is done once. Then as many
images as fit the time are done in as many units at once as a worker of a run has in hand.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from pipeline.plan.files import empty_bytes
from pipeline.run.directory import RunDirectory
from pipeline.run.labels import Label
from pipeline.run.layout import ATTRIBUTIONS
from pipeline.run.publishing import read_table
from pipeline.shards import manifest as manifests
from pipeline.shards.manifest_table import FILE
from pipeline.shards.samples import ManifestRow, Status, Unit
from pipeline.shards.surveying import Surveyor, survey
from pipeline.storage import open_storage
from pipeline.unit.beside_device import UNITS_ON_A_CPU, UNITS_ON_A_GPU
from pipeline.unit.messages import Task
from pipeline.unit.setup import WorkerSetup, described, set_up

SECONDS = 30.0  # that the timed images should take
MOST_IMAGES = 256
_ROWS = 64  # images of the first shard that a probe may use
_SECONDS_OF = "seconds_"


class ProbeData(NamedTuple):
    """The images of a probe.

    Attributes:
        manifest: the file of a manifest of these images.
        url: of their shard.
        rows: their manifest rows, all ok.
    """

    manifest: bytes
    url: str
    rows: tuple[ManifestRow, ...]


@dataclass(frozen=True)
class LabelCost:
    """What one method costs, for one image.

    Attributes:
        steps: step of a unit -> seconds.
        metrics: metric -> seconds.
        gradients: that were spent on its map.
        table_bytes: table -> compressed bytes of a row.
    """

    steps: Mapping[str, float]
    metrics: Mapping[str, float]
    gradients: float
    table_bytes: Mapping[str, float]


@dataclass(frozen=True)
class Timed:
    """What one worker measured.

    Attributes:
        images: that were timed.
        seconds: they took, by the clock.
        ready: seconds until the worker was ready.
        labels: method label -> its cost.
        worker: where it is and how it computes.
    """

    images: int
    seconds: float
    ready: float
    labels: Mapping[str, LabelCost]
    worker: Mapping[str, object]


def probe_data(shards: Sequence[str], limit: int | None = None, by: Surveyor = survey) -> ProbeData:
    """The first images of a job, of one shard, surveyed by `by`.

    Raises:
        UsageError: no shard has a readable sample.
        OSError: an object store does not answer, or refuses a shard.
    """
    most = min(_ROWS, limit or _ROWS)
    # Not all shards at once: the headers of one may take long.
    manifest = manifests.build(shards[:1], _ROWS, most, by=by, may_be_empty=True)
    if not len(manifest):
        manifest = manifests.build(shards, _ROWS, most, workers=1, by=by)
    rows = [row for unit in manifest.units() for row in manifest.rows(unit.id)]
    good = [row for row in rows if row.status is Status.OK] or rows
    shard = next(record for record in manifest.shards if record.name == good[0].shard)
    with tempfile.TemporaryDirectory(prefix="ssig-plan-") as folder:
        manifest.save(open_storage(folder))
        data = Path(folder, FILE).read_bytes()
    return ProbeData(data, shard.url, tuple(row for row in good if row.shard == shard.name))


class Probe:
    """A worker that does images of a job and keeps nothing.

    Args:
        setup: what the worker is made from; its run is not touched.
        data: the images.
        on_gpu: whether it computes on the first GPU that this process sees.
    """

    def __init__(self, setup: WorkerSetup, data: ProbeData, *, on_gpu: bool) -> None:
        began = time.perf_counter()
        self._folder = tempfile.TemporaryDirectory(prefix="ssig-probe-")
        Path(self._folder.name, FILE).write_bytes(data.manifest)
        self._data = data
        self._labels = dict(setup.labels)
        self._calls = UNITS_ON_A_GPU if on_gpu else UNITS_ON_A_CPU
        self._worker = set_up(replace(setup, run=self._folder.name), on_gpu=on_gpu)
        self._ready = time.perf_counter() - began
        self._start = 0

    def __enter__(self) -> Probe:
        return self

    def __exit__(self, *problem: object) -> None:
        self._worker.close()
        self._folder.cleanup()

    def first(self, seconds: float) -> float:
        """Seconds of an image, from one or two images.

        Args:
            seconds: the second image is left out where the first takes more than a quarter of this.
        """
        for _ in range(2):
            spent = self._worker.process(self._task(1)).seconds
            if spent > seconds / 4:
                break
        return spent

    def timed(self, images: int) -> Timed:
        """Does about so many images, in as many units at once as in a run."""
        size = max(1, min(images // self._calls, len(self._data.rows)))
        tasks = [self._task(size) for _ in range(self._calls)]
        began = time.perf_counter()
        with ThreadPoolExecutor(self._calls) as pool:
            list(pool.map(self._worker.process, tasks))
        spent = time.perf_counter() - began
        costs = {name: self._cost(label, tasks) for name, label in self._labels.items()}
        return Timed(size * self._calls, spent, self._ready, costs, described(self._worker))

    def _task(self, size: int) -> Task:
        """The next images as a unit; the first ones come again after the last."""
        rows = self._data.rows
        start, self._start = self._start, self._start + size
        unit = Unit(0, rows[0].shard, start, start + size).id
        chosen = tuple(replace(rows[(start + k) % len(rows)], unit=unit) for k in range(size))
        return Task(unit, self._data.url, chosen, tuple(self._labels), "probe")

    def _cost(self, label: Label, tasks: Sequence[Task]) -> LabelCost:
        storage = open_storage(self._folder.name)
        images = sum(len(task.rows) for task in tasks)
        units = {task.unit for task in tasks}
        steps: dict[str, float] = {}
        for commit in RunDirectory(storage).commits(label).values():
            if commit.unit in units:
                for name, seconds in commit.seconds.items():
                    # Every label's commit has the seconds of decoding, which is done once for all.
                    times = len(self._labels) if name == "decode" else 1
                    steps[name] = steps.get(name, 0.0) + seconds / images / times
        steps.pop("total", None)
        tables: dict[str, float] = {}
        metrics: dict[str, float] = {}
        gradients = 0.0
        for task in tasks:
            for table, name in label.table_names(task.unit).items():
                content = storage.read(name)
                read = read_table(content, name)
                # The schema, with its descriptions, is as long in a file of 64 rows.
                tables[table] = tables.get(table, 0.0) + (len(content) - empty_bytes(read.schema)) / images
                for column in read.schema.names:
                    if column.startswith(_SECONDS_OF):
                        metric, spent = column.removeprefix(_SECONDS_OF), _sum(read[column].to_pylist())
                        metrics[metric] = metrics.get(metric, 0.0) + spent / images
                if table == ATTRIBUTIONS:
                    gradients += _sum(read["gradient_evaluations"].to_pylist()) / images
        return LabelCost(steps, metrics, gradients, tables)


def images_within(seconds: float, of_one: float, rows: int) -> int:
    """How many images to time: a power of two that takes about so many seconds, from 4 to `MOST_IMAGES`.

    Args:
        seconds: that they may take.
        of_one: what an image took alone, which is more than it takes among others.
        rows: images at hand; each unit has some of its own or all.
    """
    fitting = max(4, min(MOST_IMAGES, int(seconds / max(of_one, 1e-6)), UNITS_ON_A_GPU * rows))
    return 1 << (fitting.bit_length() - 1)


def _sum(values: Sequence[float | None]) -> float:
    return sum(value or 0.0 for value in values)
