"""What earlier attempts left of a unit, and what a commit records; no network is needed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from pipeline.run.labels import Label
from pipeline.run.layout import commit_name, metrics_name
from pipeline.run.publishing import DamagedTableError
from pipeline.shards import manifest as manifests
from pipeline.shards.samples import Poison
from pipeline.storage import open_storage
from pipeline.unit.committing import UnitFiles, attributions_name, holds_poison
from pipeline.unit.messages import Task

LABEL = Label("m", "ig", {"fingerprint": "f", "schema_version": 2})


@pytest.fixture
def files(tmp_path: Path) -> UnitFiles:
    return UnitFiles(open_storage(str(tmp_path / "run")))


@pytest.fixture
def task(make_shard: Callable[..., Path], files: UnitFiles) -> Task:
    manifests.build([str(make_shard(count=2))], 2).save(files.storage)
    manifest = manifests.load(files.storage)
    (unit,) = manifest.units()
    return Task(unit.id, "", tuple(manifest.rows(unit.id)), ("ig",), "first")


def table_of(task: Task, statuses: tuple[str, ...] = ("ok", "ok"), **columns: Any) -> pa.Table:
    rows = {"index": [row.index for row in task.rows], "key": [row.key for row in task.rows]}
    return pa.table({**rows, "status": list(statuses), "gradient_evaluations": [3, 4], **columns})


def test_a_unit_is_done_when_its_commit_is_there(files: UnitFiles, task: Task) -> None:
    table = table_of(task)
    assert not files.is_attributed(task, LABEL)
    published, maps = files.publish_attributions(task, LABEL, table)
    assert published.equals(table)
    assert files.is_attributed(task, LABEL)
    assert not files.is_committed(task, LABEL)
    name, numbers = files.publish_metrics(task, LABEL, table)
    assert name == metrics_name("m", "ig", task.unit)
    named = {attributions_name(task, LABEL): maps, name: numbers}
    commit = files.record(task, LABEL, table, named, {"write": 1.0})
    assert commit.statuses == {"ok": 2}
    files.commit(LABEL.commit_name(task.unit), None, [commit])
    assert files.is_committed(task, LABEL)
    record = json.loads(files.storage.read(commit_name("m", "ig", task.unit)))
    assert (record["rows"], record["gradient_evaluations"], record["attempt"]) == (2, 7, "first")


def test_maps_that_were_left_are_taken_and_damaged_ones_removed(files: UnitFiles, task: Task) -> None:
    table = table_of(task)
    assert files.leftover_attributions(task, LABEL, lambda: table.schema) is None
    _, identity = files.publish_attributions(task, LABEL, table)
    left = files.leftover_attributions(task, LABEL, lambda: table.schema)
    assert left is not None
    assert (left[0].equals(table), left[1]) == (True, identity)
    other = pa.schema([*table.schema, pa.field("map", pa.int64())])
    assert files.leftover_attributions(task, LABEL, lambda: other) is None
    assert not files.is_attributed(task, LABEL)


def test_maps_of_a_sample_that_turned_out_to_kill_are_removed(files: UnitFiles, task: Task) -> None:
    table = table_of(task)
    files.publish_attributions(task, LABEL, table)
    wiser = Task(task.unit, "", task.rows, ("ig",), "second", {task.rows[1].index: Poison("it kills")})
    assert holds_poison(table, wiser.poison)
    assert files.leftover_attributions(wiser, LABEL, lambda: table.schema) is None
    assert not files.is_attributed(task, LABEL)


def test_what_is_committed_is_never_removed(files: UnitFiles, task: Task) -> None:
    table = table_of(task)
    _, maps = files.publish_attributions(task, LABEL, table)
    name, numbers = files.publish_metrics(task, LABEL, table)
    commit = files.record(task, LABEL, table, {attributions_name(task, LABEL): maps, name: numbers}, {})
    files.commit(LABEL.commit_name(task.unit), None, [commit])
    other = table_of(task, ("ok", "quarantined"))
    with pytest.raises(DamagedTableError, match="another attempt has committed it"):
        files.publish_metrics(task, LABEL, other)
    with pytest.raises(DamagedTableError, match="another attempt has committed it"):
        files.leftover_attributions(task, LABEL, lambda: pa.schema([]))


def test_metrics_of_other_statuses_are_made_anew(files: UnitFiles, task: Task) -> None:
    files.publish_metrics(task, LABEL, table_of(task, ("ok", "quarantined")))
    _, before = files.publish_metrics(task, LABEL, table_of(task, ("ok", "quarantined")))
    _, after = files.publish_metrics(task, LABEL, table_of(task))
    assert before != after


def test_a_file_that_changed_before_the_commit_is_noticed(files: UnitFiles, task: Task) -> None:
    table = table_of(task)
    _, maps = files.publish_attributions(task, LABEL, table)
    commit = files.record(task, LABEL, table, {attributions_name(task, LABEL): {**maps, "bytes": 1}}, {})
    with pytest.raises(DamagedTableError, match="another attempt has replaced it"):
        files.commit(LABEL.commit_name(task.unit), None, [commit])
    assert not files.is_committed(task, LABEL)
