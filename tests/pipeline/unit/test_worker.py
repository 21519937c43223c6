"""A unit's life without a cluster: rows for every sample, maps as stored, attempts that meet each other."""

from __future__ import annotations

import sys
import uuid
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from pipeline.checks.audit import audit
from pipeline.run.deletion import forget_failed
from pipeline.run.directory import RunDirectory
from pipeline.run.layout import table_name
from pipeline.run.maps import decode_maps, quantised
from pipeline.run.publishing import DamagedTableError
from pipeline.shards import manifest as manifests
from pipeline.shards import reading
from pipeline.shards.samples import ManifestRow, Poison
from pipeline.storage import open_storage
from pipeline.unit.measuring import column_values
from pipeline.unit.messages import Task
from pipeline.unit.stopwatch import Stopwatch
from pipeline.unit.tables import Measured, merged
from pipeline.unit.worker import Worker
from ssig import attribute, measure
from ssig.acceleration.ready_replica import ready_replica
from ssig.engine import jobs
from ssig.engine.micro_batches import Job
from ssig.models import load_model
from ssig.registry import MethodSpec
from ssig.types import Group, Steps

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "support"))

from tampering import commit_of

Make = Callable[..., Any]
WorkOff = Callable[..., Path]


def rows_of(run: Path, table: str, columns: str = "*") -> list[dict[str, Any]]:
    query = f"select {columns} from read_parquet('{run}/{table}/**/*.parquet') order by method, shard, index"
    return duckdb.sql(query).to_arrow_table().to_pylist()


UNIT = "000000-000000-000004"


def begin(run: Path, poison: dict[int, Poison] | None = None) -> tuple[Worker, Task]:
    """A worker of a run, and its first unit under all labels as a task."""
    storage = open_storage(str(run))
    manifest = manifests.load(storage)
    directory = RunDirectory(storage)
    labels = {label.method: label for label in directory.labels}
    worker = Worker(ready_replica(load_model("networks:tiny"), micro_batch=4), labels, str(run), 0)
    rows = tuple(manifest.rows(UNIT))
    task = Task(UNIT, manifest.shards[0].url, rows, ("ssig", "ig"), uuid.uuid4().hex, poison or {})
    return worker, replace(task, batches=directory.batches(directory.labels))


def test_every_sample_has_a_row_in_both_tables(make_shard: Make, make_job: Make, work_off: WorkOff) -> None:
    run = work_off(make_job(make_shard(count=6)))
    for table in ("attributions", "metrics"):
        rows = rows_of(run, table, "method, key, status, error, probability, target, label")
        assert [row["method"] for row in rows] == ["ig"] * 6 + ["ssig"] * 6
        assert all(row["status"] == "ok" and row["error"] is None for row in rows)
        assert all(0 <= row["probability"] <= 1 and row["target"] == row["label"] for row in rows)
    measured = rows_of(
        run, "metrics", "method, insertion, insertion_curve, roc_auc, completeness, excluded, seconds_insertion"
    )
    assert all(len(row["insertion_curve"]) == 5 and row["seconds_insertion"] > 0 for row in measured)
    assert all((row["completeness"] is None) == (row["method"] == "ssig") for row in measured)
    assert all("completeness" in dict(row["excluded"]) for row in measured if row["method"] == "ssig")
    assert audit(str(run)).problems == []


def test_stored_maps_are_those_of_the_python_surface(make_shard: Make, make_job: Make, work_off: WorkOff) -> None:
    shard = make_shard(count=3)
    run = work_off(make_job(shard, output__maps="float32"))
    model = load_model("networks:tiny")
    table = pq.read_table(run / table_name("attributions", "networks:tiny", "ssig", "000000-000000-000003"))
    from pipeline.shards.reading import read_unit

    rows = manifests.load(open_storage(str(run))).rows("000000-000000-000003")
    images = torch.stack([model.preprocess(sample.image) for sample in read_unit(str(shard), rows)])  # type: ignore[arg-type]
    keys = [(row.shard, row.key) for row in rows]
    expected = attribute(model, images, [0, 1, 2], "ssig", samples=4, keys=keys).map
    assert np.abs(decode_maps(table) - expected.numpy()).max() < 1e-6


