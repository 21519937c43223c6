"""Commit records that lie in a file: what was stored is read, by threads too, and little is in memory."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pipeline.run.records import CommitRecord
from pipeline.run.stored_commits import CommitStore, StoredCommits

COUNT = 2000


def records(count: int = COUNT) -> Iterator[CommitRecord]:
    for number in range(count):
        names = [f"{kind}/model=m/method=ig/{number:06d}.parquet" for kind in ("attributions", "metrics")]
        yield CommitRecord(
            unit=f"{number:06d}",
            attempt=f"attempt {number}",
            fingerprint="f" * 64,
            rows=64,
            statuses={"ok": 63, "error": 1},
            files={name: {"sha256": f"{number:064x}", "bytes": number} for name in names},
            seconds={"attribute": number / 7},
            source=f"commits/batch=1/{number:06d}.json",
            is_whole=number % 2 == 0,
        )


def stored(count: int = COUNT) -> StoredCommits:
    store = CommitStore()
    units = [commit.unit for commit in records(count)]
    return StoredCommits(store, units, [store.add(commit) for commit in records(count)])


def test_records_are_read_as_they_were_stored() -> None:
    commits, expected = stored(), list(records())
    assert list(commits) == expected
    assert commits[-1] == expected[-1]
    assert list(commits[3:5]) == expected[3:5]
    assert expected[7] in commits
    assert commits[3:].of_unit("000003") == expected[3]


def test_a_record_can_be_added_after_one_was_read() -> None:
    store = CommitStore()
    first, second = records(2)
    number = store.add(first)
    assert store.read(number) == first
    assert store.read(store.add(second)) == second
    assert store.read(number) == first


def test_the_commit_of_a_unit_is_found() -> None:
    commits = stored(50)
    for commit in records(50):
        assert commits.of_unit(commit.unit) == commit
    for unit in ("", "000000x", "999999"):
        assert commits.of_unit(unit) is None
    assert stored(0).of_unit("000000") is None


def test_threads_read_at_once() -> None:
    commits, expected = stored(), list(records())
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(commits.__getitem__, [*range(COUNT)] * 4)) == expected * 4


def test_memory_holds_where_a_record_lies_and_no_more() -> None:
    stored(2)  # what the first file takes
    given = list(records())  # beforehand: their texts are interned, in a table of all that the process has
    tracemalloc.start()
    try:
        store = CommitStore()
        commits = StoredCommits(store, [commit.unit for commit in given], map(store.add, given))
        gc.collect()
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(commits) == COUNT
    assert held < 50 * COUNT  # 2,000 bytes each if they were held


def test_a_full_disk_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.TemporaryFile", lambda **_: open("/dev/full", "r+b"))  # noqa: SIM115
    with pytest.raises(OSError, match=r"No space left on device: /.* for the commit records of a run \(TMPDIR"):
        stored()


def test_a_folder_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "none"))
    assert list(StoredCommits(CommitStore(), [], [])) == []  # a run without commits needs no file
    with pytest.raises(OSError, match=r"No such file or directory: .*/none for the commit records .*TMPDIR"):
        stored()
