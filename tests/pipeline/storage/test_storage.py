"""Storage: one set of laws for every kind, and exclusiveness between real processes on a disk."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import shutil
import signal
import tempfile
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.run.publishing import clean_staging
from pipeline.storage import locate, open_storage
from pipeline.storage.base import Storage, sha256
from pipeline.storage.local import LocalStorage
from pipeline.storage.object_store import ObjectStorage
from ssig.errors import UsageError

pytestmark = pytest.mark.usefixtures("own_temporary_folder")


@pytest.fixture(params=["local", "memory", "s3"])
def fresh(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], Storage]:
    """Makes empty storages of each kind."""
    server = request.getfixturevalue("s3") if request.param == "s3" else None

    def make() -> Storage:
        name = uuid.uuid4().hex
        if server is not None:
            return open_storage(f"{server.bucket()}/runs/one")
        return open_storage(tmp_path / name if request.param == "local" else f"memory://{name}/runs/one")

    return make


@pytest.fixture
def storage(fresh: Callable[[], Storage]) -> Storage:
    return fresh()


def staged(storage: Storage, data: bytes) -> Path:
    path = storage.staging() / uuid.uuid4().hex
    path.write_bytes(data)
    return path


def test_the_first_create_wins(storage: Storage) -> None:
    assert storage.create("a/b/c.json", b"first")
    assert not storage.create("a/b/c.json", b"second")
    assert storage.read("a/b/c.json") == b"first"


def test_the_first_publish_wins_and_staged_files_go(storage: Storage) -> None:
    first, second = staged(storage, b"first"), staged(storage, b"second")
    assert storage.publish(first, "model=M/x.parquet")
    assert not storage.publish(second, "model=M/x.parquet")
    assert storage.read("model=M/x.parquet") == b"first"
    assert not first.exists()
    assert not second.exists()


def test_put_replaces_and_changes_the_version(storage: Storage) -> None:
    storage.put("lease.json", b"one")
    before = storage.entry("lease.json")
    storage.put("lease.json", b"another")
    after = storage.entry("lease.json")
    assert before is not None
    assert after is not None
    assert (before.size, after.size) == (3, 7)
    assert before.version != after.version
    assert storage.read("lease.json") == b"another"


def test_ranges_are_clipped_at_the_end(storage: Storage) -> None:
    storage.put("x", bytes(range(10)))
    assert storage.read_range("x", 2, 3) == bytes([2, 3, 4])
    assert storage.read_range("x", 8, 5) == bytes([8, 9])
    assert storage.read_range("x", 10, 1) == b""
    assert storage.read_range("x", 50, 1) == b""
    assert storage.read_range("x", 3, 0) == b""


def test_missing_files(storage: Storage) -> None:
    assert storage.entry("none") is None
    assert list(storage.list()) == []
    assert list(storage.list("no/folder")) == []
    storage.delete("none")
    with pytest.raises(FileNotFoundError):
        storage.read("none")
    with pytest.raises(FileNotFoundError):
        storage.read_range("none", 0, 1)
    with pytest.raises(FileNotFoundError):
        storage.open("none")


def test_readers_seek(storage: Storage) -> None:
    data = os.urandom(100_000)
    storage.put("x", data)
    with storage.open("x") as file:
        assert file.seek(-10, os.SEEK_END) == 99_990
        assert file.read() == data[-10:]
        file.seek(5)
        assert file.read(20) == data[5:25]
        assert file.tell() == 25
    assert sha256(storage.open("x")) == sha256(storage.open("x"))


def test_parquet_is_read_through_a_reader(storage: Storage) -> None:
    table = pa.table({"n": list(range(1000))})
    path = storage.staging() / "attempt"
    pq.write_table(table, path)
    storage.publish(path, "t.parquet")
    with storage.open("t.parquet") as file:
        assert pq.read_table(file).equals(table)


def test_listing_is_ordered_by_whole_names_and_by_folder(storage: Storage) -> None:
    names = ["a-b/x", "a.txt", "a/x", "a/y/z", "ab/x", "b"]
    for name in reversed(names):
        storage.create(name, b"12")
    assert [entry.name for entry in storage.list()] == sorted(names)
    assert [entry.name for entry in storage.list("a")] == ["a/x", "a/y/z"]
    assert [entry.name for entry in storage.list("a/")] == ["a/x", "a/y/z"]
    assert list(storage.list("b")) == []
    assert all(entry == storage.entry(entry.name) for entry in storage.list())


def test_staged_files_are_not_listed(storage: Storage) -> None:
    staged(storage, b"half")
    assert list(storage.list()) == []


def test_storages_travel_between_processes_by_their_root(tmp_path: Path) -> None:
    for url in (str(tmp_path), "memory://travel/x", "s3://bucket/x", "gs://bucket"):
        storage = open_storage(url)
        assert pickle.loads(pickle.dumps(storage)).root == storage.root == url
    assert isinstance(open_storage("s3://bucket/x"), ObjectStorage)


NAMES = st.sampled_from(["a", "b/c", "b/d", "b-c", "model=M%2F1/x"])
CALLS = st.lists(st.tuples(st.sampled_from(["create", "put", "publish", "delete"]), NAMES, st.binary(max_size=8)))


@settings(max_examples=30, deadline=None)
@given(calls=CALLS)
def test_storage_is_a_dictionary_whose_creates_never_replace(calls: list[tuple[str, str, bytes]]) -> None:
    run_calls(open_storage(f"memory://{uuid.uuid4().hex}"), calls)
    with tempfile.TemporaryDirectory() as folder:
        run_calls(open_storage(folder), calls)


def run_calls(storage: Storage, calls: list[tuple[str, str, bytes]]) -> None:
    expected: dict[str, bytes] = {}
    for call, name, data in calls:
        if call == "put":
            storage.put(name, data)
            expected[name] = data
        elif call == "delete":
            storage.delete(name)
            expected.pop(name, None)
        else:
            won = storage.create(name, data) if call == "create" else storage.publish(staged(storage, data), name)
            assert won == (name not in expected)
            expected.setdefault(name, data)
    assert {entry.name: storage.read(entry.name) for entry in storage.list()} == expected
    assert {entry.name: entry.size for entry in storage.list()} == {name: len(data) for name, data in expected.items()}


def race(root: str, mark: int, rounds: int, barrier: multiprocessing.synchronize.Barrier) -> None:
    storage = open_storage(root)
    wins = []
    for number in range(rounds):
        path = staged(storage, bytes([mark]) * 10_000)
        barrier.wait(timeout=60)
        if storage.publish(path, f"unit/{number:03d}"):
            wins.append(number)
    storage.create(f"wins/{mark}", bytes(wins))


def test_of_two_processes_exactly_one_publishes_each_name(tmp_path: Path) -> None:
    context, rounds = multiprocessing.get_context("fork"), 40
    barrier = context.Barrier(2)
    racers = [context.Process(target=race, args=(str(tmp_path), mark, rounds, barrier)) for mark in (1, 2)]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join(timeout=120)
        assert racer.exitcode == 0
    storage = LocalStorage(tmp_path)
    wins = {mark: set(storage.read(f"wins/{mark}")) for mark in (1, 2)}
    assert wins[1] | wins[2] == set(range(rounds))
    assert not wins[1] & wins[2]
    for mark in (1, 2):
        assert all(storage.read(f"unit/{number:03d}") == bytes([mark]) * 10_000 for number in wins[mark])
    assert list(storage.staging().iterdir()) == []


def test_of_many_threads_exactly_one_creates_an_object() -> None:
    storage = open_storage(f"memory://{uuid.uuid4().hex}")
    wins: list[int] = []

    def attempt(mark: int) -> None:
        if storage.create("x", bytes([mark])):
            wins.append(mark)

    threads = [threading.Thread(target=attempt, args=(mark,)) for mark in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert storage.read("x") == bytes(wins)
    assert len(wins) == 1


def test_listing_outlives_files_that_vanish(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    for name in ("a", "b/x", "c"):
        storage.create(name, b"")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    listing = storage.list()
    assert next(listing).name == "a"
    storage.delete("b/x")
    (tmp_path / "b").rmdir()
    storage.delete("c")
    assert list(listing) == []


def test_published_files_can_be_read_by_others(tmp_path: Path) -> None:
    LocalStorage(tmp_path).create("x", b"")
    mask = os.umask(0)
    os.umask(mask)
    assert (tmp_path / "x").stat().st_mode & 0o777 == 0o666 & ~mask


# Links that lead out of a folder

WRITES: dict[str, Callable[[LocalStorage, str], object]] = {
    "create": lambda storage, name: storage.create(name, b"ours"),
    "put": lambda storage, name: storage.put(name, b"ours"),
    "publish": lambda storage, name: storage.publish(staged(storage, b"ours"), name),
    "append": lambda storage, name: storage.append(name, b"ours"),
    "delete": lambda storage, name: storage.delete(name),
}


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """Somebody's folder with one file, beside the root."""
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / "x").write_bytes(b"theirs")
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("call", WRITES)
@pytest.mark.parametrize(("link", "name"), [("report", "report/x"), ("a/b", "a/b/c/x"), ("logs", "logs/new")])
@pytest.mark.parametrize("kind", ["absolute", "relative", "dangling"])
def test_nothing_is_written_or_removed_where_a_link_leads_out_of_the_root(
    tmp_path: Path, outside: Path, call: str, link: str, name: str, kind: str
) -> None:
    root = tmp_path / "root"
    (root / link).parent.mkdir(parents=True)
    target = outside / "none" if kind == "dangling" else outside
    (root / link).symlink_to(os.path.relpath(target, (root / link).parent) if kind == "relative" else target)
    with pytest.raises(PermissionError, match=f"{root / link}.*{target}"):
        WRITES[call](LocalStorage(root), name)
    assert contents(outside) == {"x": b"theirs"}
    assert sorted(path.name for path in outside.iterdir()) == ["x"]


