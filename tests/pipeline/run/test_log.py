"""The log of a run: every line once, whatever the storage does, and no more of it in memory than there is room for."""

from __future__ import annotations

import errno
import json
import uuid
from pathlib import Path
from typing import Any

import pytest

from pipeline.run import log as runlog
from pipeline.run.log import DROPPED, RunLog
from pipeline.storage import open_storage
from pipeline.storage.base import Storage
from pipeline.storage.local import LocalStorage
from pipeline.storage.object_store import ObjectStorage


@pytest.fixture
def store() -> Storage:
    return open_storage(f"memory://{uuid.uuid4().hex}/run")


@pytest.fixture
def puts(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, bytes]]:
    """What is put into object stores."""
    seen: list[tuple[str, bytes]] = []
    put = ObjectStorage.put

    def record(self: ObjectStorage, name: str, data: bytes) -> None:
        seen.append((name, data))
        put(self, name, data)

    monkeypatch.setattr(ObjectStorage, "put", record)
    return seen


def break_storage(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, "no room")

    monkeypatch.setattr(ObjectStorage, "put", fails)
    monkeypatch.setattr(LocalStorage, "append", fails)


def lines(storage: Storage) -> list[dict[str, Any]]:
    """All lines of a log, in order of name."""
    names = [entry.name for entry in storage.list("logs")]
    return [json.loads(line) for name in names for line in storage.read(name).decode().splitlines()]


def test_on_disk_each_line_is_there_at_once(tmp_path: Path) -> None:
    log = RunLog(open_storage(tmp_path), "a1")
    for number in range(3):
        log.write("event", number=number)
        assert [line["number"] for line in lines(open_storage(tmp_path))] == list(range(number + 1))
    log.close()
    assert [path.name for path in (tmp_path / "logs").iterdir()] == ["a1.jsonl"]


def test_in_an_object_store_each_line_is_put_once(
    store: Storage, puts: list[tuple[str, bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runlog, "PUT_SECONDS", -1.0)
    log = RunLog(store, "a1")
    for number in range(12):
        log.write("event", number=number)
    log.close()
    assert [line["number"] for line in lines(store)] == list(range(12))
    assert [name for name, _ in puts] == [f"logs/a1-{number:06d}.jsonl" for number in range(1, 13)]
    assert sum(len(data.splitlines()) for _, data in puts) == 12


def test_lines_wait_for_the_pause_and_for_the_end(store: Storage, puts: list[tuple[str, bytes]]) -> None:
    log = RunLog(store, "a1")
    for number in range(5):
        log.write("event", number=number)
    assert puts == []
    log.close()
    log.close()
    assert [name for name, _ in puts] == ["logs/a1-000001.jsonl"]
    assert [line["number"] for line in lines(store)] == list(range(5))


def test_two_drivers_logs_lie_apart(store: Storage) -> None:
    for attempt in ("a1", "b2"):
        log = RunLog(store, attempt)
        log.write("event", attempt=attempt)
        log.close()
    assert [line["attempt"] for line in lines(store)] == ["a1", "b2"]


@pytest.mark.parametrize("kind", ["disk", "object store"])
def test_what_a_storage_does_not_take_comes_with_what_follows(
    store: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(runlog, "PUT_SECONDS", -1.0)
    storage = store if kind == "object store" else open_storage(tmp_path)
    log = RunLog(storage, "a1")
    log.write("event", number=0)
    with monkeypatch.context() as broken:
        break_storage(broken)
        log.write("event", number=1)
        log.write("event", number=2)
        with pytest.raises(OSError, match="no room"):
            log.close()
    log.write("event", number=3)
    log.write("event", number=4)
    assert [line["number"] for line in lines(storage)] == list(range(5))


def test_a_put_whose_reply_was_lost_leaves_no_line_twice(store: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runlog, "PUT_SECONDS", -1.0)
    put = ObjectStorage.put

    def unheard(self: ObjectStorage, name: str, data: bytes) -> None:
        put(self, name, data)
        raise OSError("no reply")

    log = RunLog(store, "a1")
    with monkeypatch.context() as broken:
        broken.setattr(ObjectStorage, "put", unheard)
        log.write("event", number=0)
    log.write("event", number=1)
    assert [line["number"] for line in lines(store)] == [0, 1]


@pytest.mark.parametrize("kind", ["disk", "object store"])
def test_a_storage_that_stays_away_costs_the_oldest_lines_and_the_log_says_so(
    store: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(runlog, "MOST_KEPT", 10_000)
    storage = store if kind == "object store" else open_storage(tmp_path)
    log = RunLog(storage, "a1")
    with monkeypatch.context() as broken:
        break_storage(broken)
        for number in range(1000):
            log.write("event", number=number)
    log.write("event", number=1000)
    log.close()
    first, *kept = lines(storage)
    assert first["event"] == DROPPED
    numbers = [line["number"] for line in kept]
    assert numbers == list(range(first["lines"], 1001))
    assert 5000 < sum(entry.size for entry in storage.list("logs")) < 11_000
    log.write("event", number=1001)
    log.close()
    assert [line["event"] for line in lines(storage)].count(DROPPED) == 1


def test_a_log_that_a_link_leads_away_ends_no_run_and_writes_nothing(tmp_path: Path) -> None:
    run, outside = tmp_path / "run", tmp_path / "outside"
    for folder in (run, outside):
        folder.mkdir()
    (run / "logs").symlink_to(outside)
    log = RunLog(open_storage(run), "a1")
    log.write("started")
    with pytest.raises(PermissionError, match="outside"):
        log.close()
    assert list(outside.iterdir()) == []
