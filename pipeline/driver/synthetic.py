"""Runs of any size in which nothing was computed: every file that a driver and its workers write, with random numbers.

They can be audited, opened and reported like others, so that readers of runs can be tested at the size of a whole data
set. All shards are one small file under many names.
"""

from __future__ import annotations

import io
import uuid
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from PIL import Image

from pipeline.driver.admission import record_labels, record_run
from pipeline.driver.frozen import label_config
from pipeline.driver.listing import list_all
from pipeline.job.configuration import Job, load_job
from pipeline.run.commit import write_batch_commit
from pipeline.run.directory import RunDirectory
from pipeline.run.labels import Label
from pipeline.run.layout import ATTRIBUTIONS
from pipeline.run.publishing import publish_table
from pipeline.run.records import CommitRecord
from pipeline.run.revisions import machine
from pipeline.run.schema import attributions_schema, metrics_schema
from pipeline.shards.pack import write_tar
from pipeline.shards.samples import ManifestRow, Status
from pipeline.storage import open_storage
from pipeline.storage.fields import SCHEMA_VERSION
from ssig.registry import METRICS

CLASSES = 10
IMAGES_PER_SHARD = 1000
CURVE_POINTS = 11
_WRITERS = 8


@dataclass(frozen=True)
class SyntheticRun:
    """What a synthetic run should hold.

    Attributes:
        images: how many.
        methods, metrics: names of methods, each a label of its own, and of the metrics of each.
        maps: how maps are stored; the least is ``none``.
        side: height and width of the maps in pixels.
        unit_size: the most images of a unit.
        seed: of the numbers.
    """

    images: int
    methods: Sequence[str] = ("ig", "gradient")
    metrics: Sequence[str] = ("insertion", "deletion", "roc_auc")
    maps: Literal["none", "float16", "float32"] = "none"
    side: int = 8
    unit_size: int = 64
    seed: int = 0


def write_synthetic_run(folder: Path, plan: SyntheticRun) -> RunDirectory:
    """Writes the run into `folder`/run, and its shards into `folder`/shards.

    Raises:
        UsageError: an unknown method or metric, or `folder` holds a run.
    """
    job = load_job(
        None,
        {
            "dataset.shards": list(_write_shards(folder / "shards", plan)),
            "dataset.limit": plan.images,
            "model.name": "synthetic",
            "methods": list(plan.methods),
            "metrics": list(plan.metrics),
            "output.path": str(folder / "run"),
            "output.maps": plan.maps,
            "unit_size": plan.unit_size,
            "seed": plan.seed,
        },
    )
    directory = RunDirectory(open_storage(job.output.path))
    data = record_run(job, directory, job.dataset.shards)
    manifest = list_all(directory)
    labels = _labels(job, data.known_by, plan.side)
    record_labels(directory, labels)
    units = ((unit.id, manifest.rows(unit.id)) for unit in manifest.units())
    with ThreadPoolExecutor(_WRITERS) as pool:
        for number, (unit, rows) in enumerate(units):
            write = partial(_write_unit, directory, unit, rows, (plan.seed, number))
            commits = list(pool.map(write, labels))
            name, batch = labels[0].batch_commit_name(unit), labels[0].batch
            if name is not None and batch is not None:
                write_batch_commit(directory.storage, name, batch, commits)
    directory.refresh()
    return directory