@pytest.mark.parametrize("call", WRITES)
def test_names_that_climb_out_of_the_root_are_refused(tmp_path: Path, outside: Path, call: str) -> None:
    with pytest.raises(PermissionError, match="outside"):
        WRITES[call](LocalStorage(tmp_path / "root"), "../outside/x")
    assert contents(outside) == {"x": b"theirs"}


@pytest.mark.parametrize("call", WRITES)
def test_a_link_in_a_files_place_is_not_followed(tmp_path: Path, outside: Path, call: str) -> None:
    storage = LocalStorage(tmp_path / "root")
    storage.create("a/other", b"")
    (tmp_path / "root" / "a" / "x").symlink_to(outside / "x")
    if call == "append":
        with pytest.raises(OSError, match="x"):
            storage.append("a/x", b"ours")
    else:
        WRITES[call](storage, "a/x")
    assert contents(outside) == {"x": b"theirs"}


@pytest.mark.parametrize("call", WRITES)
def test_links_above_the_root_and_within_it_are_followed(tmp_path: Path, call: str) -> None:
    real = tmp_path / "real"
    (real / "root" / "there").mkdir(parents=True)
    (tmp_path / "link").symlink_to(real)
    (real / "alias").symlink_to(real / "root")
    (real / "root" / "here").symlink_to("there")
    for root in (tmp_path / "link" / "root", tmp_path / "link" / "alias"):
        storage = LocalStorage(root)
        WRITES[call](storage, "here/x")
        assert (storage.entry("there/x") is not None) == (call != "delete")
        storage.delete("here/x")
        assert storage.entry("there/x") is None


