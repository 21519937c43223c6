"""One commit a batch and unit: what a killed attempt left is kept, and one label holds up no other for good."""

from __future__ import annotations

import json
import sys
import uuid
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.checks.audit import audit
from pipeline.run.deletion import forget_failed
from pipeline.run.directory import RunDirectory
from pipeline.run.labels import Label
from pipeline.run.reader import open_run
from pipeline.shards.samples import Poison
from pipeline.storage import fault_points, open_storage
from pipeline.unit.messages import Task
from pipeline.unit.worker import Worker
from ssig.acceleration.ready_replica import ready_replica
from ssig.models import load_model

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "support"))

import tampering as t

Make = Callable[..., Any]
UNIT = "000000-000000-000004"


@pytest.fixture
def run(make_shard: Make, make_job: Make, work_off: Make) -> Path:
    """A run of one unit under two labels, of which nothing is done."""
    run: Path = work_off(make_job(make_shard(count=4)), limit=0)
    return run


def begin(run: Path, **fields: Any) -> tuple[Worker, Task]:
    """A worker of a run, and its unit under all labels as a task."""
    directory = RunDirectory(open_storage(str(run)))
    labels = {label.method: label for label in directory.labels}
    worker = Worker(ready_replica(load_model("networks:tiny"), micro_batch=4), labels, str(run), 0)
    manifest = directory.manifest
    batches = directory.batches(labels.values())
    task = Task(UNIT, manifest.shards[0].url, tuple(manifest.rows(UNIT)), ("ssig", "ig"), uuid.uuid4().hex)
    return worker, replace(task, **{"batches": batches, **fields})


class KilledError(BaseException):
    """In place of a signal."""


def killed_after(monkeypatch: pytest.MonkeyPatch, point: str, about: str) -> None:
    """Ends the attempt at a point."""

    def hook(name: str, what: str) -> None:
        if name == point and about in what:
            raise KilledError

    monkeypatch.setattr(fault_points, "hook", hook)


def counted(monkeypatch: pytest.MonkeyPatch, worker: Worker) -> Counter[str]:
    """How often the worker does each label."""
    done: Counter[str] = Counter()
    do = worker.do

    def counting(task: Task, label: Label, *others: Any) -> Any:
        done[label.method] += 1
        return do(task, label, *others)

    monkeypatch.setattr(worker, "do", counting)
    return done


def tables(run: Path) -> dict[str, bytes]:
    return {str(path.relative_to(run)): path.read_bytes() for path in run.glob("*/*/*/*.parquet")}


def test_a_label_whose_tables_are_whole_is_not_done_again(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    killed_after(monkeypatch, "after-label", "method=ssig")
    worker, task = begin(run)
    with pytest.raises(KilledError):
        worker.process(task)
    monkeypatch.setattr(fault_points, "hook", None)
    before = tables(run)
    assert len(before) == 2
    assert t.commits(run) == []
    assert open_run(run).metrics().num_rows == 0
    worker, task = begin(run)
    done = counted(monkeypatch, worker)
    assert worker.process(task).statuses == {"ssig": {"ok": 4}, "ig": {"ok": 4}}
    assert done == {"ig": 1}
    assert tables(run).items() >= before.items()
    assert len(t.commits(run)) == 1
    assert audit(str(run)).problems == []


@pytest.mark.parametrize("table", ["attributions", "metrics"])
def test_a_label_one_of_whose_tables_is_damaged_is_done_again(
    run: Path, monkeypatch: pytest.MonkeyPatch, table: str
) -> None:
    killed_after(monkeypatch, "before-commit", "batch=")
    worker, task = begin(run)
    with pytest.raises(KilledError):
        worker.process(task)
    monkeypatch.setattr(fault_points, "hook", None)
    (path,) = run.glob(f"{table}/*/method=ig/*.parquet")
    path.write_bytes(path.read_bytes()[:-100])
    worker, task = begin(run)
    done = counted(monkeypatch, worker)
    worker.process(task)
    assert done == {"ig": 1}
    assert audit(str(run)).problems == []


def test_a_sample_that_kills_under_one_label_keeps_its_rows_under_another(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed_after(monkeypatch, "after-attribute", "method=ig")
    worker, task = begin(run)
    with pytest.raises(KilledError):
        worker.process(task)
    monkeypatch.setattr(fault_points, "hook", None)
    worker, task = begin(run, poison={2: Poison("it kills")})
    statuses = worker.process(task).statuses
    assert statuses == {"ssig": {"ok": 4}, "ig": {"ok": 3, "quarantined": 1}}
    assert audit(str(run)).problems == []


def test_in_a_last_attempt_labels_that_can_be_done_are_committed(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    worker, task = begin(run, batches={}, apart=True)
    do = worker.do

    def failing(task: Task, label: Label, *others: Any) -> Any:
        if label.method == "ssig":
            raise OSError(28, "No space left on device")
        return do(task, label, *others)

    monkeypatch.setattr(worker, "do", failing)
    with pytest.raises(OSError, match="No space"):
        worker.process(task)
    (commit,) = t.commits(run)
    assert commit.parent.name == "method=ig"
    assert {finding.kind.value for finding in audit(str(run)).findings} == {"unfinished"}
    worker, task = begin(run, batches={}, labels=("ssig",))
    worker.process(task)
    assert audit(str(run)).problems == []


def test_what_failed_is_taken_back_and_the_other_labels_stay_done(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    killed_after(monkeypatch, "after-label", "method=ssig")
    worker, task = begin(run)
    with pytest.raises(KilledError):
        worker.process(task)
    monkeypatch.setattr(fault_points, "hook", None)
    worker, task = begin(run, poison={2: Poison("it kills")})
    worker.process(task)
    before, seconds = tables(run), json.loads(t.commit_of(run, UNIT).read_text())["labels"]
    directory = RunDirectory(open_storage(str(run)))
    assert forget_failed(directory, directory.labels) == 1
    (commit,) = t.commits(run)
    assert commit.parent.name == "method=ssig"
    key = next(label.key for label in directory.labels if label.method == "ssig")
    assert json.loads(commit.read_text())["seconds"] == seconds[key]["seconds"]
    assert {name: data for name, data in before.items() if "method=ssig" in name} == tables(run)
    assert [remaining.methods for remaining in directory.remaining(directory.labels)] == [("ig",)]
    worker, task = begin(run, labels=("ig",), batches={})
    worker.process(task)
    assert open_run(run).metrics()["status"].to_pylist() == ["ok"] * 8
    assert audit(str(run)).problems == []


def test_a_take_back_that_was_cut_off_counts_nothing_twice(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    worker, task = begin(run, poison={2: Poison("it kills")})
    worker.process(task)
    killed_after(monkeypatch, "before-take-back", "")
    directory = RunDirectory(open_storage(str(run)))
    with pytest.raises(KilledError):
        forget_failed(directory, directory.labels[:1])
    monkeypatch.setattr(fault_points, "hook", None)
    assert len(t.commits(run)) == 2
    assert open_run(run).metrics().num_rows == 8
    assert audit(str(run)).problems == []
    directory.refresh()
    assert directory.statuses(directory.labels) == {name: {"ok": 3, "quarantined": 1} for name in ("ig", "ssig")}
    assert forget_failed(directory, directory.labels) == 2
    assert t.commits(run) == []
    assert tables(run) == {}
