"""A run made of real files: tar shards, Parquet through the schemas, commits, and what must not be counted."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from pipeline.report import build_report
from pipeline.run.schema import SHARED, attributions_schema, metrics_schema
from pipeline.shards.manifest_table import MANIFEST
from pipeline.storage.fields import SCHEMA_VERSION
from ssig.options import as_dict
from ssig.registry import METRICS

METRIC_NAMES = ("insertion", "deletion", "insertion_deletion_gap", "roc_auc", "pointing", "completeness")
CATEGORIES = ["tench", "<b>goldfish</b>", "great white shark"]
MODEL = "small & quick"


@dataclass(frozen=True)
class Sample:
    key: str
    jpeg: bytes
    label: int | None
    boxes: tuple[tuple[float, float, float, float], ...] = ()
    status: str = "ok"
    error: str | None = None


@dataclass(frozen=True)
class Method:
    """`strength` shifts the method's insertion curves; `signed` maps have both signs."""

    label: str
    name: str
    strength: float
    signed: bool
    random: bool


METHODS = (
    Method("ssig", "ssig", 0.0, signed=False, random=True),
    Method("ig/50", "ig", 0.12, signed=True, random=False),
)


@dataclass
class FakeRun:
    """Where the run is, and the truth about it."""

    path: Path
    samples: list[Sample]
    values: dict[str, dict[str, np.ndarray]] = field(default_factory=dict)
    maps: dict[str, np.ndarray] = field(default_factory=dict)

    @property
    def ok(self) -> np.ndarray:
        return np.array([sample.status == "ok" for sample in self.samples])


def photographs(count: int, size: tuple[int, int] = (60, 48), seed: int = 0) -> list[Sample]:
    """`count` images of a bright rectangle, its box, and a label; sample 3 is damaged, sample 5 has no label."""
    generator = np.random.default_rng(seed)
    samples = []
    for number in range(count):
        pixels = generator.integers(0, 90, (size[1], size[0], 3)).astype(np.uint8)
        left, top = int(generator.integers(5, 25)), int(generator.integers(2, 20))
        pixels[top : top + 20, left : left + 22] += np.uint8(120)
        target = io.BytesIO()
        Image.fromarray(pixels).save(target, format="JPEG")
        samples.append(
            Sample(f"photo_{number:04d}", target.getvalue(), number % 3, ((left, top, left + 22.0, top + 20.0),))
        )
    broken, unlabelled = samples[3], samples[5]
    samples[3] = Sample(broken.key, b"not a photograph", broken.label, (), "undecodable", "<i>not</i> an image")
    samples[5] = Sample(unlabelled.key, unlabelled.jpeg, None, (), "no_label", "no cls member")
    return samples


def write_run(
    folder: Path,
    samples: list[Sample] | None = None,
    methods: Iterable[Method] = METHODS,
    *,
    shards: int = 2,
    unit_size: int = 8,
    side: int = 16,
    categories: list[str] = CATEGORIES,
    draw: Callable[[Sample, Method, int], np.ndarray] | None = None,
) -> FakeRun:
    """Writes a run of all `samples` under `folder`/run, with its shards beside it."""
    samples = photographs(24) if samples is None else samples
    fake = FakeRun(folder / "run", samples)
    slices = np.array_split(np.arange(len(samples)), shards)
    described = [_shard(folder, number, [samples[i] for i in part]) for number, part in enumerate(slices)]
    rows = [
        {**row, "unit": f"{number:06d}-{start:06d}-{min(start + unit_size, len(part)):06d}"}
        for number, part in enumerate(slices)
        for row in described[number][1]
        for start in (row["index"] // unit_size * unit_size,)
    ]
    fake.path.mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(rows, MANIFEST), fake.path / "manifest.parquet")
    dataset = {
        "shards": [shard for shard, _ in described],
        "samples": len(samples),
        "limit": None,
        "manifest_hash": "m",
    }
    versions = {"ssig": "0", "python": "3.11", "torch": "2"}
    _json(
        fake.path / "run.json",
        {
            "schema_version": SCHEMA_VERSION,
            "dataset": dataset,
            "seed": 7,
            "unit_size": unit_size,
            "created": "2025-01-01",
            "versions": versions,
        },
    )
    for position, method in enumerate(methods):
        _method(fake, method, position, rows, side, categories, draw)
    _json(
        fake.path / "quarantine" / "one.json",
        {
            "shard": "shard-0.tar",
            "kind": "truncated",
            "key": None,
            "offset": 512,
            "reason": "cut | header",
            "attempts": 1,
        },
    )
    return fake


