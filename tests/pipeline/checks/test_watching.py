"""A run that is under way, as its own files show it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from pipeline.checks.watching import Watch
from pipeline.driver.admission import record_run
from pipeline.driver.attribute import attribute
from pipeline.run import commit_names, following
from pipeline.run.commit_names import CommitNames, Paced
from pipeline.run.directory import RunDirectory
from pipeline.run.following import FollowedLog
from pipeline.run.log import UNDER_WAY
from pipeline.storage import open_storage
from pipeline.storage.jsontext import to_json

Make = Callable[..., Any]


def written(folder: Path, *events: dict[str, Any], name: str = "abc.jsonl") -> None:
    """Adds lines to a log."""
    path = folder / "logs" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        for event in events:
            file.write(to_json({"time": datetime.now(UTC).isoformat(), **event}) + "\n")


def test_labels_units_and_the_end_of_a_real_run(make_shard: Make, make_job: Make, tmp_path: Path) -> None:
    job = make_job(make_shard(count=6), unit_size=2, actors__executor="local")
    attribute(job)
    watch = Watch(open_storage(str(tmp_path / "run")))
    look = watch.look()
    assert look.is_finished
    assert look.has_ended
    assert {(label.units_done, label.units) for label in look.labels} == {(3, 3)}
    commit = next((tmp_path / "run" / "commits").rglob("*.json"))
    commit.unlink()
    assert {label.units_done for label in watch.look().labels} == {2}
    assert not watch.look().is_finished


def test_shards_that_are_not_listed_are_seen(make_shard: Make, make_job: Make) -> None:
    shards = [str(make_shard(f"{name}.tar", count=2)) for name in "abc"]
    job = make_job(*shards)
    record_run(job, RunDirectory(open_storage(job.output.path)), shards)
    look = Watch(open_storage(job.output.path)).look()
    assert look.shards_listed == (1, 3)
    assert not look.is_finished


def test_commits_are_counted_as_they_come_and_folders_that_stand_are_not_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = tmp_path / "commits" / "batch=a", tmp_path / "commits" / "batch=b"
    for folder in (old, new):
        folder.mkdir(parents=True)
        (folder / "u0.json").touch()
        (folder / "u1.json.part").touch()
    for folder in (old, new, old.parent):
        os.utime(folder, (1, 1))
    names = CommitNames(open_storage(str(tmp_path)))
    assert names.look()["commits/batch=a"] == {"u0"}
    (new / "u1.json").touch()
    read: list[str] = []
    scandir = os.scandir
    monkeypatch.setattr(commit_names.os, "scandir", lambda path: read.append(path.name) or scandir(path))
    found = names.look()
    assert (found["commits/batch=a"], found["commits/batch=b"]) == ({"u0"}, {"u0", "u1"})
    assert read == ["batch=b"]


def test_an_object_store_is_listed_seldom(tmp_path: Path) -> None:
    storage = open_storage("memory://watched")
    storage.put("commits/model=a/method=b/u0.json", b"{}")
    names = CommitNames(storage)
    assert names.look()["commits/model=a/method=b"] == {"u0"}


def test_what_takes_long_is_made_less_often(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0

    def make() -> float:
        nonlocal now
        now += 3
        return now

    monkeypatch.setattr(commit_names.time, "monotonic", lambda: now)
    paced = Paced(make)
    assert paced.value() == 3
    now += 29
    assert paced.value() == 3
    now += 2
    assert paced.value() == 37


def test_a_unit_that_takes_long_shows_before_it_ends(tmp_path: Path) -> None:
    log = FollowedLog(open_storage(str(tmp_path)))
    assert log.look() is None
    written(tmp_path, {"event": "started"}, {"event": "actor ready", "actor": "actor-1", "gpu": "GPU 0 of node x"})
    written(tmp_path, {"event": UNDER_WAY, "rows_per_second": 2.5, "seconds_left": 8, "actors": {"actor-1": [3.5, 2]}})
    driver = log.look()
    assert driver is not None
    actor = driver.actors["actor-1"]
    assert (actor.where, actor.under_way, actor.in_flight) == ("GPU 0 of node x", 3.5, 2)
    assert driver.state["seconds_left"] == 8
    written(tmp_path, {"event": "unit done", "actor": "actor-1"}, {"event": "unit failed", "kind": "died"})
    written(tmp_path, {"event": "actor left", "actor": "actor-1"}, {"event": "ended"})
    again = log.look()
    assert again is driver
    assert (driver.actors, driver.units, driver.failures, driver.has_ended) == ({}, {"actor-1": 1}, {"died": 1}, True)


def test_half_a_line_is_read_when_it_is_whole_and_of_a_long_log_only_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "FIRST_BYTES", 400)
    written(tmp_path, *({"event": "unit failed", "kind": "raised"} for _ in range(100)))
    log = FollowedLog(open_storage(str(tmp_path)))
    driver = log.look()
    assert driver is not None
    assert 1 <= driver.failures["raised"] <= 4
    file = tmp_path / "logs" / "abc.jsonl"
    with file.open("a") as half:
        half.write('{"event": "unit fai')
    log.look()
    with file.open("a") as rest:
        rest.write('led", "kind": "died"}\n')
    log.look()
    assert driver.failures["died"] == 1


def test_the_driver_that_wrote_last_is_shown(tmp_path: Path) -> None:
    written(tmp_path, {"event": "started", "time": "2026-01-01T00:00:00+00:00"}, name="old-000001.jsonl")
    written(tmp_path, {"event": "started", "time": "2026-01-02T00:00:00+00:00"}, name="new-000001.jsonl")
    driver = FollowedLog(open_storage(str(tmp_path))).look()
    assert driver is not None
    assert driver.attempt == "new"
    assert driver.last < time.time()