def _write_shards(folder: Path, plan: SyntheticRun) -> Iterator[str]:
    """The paths of shards that hold at least the images of the plan: one shard under many names."""
    folder.mkdir(parents=True, exist_ok=True)
    size = min(IMAGES_PER_SHARD, plan.images)
    first = folder / "000000.tar"
    with first.open("wb") as file:
        write_tar(file, _members(size, plan.side))
    yield str(first)
    for number in range(1, -(-plan.images // size)):
        shard = folder / f"{number:06d}.tar"
        shard.hardlink_to(first)
        yield str(shard)


def _members(count: int, side: int) -> Iterator[tuple[str, bytes]]:
    buffer = io.BytesIO()
    Image.new("RGB", (side, side), (90, 120, 60)).save(buffer, "JPEG")
    for number in range(count):
        yield f"{number:08d}.jpg", buffer.getvalue()
        yield f"{number:08d}.cls", str(number % CLASSES).encode()


def _labels(job: Job, data: Mapping[str, Any], side: int) -> list[Label]:
    size = [side, side]
    model = {
        "name": job.model.name,
        "weights": None,
        "weights_hash": "0" * 64,
        "precision": "fp32",
        "input_size": size,
        "geometry": {"resize": size, "crop": size, "interpolation": "bilinear", "antialias": True, "mode": "center"},
        "mean": [0.5] * 3,
        "std": [0.25] * 3,
        "stated": {},
        "classes": CLASSES,
    }
    recorded = {
        "batch": uuid.uuid4().hex[:12],
        "input_source": "synthetic",
        "warnings": [],
        "categories": [f"class {number}" for number in range(CLASSES)],
        "machine": dict(machine()),
    }
    return [
        label_config(job, choice, data, model, {"position": position, **recorded})
        for position, choice in enumerate(job.methods)
    ]


def _write_unit(
    directory: RunDirectory, unit: str, rows: Sequence[ManifestRow], seed: tuple[int, int], label: Label
) -> CommitRecord:
    """Publishes the tables of one unit under one label, as a worker does; what is to be committed."""
    generator = np.random.default_rng([*seed, label.settings.position])
    attempt = "synthetic"
    columns = _identity_columns(rows, label)
    files = {}
    for table, name in label.table_names(unit).items():
        content = _table(_schema(table, label), columns, generator)
        _, files[name] = publish_table(directory.storage, name, content, rows, attempt)
    return CommitRecord(
        unit=unit,
        attempt=attempt,
        fingerprint=label.fingerprint,
        rows=len(rows),
        statuses={Status.OK.value: len(rows)},
        files=files,
        seconds={"decode": 0.001, "attribute": 0.01, "metrics": 0.01, "write": 0.001, "total": 0.022},
        gradient_evaluations=len(rows),
        finished="2026-01-01T00:00:00.000+00:00",
        model=label.model,
        method=label.method,
    )


def _schema(table: str, label: Label) -> pa.Schema:
    settings = label.settings
    if table != ATTRIBUTIONS:
        return metrics_schema([METRICS[name] for name in settings.columns])
    height, width = settings.model.input_size
    return attributions_schema((3, height, width), settings.maps, settings.channels)


def _identity_columns(rows: Sequence[ManifestRow], label: Label) -> dict[str, list[Any]]:
    """The columns that do not hold random numbers."""
    count, side = len(rows), float(label.settings.model.input_size[0])
    classes = [row.label for row in rows]
    return {
        "unit": [row.unit for row in rows],
        "shard": [row.shard for row in rows],
        "index": [row.index for row in rows],
        "key": [row.key for row in rows],
        "label": classes,
        "predicted": classes,
        "target": classes,
        "class_name": [label.settings.categories[number or 0] for number in classes],
        "status": [Status.OK.value] * count,
        "error": [None] * count,
        "schema_version": [SCHEMA_VERSION] * count,
        "excluded": [[]] * count,
        "width": [int(side)] * count,
        "height": [int(side)] * count,
        "crop": [[0.0, 0.0, side, side]] * count,
        "gradient_evaluations": [1] * count,
    }


def _table(schema: pa.Schema, columns: dict[str, list[Any]], generator: np.random.Generator) -> pa.Table:
    """A table with the given columns; all others are random numbers in [0, 1)."""
    count = len(columns["unit"])
    arrays = []
    for field in schema:
        if field.name in columns:
            arrays.append(pa.array(columns[field.name], field.type))
        elif isinstance(field.type, pa.FixedShapeTensorType):
            shape = (count, int(np.prod(field.type.shape)))
            values = generator.random(shape, dtype=np.float32).astype(field.type.value_type.to_pandas_dtype())
            stored = pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), shape[1])
            arrays.append(pa.ExtensionArray.from_storage(field.type, stored))
        elif pa.types.is_list(field.type):
            arrays.append(pa.array(list(generator.random((count, CURVE_POINTS))), field.type))
        else:
            arrays.append(pa.array(generator.random(count), pa.float64()).cast(field.type))
    return pa.table(arrays, schema=schema)