def _shard(folder: Path, number: int, samples: list[Sample]) -> tuple[dict, list[dict]]:
    path = folder / f"shard-{number}.tar"
    contents = []
    for sample in samples:
        files = {"jpg": sample.jpeg, "json": json.dumps({"wnid": "n0", "boxes": sample.boxes}).encode()}
        if sample.label is not None:
            files["cls"] = str(sample.label).encode()
        contents.append((sample, files))
    with tarfile.open(path, "w") as tar:
        for sample, files in contents:
            for extension, data in files.items():
                info = tarfile.TarInfo(f"{sample.key}.{extension}")
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    with tarfile.open(path) as tar:
        members = {info.name: (info.offset_data, info.size) for info in tar}
    rows = [
        {
            "shard": path.name,
            "index": index,
            "key": sample.key,
            "label": sample.label,
            "status": "ok",
            "error": None,
            "members": [
                {"extension": name, "offset": members[f"{sample.key}.{name}"][0], "size": len(files[name])}
                for name in files
            ],
        }
        for index, (sample, files) in enumerate(contents)
    ]
    data = path.read_bytes()
    digest = hashlib.sha256(data).hexdigest()
    return {"name": path.name, "url": str(path), "size": len(data), "version": "1", "sha256": digest}, rows


def _method(
    fake: FakeRun,
    method: Method,
    position: int,
    rows: list[dict],
    side: int,
    categories: list[str],
    draw: Callable | None,
) -> None:
    generator = np.random.default_rng([11, position])
    metrics = [METRICS[name] for name in METRIC_NAMES]
    difficulty = np.random.default_rng(5).normal(0, 0.1, len(rows))
    fake.maps[method.label] = np.stack(
        [
            (draw or _draw)(sample, method, side).astype(np.float32)
            if sample.status == "ok"
            else np.zeros((side, side), np.float32)
            for sample in fake.samples
        ]
    )
    fake.values[method.label] = _values(method, fake.ok, difficulty, generator)
    label = f"model={quote(MODEL, safe='')}/method={quote(method.label, safe='')}"
    fingerprint = f"print-{method.label}"
    model = {
        **{"name": "efficientnet-tiny", "weights_hash": "0123456789abcdef", "precision": "fp32", "score": "logit"},
        **{"target": "label", "weights": None, "input_size": [side, side], "geometry": {"crop": side}, "classes": 3},
    }
    options = {"readout": "sum" if method.signed else "sum-abs", "baseline": "mean", "samples": 32}
    config = {
        **{"model_label": MODEL, "method_label": method.label, "fingerprint": fingerprint, "model": model},
        "categories": categories,
        "method": {
            **{"name": method.name, "options": options, "paper": "A. Author & B. Author 2025", "equation": "E[|g|]"},
            **{"evaluations": 32, "complete": not method.random},
        },
        "metrics": {metric.name: as_dict(metric.options()) for metric in metrics},
        "position": position,
        **{"maps": "float16", "seed": 7, "machine": {"cpu": "a CPU", "cores": 2, "gpu": None}},
    }
    _json(fake.path / "config" / f"{quote(MODEL, safe='')}--{position}.json", config)
    for unit in dict.fromkeys(row["unit"] for row in rows):
        chosen = [number for number, row in enumerate(rows) if row["unit"] == unit]
        files = _unit(fake, method, label, rows, chosen, side, metrics)
        statuses: dict[str, int] = {}
        for number in chosen:
            statuses[fake.samples[number].status] = statuses.get(fake.samples[number].status, 0) + 1
        seconds = {"decode": 0.1, "attribute": 2.0 + position, "metrics": 1.0, "write": 0.1, "total": 3.2 + position}
        commit = {
            **{"unit": unit, "attempt": "a", "fingerprint": fingerprint, "rows": len(chosen), "statuses": statuses},
            **{"files": files, "seconds": seconds, "gradient_evaluations": 32 * len(chosen), "finished": "now"},
        }
        _json(fake.path / "commits" / label / f"{unit}.json", commit)
    _strays(fake.path, label, fingerprint, unit)