def test_a_unit_whose_sums_do_not_fit_is_attributed_in_parts(
    make_shard: Make, make_job: Make, work_off: WorkOff, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shard = make_shard(count=6)
    expected = work_off(make_job(shard, output__maps="float32"))
    halved: list[int] = []

    def full(steps: Steps) -> Steps:
        yield next(steps)
        raise torch.OutOfMemoryError("the sums of two images do not fit")

    def method_job(tag: None, spec: MethodSpec, options: Any, group: Group) -> Job[None]:
        job = jobs.method_job(tag, spec, options, group)
        if len(group) == 1:
            return job
        halved.append(len(group))
        return replace(job, steps=full(job.steps))

    monkeypatch.setattr("pipeline.unit.attributor.method_job", method_job)
    found = work_off(make_job(shard, output__maps="float32", output__path=str(tmp_path / "parts")))
    assert halved
    for label in ("ssig", "ig"):
        name = table_name("attributions", "networks:tiny", label, UNIT)
        ours, theirs = (pq.read_table(run / name) for run in (found, expected))
        np.testing.assert_allclose(decode_maps(ours), decode_maps(theirs), rtol=1e-4, atol=1e-7)
        assert set(ours["status"].to_pylist()) == {"ok"}


def test_float16_maps_do_not_underflow() -> None:
    values = np.random.default_rng(0).random((3, 4, 5)).astype(np.float32) * np.array([1e-9, 1, 1e6])[:, None, None]
    values = np.concatenate([values, np.zeros((1, 4, 5))]).astype(np.float32)
    stored, scale = quantised(values, "float16")
    assert stored.dtype == np.float16
    back = stored.astype(np.float32) * scale[:, None, None]
    for original, copy in zip(values[:3], back[:3], strict=True):
        assert np.abs(copy - original).max() / np.abs(original).max() < 5e-4
    assert np.array_equal(back[3], values[3])


@pytest.mark.parametrize("maps", ["none", "float16", "float32"])
def test_maps_and_channels_are_stored_as_asked(make_shard: Make, make_job: Make, work_off: WorkOff, maps: str) -> None:
    run = work_off(make_job(make_shard(count=2), output__maps=maps, output__channels=True))
    schema = pq.read_schema(next((run / "attributions").rglob("*.parquet")))
    assert ("map" in schema.names) == ("values" in schema.names) == (maps != "none")
    assert audit(str(run)).ok
    assert all(row["insertion"] is not None for row in rows_of(run, "metrics"))


@pytest.mark.parametrize("maps", ["none", "float32"])
def test_metrics_of_channel_values_see_them_stored_or_not(
    make_shard: Make, make_job: Make, work_off: WorkOff, maps: str
) -> None:
    shard = make_shard(count=3)
    metrics = [{"name": "diffid_channels", "preset": "sig"}]
    run = work_off(make_job(shard, output__maps=maps, output__channels=True, metrics=metrics))
    found = rows_of(run, "metrics", "method, diffid_channels_abs, diffid_channels_abs_curve")
    model = load_model("networks:tiny")
    rows = manifests.load(open_storage(str(run))).rows("000000-000000-000003")
    images = torch.stack([model.preprocess(sample.image) for sample in reading.read_unit(str(shard), rows)])  # type: ignore[arg-type]
    maps_of_ig = attribute(model, images, [0, 1, 2], "ig", steps=4)
    expected = measure(model, images, maps_of_ig, "diffid_channels:preset=sig")
    curves = np.array([row["diffid_channels_abs_curve"] for row in found if row["method"] == "ig"])
    # The maps are computed twice, in other micro-batches: of 27 decisions rounding may turn one or two.
    assert (curves != expected.curves["diffid_channels_abs_curve"]).sum() <= 2
    assert all(row["diffid_channels_abs"] is not None for row in found)


def test_unit_sizes_give_the_same_rows(make_shard: Make, make_job: Make, work_off: WorkOff, tmp_path: Path) -> None:
    shard = make_shard(count=7)
    columns = "method, key, predicted, probability, insertion, deletion, roc_auc, completeness, insertion_curve"
    first, second = (
        rows_of(
            work_off(make_job(shard, unit_size=size, output__path=str(tmp_path / f"run{size}"))), "metrics", columns
        )
        for size in (2, 5)
    )
    for one, other in zip(first, second, strict=True):
        assert (one["method"], one["key"], one["predicted"]) == (other["method"], other["key"], other["predicted"])
        for name in ("probability", "insertion", "deletion", "roc_auc"):
            assert one[name] == pytest.approx(other[name], abs=1e-3)


def test_an_attempt_goes_on_from_what_a_killed_one_published(
    make_shard: Make, make_job: Make, work_off: WorkOff
) -> None:
    job = make_job(make_shard(count=4))
    run = work_off(job)
    unit = "000000-000000-000004"
    before = {
        table: (run / table_name(table, "networks:tiny", "ig", unit)).read_bytes()
        for table in ("attributions", "metrics")
    }
    commit_of(run, unit).unlink()
    (run / table_name("metrics", "networks:tiny", "ig", unit)).unlink()
    assert not audit(str(run)).ok
    work_off(job)
    assert (run / table_name("attributions", "networks:tiny", "ig", unit)).read_bytes() == before["attributions"]
    assert audit(str(run)).ok


def test_a_late_attempt_changes_nothing(make_shard: Make, make_job: Make, work_off: WorkOff) -> None:
    run = work_off(make_job(make_shard(count=4)))
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    worker, task = begin(run)
    assert worker.process(task).statuses == {}
    # A zombie that had looked for the commit before it was there.
    ((batch, _),) = task.batches.items()
    labels = list(worker.labels.values())
    commits = [worker.do(task, label, worker.read(task)) for label in labels]
    worker.files.commit(str(labels[0].batch_commit_name(UNIT)), batch, commits)
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


def test_a_left_table_with_a_flipped_byte_is_made_anew(make_shard: Make, make_job: Make, work_off: WorkOff) -> None:
    job = make_job(make_shard(count=4))
    run = work_off(job)
    maps = run / table_name("attributions", "networks:tiny", "ig", UNIT)
    before = decode_maps(pq.read_table(maps))
    commit_of(run, UNIT).unlink()
    (run / table_name("metrics", "networks:tiny", "ig", UNIT)).unlink()
    data = bytearray(maps.read_bytes())
    data[len(data) // 2] ^= 1
    maps.write_bytes(data)
    work_off(job)
    assert np.array_equal(decode_maps(pq.read_table(maps)), before)
    assert audit(str(run)).ok


def test_a_zombie_removes_nothing_that_its_successor_committed(
    make_shard: Make, make_job: Make, work_off: WorkOff, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The successor knows of a sample that is deadly to a metric, at which the zombie stands still."""
    run = work_off(make_job(make_shard(count=4)), limit=0)
    zombie, task = begin(run)
    publish = zombie.files.publish_metrics

    def stands_still(*arguments: Any, **given: Any) -> Any:
        successor, better = begin(run, {2: Poison("the actor died")})
        successor.process(better)
        return publish(*arguments, **given)

    monkeypatch.setattr(zombie.files, "publish_metrics", stands_still)
    with pytest.raises(DamagedTableError, match="committed"):
        zombie.process(task)
    assert audit(str(run)).problems == []
    assert [row["status"] for row in rows_of(run, "metrics", "method, shard, index, status")][2] == "quarantined"


def test_a_sample_that_kills_while_it_is_decoded_is_not_decoded_again(
    make_shard: Make, make_job: Make, work_off: WorkOff, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = work_off(make_job(make_shard(count=4)), limit=0)
    decode = reading._decode

    def deadly(row: ManifestRow, *others: Any) -> Any:
        if row.index == 2:
            raise MemoryError
        return decode(row, *others)

    monkeypatch.setattr(reading, "_decode", deadly)
    worker, task = begin(run, {2: Poison("the actor died")})
    done = worker.process(task)
    assert done.statuses == {name: {"ok": 3, "quarantined": 1} for name in ("ssig", "ig")}
    assert done.gradients["ig"] == 3 * 4
    assert set(done.steps) == {"decode", "attribute", "metrics", "write"}
    assert 0 < done.device_seconds < done.seconds
    assert worker.process(task).device_seconds >= 0
    assert audit(str(run)).ok


def test_parts_without_lists_take_the_width_of_the_others() -> None:
    """Of a chunk in which no sample has a list, nobody knows how long one would be."""
    parts = [
        Measured({"a": np.zeros(2)}, {"curve": np.full((2, 1), np.nan)}, [{}, {}]),
        Measured({"a": np.ones(1)}, {"curve": np.array([[1.0, 2.0, 3.0]])}, [{}]),
    ]
    for order in (parts, parts[::-1]):
        curves = merged(order).lists["curve"]
        assert curves.shape == (3, 3)
        assert np.isnan(curves).all(axis=1).sum() == 2
        assert [1.0, 2.0, 3.0] in curves.tolist()


def test_one_number_that_is_not_there_takes_no_other_with_it() -> None:
    column = pa.chunked_array([pa.array([0.1, None, 0.3], pa.float32())])
    some = column_values(column, [0, 1, 2])
    assert some is not None
    assert some.isnan().tolist() == [False, True, False]
    assert column_values(column, [1]) is None


@pytest.mark.parametrize("cut_off", ["commit", "metrics", "quarantine"])
def test_failed_units_are_forgotten_even_if_that_was_cut_off(
    make_shard: Make, make_job: Make, work_off: WorkOff, cut_off: str
) -> None:
    run = work_off(make_job(make_shard(count=4)), limit=0)
    worker, task = begin(run, {2: Poison("the actor died")})
    worker.process(task)
    said = run / f"quarantine/poison-{UNIT}-000002.json"
    said.parent.mkdir(exist_ok=True)
    said.write_text("{}")
    steps = {
        "commit": commit_of(run, UNIT),
        "metrics": run / table_name("metrics", "networks:tiny", "ig", UNIT),
        "quarantine": said,
    }
    for step, path in steps.items():
        path.unlink()
        if step == cut_off:
            break
    directory = RunDirectory(open_storage(str(run)))
    assert forget_failed(directory, directory.labels) == 0  # without their commit, both labels are undone
    left = {str(path.relative_to(run)) for path in run.rglob("*") if path.is_file()}
    assert left == {
        "run.json",
        "manifest.parquet",
        "manifest.json",
        *(name for name in left if name.startswith("config/")),
    }


@pytest.mark.parametrize("maps", ["none", "float16"])
def test_quarantined_samples_are_rows(make_shard: Make, make_job: Make, work_off: WorkOff, maps: str) -> None:
    job = make_job(make_shard(count=4), output__maps=maps)
    run = work_off(job, limit=0)
    worker, first = begin(run)
    # The sample survived its attribution and killed the metrics: its map is published and not committed.
    label, watch = worker.labels["ssig"], Stopwatch(worker.device.clock)
    worker.source(label).maps(first, label, worker.read(first), watch, lambda count: None)
    worker.process(replace(first, attempt="second", poison={2: Poison("the actor died")}))
    statuses = rows_of(run, "metrics", "method, index, status, error, insertion, probability")
    assert [row["status"] for row in statuses] == ["ok", "ok", "quarantined", "ok"] * 2
    assert statuses[2]["error"] == "the actor died"
    assert statuses[2]["insertion"] is None
    assert statuses[2]["probability"] is None
    assert audit(str(run)).ok
