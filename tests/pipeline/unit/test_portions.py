"""Units in two portions: maps by one worker, metrics and the commit by another."""

from __future__ import annotations

import sys
import uuid
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import pytest

from pipeline.checks.audit import audit
from pipeline.run.directory import RunDirectory
from pipeline.run.publishing import DamagedTableError
from pipeline.run.reader import open_run
from pipeline.storage import fault_points, open_storage
from pipeline.unit.inputs import Prepared
from pipeline.unit.messages import Done, Portion, Task
from pipeline.unit.setup import WorkerSetup
from pipeline.unit.worker import Worker
from ssig.acceleration.ready_replica import ready_replica
from ssig.models import export, load_model

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "support"))

import tampering as t

Make = Callable[..., Any]
UNIT = "000000-000000-000004"
LABELS = ("ssig", "ig")


@pytest.fixture
def run(make_shard: Make, make_job: Make, work_off: Make) -> Path:
    """A run of one unit under two labels, of which nothing is done."""
    run: Path = work_off(make_job(make_shard(count=4)), limit=0)
    return run


@pytest.fixture
def whole(make_shard: Make, make_job: Make, work_off: Make, tmp_path: Path) -> Path:
    """The same run, done by one worker."""
    run: Path = work_off(make_job(make_shard(count=4), output__path=str(tmp_path / "whole")))
    return run


def do(run: Path, portion: Portion, **fields: Any) -> Done:
    """What a new worker answers that does a portion of the unit."""
    directory = RunDirectory(open_storage(str(run)))
    labels = {label.method: label for label in directory.labels}
    worker = Worker(ready_replica(load_model("networks:tiny"), micro_batch=4), labels, str(run), 0)
    manifest = directory.manifest
    rows = tuple(manifest.rows(UNIT))
    task = Task(UNIT, manifest.shards[0].url, rows, LABELS, uuid.uuid4().hex, portion=portion)
    try:
        return worker.process(replace(task, batches=directory.batches(labels.values()), **fields))
    finally:
        worker.close()


def files(run: Path, table: str) -> dict[str, bytes]:
    return {path.parent.name: path.read_bytes() for path in run.glob(f"{table}/*/*/*.parquet")}


def numbers(run: Path) -> list[float]:
    """All metrics of a run, in order."""
    columns = "target, insertion, deletion, roc_auc, coalesce(completeness, -1)"
    query = f"select {columns} from '{run}/metrics/**/*.parquet' order by method, index"
    return [number for row in duckdb.sql(query).fetchall() for number in row]


def test_maps_are_published_and_counted_by_nobody_until_they_are_measured(run: Path, whole: Path) -> None:
    mapped = do(run, Portion.MAPS)
    assert mapped.statuses == {}
    assert set(mapped.spent) == set(LABELS)
    assert all(seconds["attribute"] > 0 for seconds in mapped.spent.values())
    maps = files(run, "attributions")
    assert len(maps) == 2
    assert (files(run, "metrics"), t.commits(run), open_run(run).metrics().num_rows) == ({}, [], 0)

    measured = do(run, Portion.METRICS, spent=mapped.spent)
    assert measured.statuses == {"ssig": {"ok": 4}, "ig": {"ok": 4}}
    assert measured.spent == {}
    assert files(run, "attributions") == maps
    assert len(t.commits(run)) == 1
    assert audit(str(run)).problems == []
    assert numbers(run) == pytest.approx(numbers(whole), abs=1e-3)
    # The commit has what the unit cost, whoever computed it.
    directory = RunDirectory(open_storage(str(run)))
    for label, (commit,) in zip(directory.labels, directory.counted(directory.labels), strict=True):
        assert commit.seconds["attribute"] == pytest.approx(mapped.spent[label.method]["attribute"])
        assert commit.seconds["metrics"] > 0


def test_maps_that_are_there_are_not_made_again(run: Path) -> None:
    do(run, Portion.MAPS)
    maps = files(run, "attributions")
    assert all("attribute" not in seconds for seconds in do(run, Portion.MAPS).spent.values())
    do(run, Portion.ALL)
    assert files(run, "attributions") == maps
    assert do(run, Portion.MAPS).spent == {}  # it is committed
    assert do(run, Portion.METRICS).statuses == {}
    assert len(t.commits(run)) == 1
    assert audit(str(run)).problems == []


@pytest.mark.parametrize("damage", ["lost", "cut"])
def test_without_maps_a_worker_that_measures_makes_none(run: Path, damage: str) -> None:
    do(run, Portion.MAPS)
    (path,) = run.glob("attributions/*/method=ig/*.parquet")
    data = path.read_bytes()
    path.unlink()
    if damage == "cut":
        path.write_bytes(data[:-100])
    with pytest.raises(DamagedTableError, match="method=ig"):
        do(run, Portion.METRICS)
    assert t.commits(run) == []
    do(run, Portion.ALL)
    assert audit(str(run)).problems == []


class KilledError(BaseException):
    """In place of a signal."""


@pytest.mark.parametrize("next_portion", [Portion.ALL, Portion.METRICS])
@pytest.mark.parametrize(
    ("portion", "point", "about"),
    [
        (Portion.MAPS, "after-attribute", "method=ig"),
        (Portion.MAPS, "after-publish", "attributions/"),
        (Portion.MAPS, "after-maps", ""),
        (Portion.METRICS, "before-measuring", ""),
        (Portion.METRICS, "before-stage", "metrics/"),
        (Portion.METRICS, "after-publish", "metrics/"),
        (Portion.METRICS, "after-label", "method=ssig"),
        (Portion.METRICS, "before-commit", ""),
        (Portion.METRICS, "after-commit", ""),
    ],
)
def test_an_attempt_that_is_killed_loses_nothing_and_doubles_nothing(
    run: Path, monkeypatch: pytest.MonkeyPatch, portion: Portion, next_portion: Portion, point: str, about: str
) -> None:
    def hook(name: str, what: str) -> None:
        if name == point and about in what:
            raise KilledError

    if portion is Portion.METRICS:
        do(run, Portion.MAPS)
    monkeypatch.setattr(fault_points, "hook", hook)
    with pytest.raises(KilledError):
        do(run, portion)
    monkeypatch.setattr(fault_points, "hook", None)
    if next_portion is Portion.METRICS:
        do(run, Portion.MAPS)
    do(run, next_portion)
    assert len(t.commits(run)) == 1
    assert open_run(run).metrics().num_rows == 8
    assert audit(str(run)).problems == []


def test_the_class_that_is_measured_is_the_one_that_the_map_explains(
    run: Path, whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another device may predict another class of an image on a border."""
    do(run, Portion.MAPS)
    predict = Prepared.predict

    def otherwise(prepared: Prepared, *arguments: Any) -> None:
        predict(prepared, *arguments)
        prepared.targets = (prepared.targets + 1) % 8

    monkeypatch.setattr(Prepared, "predict", otherwise)
    do(run, Portion.METRICS)
    assert numbers(run) == pytest.approx(numbers(whole), abs=1e-3)


def test_a_worker_that_measures_has_no_gpu_and_no_wish_for_one() -> None:
    state = export(load_model("networks:tiny"))
    setup = WorkerSetup(state, {}, "run", 0, micro_batch=64, compile="cuda-graphs", threads=8, fills=True)
    found = replace(setup, device="cuda").measuring(2)
    assert (found.device, found.gpu_share, found.threads, found.fills) == ("cpu", 0, 2, False)
    assert (found.micro_batch, found.compile, found.known) == (None, "none", None)
    assert replace(setup, gpu_share=0).measuring(2).micro_batch == 64
