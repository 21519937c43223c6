"""One driver at a time, and a dead one in nobody's way."""

from __future__ import annotations

import json
import multiprocessing
import os
import threading
import time
from pathlib import Path

import pytest

from pipeline.run.lease import STALE_SECONDS, Lease, LeaseHeldError, holder
from pipeline.storage import open_storage
from pipeline.storage.base import Storage


def hold_until_killed(root: str, ready: multiprocessing.synchronize.Event) -> None:
    with Lease(open_storage(root)):
        ready.set()
        time.sleep(60)


def test_a_second_driver_is_refused_and_the_lease_ends_with_its_holder(tmp_path: Path) -> None:
    storage = open_storage(str(tmp_path))
    with Lease(storage):
        assert str(os.getpid()) in (holder(storage) or "")
        with pytest.raises(LeaseHeldError, match=f"process {os.getpid()}"), Lease(storage):
            pass
    assert holder(storage) is None
    assert list(storage.list()) == []
    with Lease(storage):
        pass


def test_the_lease_of_a_killed_process_is_taken_over_at_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    process = context.Process(target=hold_until_killed, args=(str(tmp_path), ready))
    process.start()
    assert ready.wait(60)
    storage = open_storage(str(tmp_path))
    with pytest.raises(LeaseHeldError), Lease(storage):
        pass
    process.kill()
    process.join()
    with Lease(storage):
        assert str(os.getpid()) in (holder(storage) or "")


def test_another_hosts_lease_ends_with_its_heartbeat(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.run.lease.WATCH_SECONDS", 0.1)
    storage = open_storage(str(tmp_path))
    record = {"host": "elsewhere", "boot": "b", "pid": 1, "started": "1", "beat": time.time()}
    storage.create(".lease/000007.json", json.dumps(record).encode())
    with pytest.raises(LeaseHeldError, match="elsewhere"), Lease(storage):
        pass
    storage.put(".lease/000007.json", json.dumps({**record, "beat": time.time() - STALE_SECONDS - 1}).encode())
    with Lease(storage):
        assert [entry.name for entry in storage.list(".lease")] == [".lease/000007.json", ".lease/000008.json"]


@pytest.mark.parametrize("hours", [-3, 3])
def test_clocks_that_disagree_neither_end_a_lease_nor_keep_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hours: float
) -> None:
    monkeypatch.setattr("pipeline.run.lease.WATCH_SECONDS", 1.0)
    storage = open_storage(str(tmp_path))
    stop = threading.Event()

    def beat() -> None:
        while not stop.wait(0.05):
            record = {"host": "elsewhere", "boot": "b", "pid": 1, "started": "1", "beat": time.time() + 3600 * hours}
            storage.put(".lease/000001.json", json.dumps(record).encode())

    living = threading.Thread(target=beat)
    living.start()
    try:
        while not list(storage.list(".lease")):
            time.sleep(0.01)
        with pytest.raises(LeaseHeldError, match="elsewhere"), Lease(storage):
            pass
    finally:
        stop.set()
        living.join()
    with Lease(storage) as lease:
        assert not lease.lost


def test_a_driver_that_was_overtaken_leaves_its_successors_lease(tmp_path: Path) -> None:
    storage = open_storage(str(tmp_path))
    with Lease(storage):
        storage.create(".lease/000002.json", b"{}")
    assert [entry.name for entry in storage.list()] == [".lease/000002.json"]


def elsewhere(**fields: object) -> bytes:
    """A living driver's record, on another host."""
    record = {"host": "elsewhere", "boot": "b", "space": "s", "pid": 1, "started": "1", "beat": time.time()}
    return json.dumps({**record, **fields}).encode()


def own_record(storage: Storage) -> dict[str, object]:
    """A record as drivers of this process write it."""
    with Lease(storage):
        (entry,) = storage.list(".lease")
        record: dict[str, object] = json.loads(storage.read(entry.name))
    return record


def test_a_driver_knows_another_one_of_its_number(tmp_path: Path) -> None:
    """It stood still; one took over and finished; with that, numbers began again, and a third is at work."""
    storage = open_storage(str(tmp_path))
    with Lease(storage) as first:
        first.verify()
        storage.delete(".lease/000001.json")
        with Lease(storage) as third:
            with pytest.raises(LeaseHeldError, match="taken"):
                first.verify()
            assert first.lost
            third.verify()


def test_a_driver_leaves_the_lease_of_another_one_of_its_number(tmp_path: Path) -> None:
    storage = open_storage(str(tmp_path))
    with Lease(storage):
        storage.put(".lease/000001.json", elsewhere())
    assert holder(storage) == "process 1 on elsewhere"
    with pytest.raises(LeaseHeldError, match="elsewhere"), Lease(storage):
        pass


def test_a_heartbeat_does_not_replace_the_lease_of_another_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.run.lease.HEARTBEAT_SECONDS", 0.05)
    storage = open_storage(str(tmp_path))
    record = elsewhere()
    with Lease(storage) as lease:
        verify, looked = lease.verify, threading.Event()

        def look() -> None:
            try:
                verify()
            finally:
                looked.set()

        monkeypatch.setattr(lease, "verify", look)
        storage.put(".lease/000001.json", record)
        looked.clear()  # the beat of a look before that may have been under way
        storage.put(".lease/000001.json", record)
        assert looked.wait(10)
        time.sleep(0.2)
        assert storage.read(".lease/000001.json") == record
        assert lease.lost


def test_a_driver_in_another_container_of_this_host_is_not_taken_for_dead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.run.lease.WATCH_SECONDS", 0.1)
    storage = open_storage(str(tmp_path))
    gone = {**own_record(storage), "pid": 2**30}
    storage.put(".lease/000001.json", json.dumps(gone).encode())
    assert holder(storage) is None
    for record in (
        {**gone, "space": "pid:[1]"},
        {name: value for name, value in gone.items() if name != "space"},  # as an earlier version wrote it
    ):
        storage.put(".lease/000001.json", json.dumps(record).encode())
        assert holder(storage) is not None
        with pytest.raises(LeaseHeldError), Lease(storage):
            pass
        storage.put(".lease/000001.json", json.dumps({**record, "beat": time.time() - STALE_SECONDS - 1}).encode())
        assert holder(storage) is None
        with Lease(storage):
            pass


def test_where_processes_cannot_be_asked_for_heartbeats_tell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.run.lease._started", lambda pid: None)
    storage = open_storage(str(tmp_path))
    record = own_record(storage)
    storage.put(".lease/000001.json", json.dumps(record).encode())
    assert holder(storage) is not None
    storage.put(".lease/000001.json", json.dumps({**record, "beat": time.time() - STALE_SECONDS - 1}).encode())
    assert holder(storage) is None


def test_other_files_beside_a_lease_are_left_alone(tmp_path: Path) -> None:
    storage = open_storage(str(tmp_path))
    storage.create(".lease/.notes", b"x")
    storage.create(".lease/notes.json", b"x")
    with Lease(storage) as lease:
        lease.verify()
    assert [entry.name for entry in storage.list()] == [".lease/.notes", ".lease/notes.json"]
    assert holder(storage) is None


@pytest.mark.parametrize("record", [b"{", b"[]", b'{"beat": "now"}', b'{"beat": null}'])
def test_a_damaged_lease_is_stale(tmp_path: Path, record: bytes) -> None:
    storage = open_storage(str(tmp_path))
    storage.create(".lease/000001.json", record)
    with Lease(storage):
        pass