def _draw(sample: Sample, method: Method, side: int) -> np.ndarray:
    generator = np.random.default_rng(int(sample.key[-4:]) + (1000 if method.signed else 0))
    values = generator.normal(size=(side, side))
    return values if method.signed else np.abs(values)


def _values(
    method: Method, ok: np.ndarray, difficulty: np.ndarray, generator: np.random.Generator
) -> dict[str, np.ndarray]:
    count = len(ok)
    insertion = np.clip(0.5 + method.strength + difficulty + generator.normal(0, 0.02, count), 0, 1)
    deletion = np.clip(0.3 - method.strength / 2 + difficulty / 2 + generator.normal(0, 0.05, count), 0, 1)
    roc_auc = np.clip(0.75 + generator.normal(0, 0.08, count), 0, 1)
    roc_auc[np.flatnonzero(ok)[:2]] = np.nan
    residual = np.abs(generator.normal(0, 0.3, count)) if not method.random else np.full(count, np.nan)
    values = {
        "insertion": insertion,
        "insertion_abs": insertion - 0.05 * method.signed,
        "deletion": deletion,
        "deletion_abs": deletion + 0.05 * method.signed,
        "insertion_deletion_gap": insertion - deletion,
        "insertion_deletion_gap_abs": insertion - deletion - 0.1 * method.signed,
        "roc_auc": roc_auc,
        "pointing": (generator.random(count) < 0.7).astype(float),
        "completeness": residual,
        "completeness_relative": residual / 8,
    }
    return {name: np.where(ok, column, np.nan) for name, column in values.items()}


def _unit(
    fake: FakeRun, method: Method, label: str, rows: list[dict], chosen: list[int], side: int, metrics: list
) -> dict[str, dict]:
    roc_auc = fake.values[method.label]["roc_auc"]
    common = [_common(fake.samples[number], rows[number], method, np.isnan(roc_auc[number])) for number in chosen]
    ok = np.array([row["status"] == "ok" for row in common])
    maps = fake.maps[method.label][chosen]
    scale = np.abs(maps).max(axis=(1, 2))
    stored = (maps / np.where(scale > 0, scale, 1)[:, None, None]).astype(np.float16)
    schema = attributions_schema((3, side, side), "float16", channels=False)
    storage = pa.array(
        [row.ravel() if good else None for row, good in zip(stored, ok, strict=True)],
        pa.list_(pa.float16(), side * side),
    )
    residual = fake.values[method.label]["completeness"][chosen]
    columns = {
        "map": pa.ExtensionArray.from_storage(schema.field("map").type, storage),
        "map_scale": _nullable(np.where(ok, scale, np.nan)),
        "score": _nullable(np.where(ok, 9.0, np.nan)),
        "baseline_score": _nullable(np.where(ok, 1.0, np.nan)),
        "standard_error_mean": _nullable(np.where(ok & method.random, 0.2, np.nan)),
        "reliability": _nullable(np.where(ok & method.random, 0.9, np.nan)),
        "readout_bias": _nullable(np.where(ok & method.random, 0.1, np.nan)),
        "completeness_residual": _nullable(residual),
        "gradient_evaluations": pa.array([32 if good else None for good in ok], pa.int32()),
    }
    attributions = _table(common, columns, schema)
    values = {name: _nullable(column[chosen]) for name, column in fake.values[method.label].items()}
    values |= {name: columns[source] for name, source in SHARED.items()}
    for metric in metrics:
        values[f"seconds_{metric.name}"] = _nullable(np.where(ok, 0.01, np.nan))
    for name in ("insertion", "deletion"):
        values[f"{name}_curve"] = _curves(fake.values[method.label][name][chosen], name == "insertion")
        values[f"{name}_abs_curve"] = values[f"{name}_curve"]
    names = {"attributions": attributions, "metrics": _table(common, values, metrics_schema(metrics))}
    files = {}
    for kind, table in names.items():
        name = f"{kind}/{label}/{rows[chosen[0]]['unit']}.parquet"
        (fake.path / name).parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table, fake.path / name)
        data = (fake.path / name).read_bytes()
        files[name] = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
    return files