def hour_old(path: Path) -> Path:
    os.utime(path, (0, 0), follow_symlinks=False)
    return path


def test_a_staging_folder_that_leads_away_is_neither_used_nor_cleaned(tmp_path: Path, outside: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (root / ".attempts").symlink_to(outside)
    hour_old(outside / "x")
    storage = LocalStorage(root)
    for call in (
        storage.staging,
        lambda: clean_staging(storage, time.time() - 3600),
        lambda: storage.put("y", b""),
        lambda: storage.create("y", b""),
    ):
        with pytest.raises(PermissionError, match=f"attempts.*{outside}"):
            call()
    assert contents(outside) == {"x": b"theirs"}
    assert not (root / "y").exists()


def test_a_staging_folder_that_is_a_link_within_the_root_is_not_cleaned(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    storage.create("commits/x", b"")
    hour_old(tmp_path / "commits" / "x")
    (tmp_path / ".attempts").rmdir()
    (tmp_path / ".attempts").symlink_to("commits")
    with pytest.raises(OSError, match="attempts"):
        clean_staging(storage, time.time() - 3600)
    assert storage.entry("commits/x") is not None


def test_cleaning_removes_old_files_and_links_but_not_what_they_lead_to(storage: Storage, outside: Path) -> None:
    folder = storage.staging()
    hour_old(staged(storage, b"old"))
    (folder / "link").symlink_to(hour_old(outside / "x"))
    hour_old(folder / "link")
    (folder / "to a folder").symlink_to(outside)
    hour_old(folder / "to a folder")
    (folder / "folder").mkdir()
    hour_old(folder / "folder")
    new = staged(storage, b"new")
    clean_staging(storage, time.time() - 3600)
    assert sorted(folder.iterdir()) == sorted([new, folder / "folder"])
    assert contents(outside) == {"x": b"theirs"}


# The staging folder of an object store


def stage_and_die(url: str, temporary: str) -> None:
    tempfile.tempdir = temporary
    hour_old(staged(open_storage(url), b"half"))
    os.kill(os.getpid(), signal.SIGKILL)


def test_what_a_killed_process_staged_for_an_object_store_is_found_by_another(own_temporary_folder: Path) -> None:
    url = f"memory://{uuid.uuid4().hex}/runs/one"
    process = multiprocessing.get_context("spawn").Process(target=stage_and_die, args=(url, str(own_temporary_folder)))
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    storage = open_storage(f"{url}/")
    kept = staged(storage, b"at work")
    clean_staging(storage, time.time() - 3600)
    assert [path for path in own_temporary_folder.rglob("*") if path.is_file()] == [kept]
    assert len(list(own_temporary_folder.iterdir())) == 1


def test_runs_in_object_stores_stage_apart_and_in_private() -> None:
    first, second = (open_storage(f"memory://{name}/runs/one").staging() for name in ("a", "b"))
    assert first != second
    mask = os.umask(0)
    try:
        third = open_storage("memory://c").staging()
    finally:
        os.umask(mask)
    third.chmod(0o777)
    assert open_storage("memory://c").staging() == third
    assert {path.stat().st_mode & 0o777 for path in (first, second, third)} == {0o700}


@pytest.mark.parametrize("theirs", ["link", "dangling", "file", "owner"])
def test_a_staging_folder_that_others_made_is_refused(
    outside: Path, monkeypatch: pytest.MonkeyPatch, theirs: str
) -> None:
    storage = open_storage("memory://a")
    folder = storage.staging()
    if theirs == "owner":
        found = os.stat_result((*folder.lstat()[:4], os.getuid() + 1, *folder.lstat()[5:10]))
        monkeypatch.setattr(Path, "lstat", lambda path: found)
    else:
        shutil.rmtree(folder)
        if theirs == "file":
            folder.write_bytes(b"")
        else:
            folder.symlink_to(outside / "none" if theirs == "dangling" else outside)
    with pytest.raises(PermissionError, match=f"{folder}.*TMPDIR"):
        storage.staging()
    with pytest.raises(PermissionError, match=f"{folder}"):
        clean_staging(storage, time.time() + 3600)
    assert contents(outside) == {"x": b"theirs"}


def test_unknown_schemes_are_refused() -> None:
    with pytest.raises(UsageError, match=r"path: found 'ftp://x/y'.*s3://"):
        open_storage("ftp://x/y")


def test_locate_splits_folder_and_name(tmp_path: Path) -> None:
    storage, name = locate(str(tmp_path / "x.tar"))
    assert (storage.root, name) == (str(tmp_path), "x.tar")
    assert (locate("/x.tar")[0].root, locate("x.tar")[0].root) == ("/", os.getcwd())
    storage, name = locate("s3://bucket/a/x.tar")
    assert (storage.root, name) == ("s3://bucket/a", "x.tar")