def _common(sample: Sample, row: dict, method: Method, boxless: bool) -> dict:
    ok = sample.status == "ok"
    width, height = Image.open(io.BytesIO(sample.jpeg)).size if ok else (None, None)
    side = min(width, height) if ok else None
    residual = "method has no completeness residual"
    excluded = dict.fromkeys(("completeness", "completeness_relative"), residual) if method.random else {}
    excluded |= {"roc_auc": "object fills the crop"} if boxless else {}
    return {
        **{name: row[name] for name in ("unit", "shard", "index", "key", "label")},
        "predicted": sample.label + (row["index"] % 4 == 0) if ok else None,
        "target": sample.label if ok else None,
        "probability": 0.8 if ok else None,
        "status": sample.status,
        "error": sample.error,
        "schema_version": SCHEMA_VERSION,
        "excluded": list(excluded.items()) if ok else None,
        "width": width,
        "height": height,
        "crop": [(width - side) / 2, (height - side) / 2, (width + side) / 2, (height + side) / 2] if ok else None,
    }


def _table(common: list[dict], columns: dict[str, pa.Array], schema: pa.Schema) -> pa.Table:
    shared = pa.Table.from_pylist(common, pa.schema([field for field in schema if field.name not in columns]))
    return pa.table([columns[name] if name in columns else shared[name] for name in schema.names], schema=schema)


def _nullable(values: np.ndarray) -> pa.Array:
    return pa.array(values.astype(np.float32), pa.float32(), mask=~np.isfinite(values))


def _curves(areas: np.ndarray, rising: bool) -> pa.Array:
    axis = np.linspace(0, 1, 29)
    curves = []
    for area in areas:
        exponent = 1 / np.clip(area, 0.05, 0.95) - 1
        curves.append((axis if rising else 1 - axis) ** exponent if np.isfinite(area) else None)
    return pa.array(curves, pa.list_(pa.float32()))


def _strays(run: Path, label: str, fingerprint: str, unit: str) -> None:
    """Files that a killed attempt left: a metrics file without a commit, and a commit of another configuration."""
    data = (run / f"metrics/{label}/{unit}.parquet").read_bytes()
    (run / f"metrics/{label}/000009-000000-000008.parquet").write_bytes(data)
    commit = json.loads((run / f"commits/{label}/{unit}.json").read_text())
    _json(run / f"commits/{label}/000008-000000-000008.json", {**commit, "fingerprint": f"old-{fingerprint}"})


def _json(path: Path, record: dict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record))


@pytest.fixture
def fake_run(tmp_path: Path) -> FakeRun:
    """24 images in two shards under two methods; two of the images failed."""
    return write_run(tmp_path)


@pytest.fixture
def run_of(tmp_path: Path) -> Callable[..., FakeRun]:
    """`run_of(*names)`: a run of these methods, each under its name, the later the better."""

    def make(*names: str) -> FakeRun:
        return write_run(
            tmp_path, methods=[Method(name, name, 0.1 * n, signed=False, random=False) for n, name in enumerate(names)]
        )

    return make


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> FakeRun:
    """The same run with its report, for tests that only read it."""
    fake = write_run(tmp_path_factory.mktemp("finished"))
    build_report(str(fake.path))
    return fake


@pytest.fixture(scope="session")
def wide_run(tmp_path_factory: pytest.TempPathFactory) -> FakeRun:
    """The report of nine methods, two of them controls, on 42 images of three classes."""
    names = ("ssig", "ssig-signed", "ig", "gradient", "smoothgrad", "guided-ig", "blur-ig", "random", "sobel")
    methods = [
        Method(name, name, 0.02 * number, signed=number % 2 == 1, random=False) for number, name in enumerate(names)
    ]
    fake = write_run(tmp_path_factory.mktemp("wide"), photographs(42), methods)
    build_report(str(fake.path))
    return fake
