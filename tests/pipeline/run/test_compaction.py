"""Compaction: what becomes of the files of a run, and who reads the same rows as before."""

from __future__ import annotations

import errno
import itertools
import json
import shutil
import uuid
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import polars as pl
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from pipeline.driver.synthetic import SyntheticRun, write_synthetic_run
from pipeline.run import compaction, compaction_plan
from pipeline.run.compaction import CompactionResult, compact, is_pending, planned, rounds, settle_all
from pipeline.run.compaction_plan import plan_tables
from pipeline.run.compactions import Compactions
from pipeline.run.deletion import uncommit
from pipeline.run.directory import RunDirectory
from pipeline.run.lease import Lease
from pipeline.run.reader import Run, open_run
from pipeline.run.records import RefusedError
from pipeline.storage import fault_points, open_storage
from ssig.errors import UsageError

IMAGES, UNITS = 22, 6
METRICS = "metrics/model=synthetic/method=ig"
MAPS = "attributions/model=synthetic/method=ig"

# By name, how many rows the plainest call finds of each label and key.
READERS: dict[str, Callable[[str], Counter[tuple[str, str]]]] = {
    "duckdb": lambda path: Counter(duckdb.sql(f"select method, key from '{path}/**/*.parquet'").fetchall()),
    "pandas": lambda path: _counted(pd.read_parquet(path).to_dict("records")),
    "polars": lambda path: _counted(pl.scan_parquet(path).collect().to_dicts()),
    "pyarrow": lambda path: _counted(pq.read_table(path).to_pylist()),
    "pyarrow.dataset": lambda path: _counted(ds.dataset(path, partitioning="hive").to_table().to_pylist()),
}


def _counted(rows: list[dict[Any, Any]]) -> Counter[tuple[str, str]]:
    return Counter((str(row["method"]), str(row["key"])) for row in rows)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    plan = SyntheticRun(images=IMAGES, metrics=["insertion"], maps="float16", side=4, unit_size=4)
    return Path(write_synthetic_run(tmp_path_factory.mktemp("synthetic"), plan).root)


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "run"))


def compacted(run: Path | str, **options: Any) -> CompactionResult:
    directory = RunDirectory(open_storage(str(run)))
    with Lease(directory.storage) as lease:
        return compact(directory, lease, **options)


def files(run: Path, table: str) -> list[str]:
    return sorted(path.name for path in (run / table).iterdir())


def contents(run: Run) -> tuple[Any, ...]:
    maps = [[(*names, values.tobytes()) for *names, values in run.maps(*label)] for label in run.config]
    return (
        run.metrics(),
        maps,
        [list(run.tables("attributions", *label, ["key", "score"])) == [] for label in run.config],
    )


def test_tables_become_one_file_each_and_hold_the_same_rows(run: Path, finished: Path) -> None:
    result = compacted(run)
    assert {(table.files, table.parts, table.rows) for table in result.tables} == {(UNITS, 1, IMAGES)}
    assert len(result.tables) == 4
    assert not result.skipped
    assert not result.failed
    for table in (METRICS, MAPS):
        assert files(run, table) == ["part-000000.parquet"]
        assert pq.read_schema(run / table / "part-000000.parquet").equals(
            pq.read_schema(next((finished / table).iterdir())), check_metadata=True
        )
    assert contents(open_run(run)) == contents(open_run(finished))
    assert json.loads((run / "run.json").read_text())["layout"][-1] == "compacted"
    assert not is_pending(RunDirectory(open_storage(str(run))))
    assert compacted(run).tables == []


@pytest.mark.parametrize("table", ["metrics", "attributions"])
@pytest.mark.parametrize("reader", READERS)
def test_plain_readers_find_the_same_rows(run: Path, reader: str, table: str) -> None:
    before = READERS[reader](f"{run}/{table}")
    compacted(run)
    assert READERS[reader](f"{run}/{table}") == before
    assert before.total() == 2 * IMAGES


def test_rows_of_a_part_are_in_order_and_its_row_groups_can_be_left_out(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.run.compaction_parts.ROW_GROUP_ROWS", 5)
    compacted(run)
    file = pq.ParquetFile(run / METRICS / "part-000000.parquet")
    groups = [file.metadata.row_group(number) for number in range(file.num_row_groups)]
    assert [group.num_rows for group in groups] == [5, 5, 5, 5, 2]
    indices = file.read(["index"])["index"].to_pylist()
    assert indices == sorted(indices)
    names = [group.column(number).path_in_schema for group in groups[:1] for number in range(group.num_columns)]
    for column in ("unit", "shard", "index"):
        bounds = [group.column(names.index(column)).statistics for group in groups]
        assert all(one.max <= other.min for one, other in itertools.pairwise(bounds))


def test_a_run_that_was_opened_before_reads_on(run: Path, finished: Path) -> None:
    opened = open_run(run)
    tables = opened.tables("metrics", "synthetic", "ig")
    first = next(tables)
    compacted(run)
    rows = [first, *tables]
    assert sum(map(len, rows)) == IMAGES
    assert contents(opened) == contents(open_run(finished))
    assert opened.relation().count("*").fetchall() == [(2 * IMAGES,)]


def test_single_units_rows_and_maps_are_found_in_parts(run: Path, finished: Path) -> None:
    compacted(run)
    opened, before = open_run(run), open_run(finished)
    for commit in before.commits:
        for name in commit.files:
            assert opened.read(name).equals(before.read(name))
            assert opened.read(name, ["key", "status"]).column_names == ["key", "status"]
    name = f"{MAPS}/000000-000008-000012.parquet"
    assert opened.stored.row(name, "000000.tar", 9, ["key", "map"]).equals(
        before.stored.row(name, "000000.tar", 9, ["key", "map"])
    )
    assert opened.stored.row(name, "elsewhere.tar", 9, ["key"]).num_rows == 0
    dataset, expected = (each.dataset("synthetic", "ig") for each in (opened, before))
    assert [(values.tolist(), row) for values, row in dataset] == [(values.tolist(), row) for values, row in expected]


def test_the_digest_stays_so_that_no_report_is_written_again(run: Path) -> None:
    before = open_run(run).digest
    compacted(run)
    assert open_run(run).digest == before


def test_only_finished_labels_are_compacted(run: Path) -> None:
    directory = RunDirectory(open_storage(str(run)))
    uncommit(directory, "000000-000004-000008", [label for label in directory.labels if label.method == "ig"])
    result = compacted(run)
    assert result.skipped == {"synthetic / ig": f"1 of {UNITS} units are not done"}
    assert {table.table.rpartition("=")[2] for table in result.tables} == {"gradient"}
    assert len(files(run, METRICS)) == UNITS


def test_a_dry_run_says_the_same_and_writes_nothing(run: Path) -> None:
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    plan = planned(RunDirectory(open_storage(str(run))))
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before
    done = compacted(run)
    assert [(t.table, t.files, t.parts, t.rows) for t in plan.tables] == [
        (t.table, t.files, t.parts, t.rows) for t in done.tables
    ]


def test_small_runs_and_maps_can_be_left_alone(run: Path) -> None:
    assert compacted(run, more_than=UNITS).tables == []
    assert len(compacted(run, maps=False).tables) == 2
    assert len(files(run, MAPS)) == UNITS


def test_parts_are_cut_by_bytes_and_made_in_rounds(run: Path, finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    size = max(path.stat().st_size for path in (run / MAPS).iterdir())
    monkeypatch.setattr(compaction_plan, "MAPS_PART_BYTES", 2 * size)
    monkeypatch.setattr(compaction, "ROUND_BYTES", 1)
    plans, _ = plan_tables(RunDirectory(open_storage(str(run))), maps=True, more_than=1)
    assert len(list(rounds(plans))) == 2 + 2 * UNITS // 2
    compacted(run)
    assert files(run, MAPS) == [f"part-{number:06d}.parquet" for number in range(UNITS // 2)]
    assert files(run, METRICS) == ["part-000000.parquet"]
    assert contents(open_run(run)) == contents(open_run(finished))


@pytest.mark.parametrize("change", ["flip", "remove"])
def test_a_damaged_table_stays_as_it_is(run: Path, change: str) -> None:
    path = run / METRICS / "000000-000004-000008.parquet"
    data = path.read_bytes()
    path.unlink()
    if change == "flip":
        path.write_bytes(data[:100] + bytes([data[100] ^ 1]) + data[101:])
    result = compacted(run)
    assert list(result.failed) == [METRICS]
    assert "ssig audit" in result.failed[METRICS]
    assert len(result.tables) == 3
    assert "part-000000.parquet" not in files(run, METRICS)
    assert not (run / "compactions" / "staged").exists()


def test_a_table_with_a_strange_file_stays_as_it_is(run: Path) -> None:
    (run / METRICS / "notes.txt").write_text("mine")
    result = compacted(run)
    assert "notes.txt" in result.skipped[METRICS]
    assert len(files(run, METRICS)) == UNITS + 1


def test_a_strange_file_that_comes_between_survives_the_switch(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def hook(point: str, about: str) -> None:
        if point == "before-exchange" and about == METRICS:
            (run / METRICS / "notes.txt").write_text("mine")

    monkeypatch.setattr(fault_points, "hook", hook)
    compacted(run)
    assert files(run, METRICS) == ["notes.txt", "part-000000.parquet"]


def test_a_unit_that_lost_its_commit_leaves_its_part(run: Path, finished: Path) -> None:
    compacted(run)
    unit = "000000-000004-000008"
    directory = RunDirectory(open_storage(str(run)))
    uncommit(directory, unit, directory.labels)
    directory.refresh()
    assert is_pending(directory)
    with Lease(directory.storage) as lease:
        assert len(settle_all(directory, lease)) == 4
        assert settle_all(directory, lease) == []
    assert files(run, METRICS) == ["part-000001.parquet"]
    assert READERS["duckdb"](f"{run}/metrics").total() == 2 * (IMAGES - 4)
    for path in finished.rglob(f"{unit}.*"):  # it is done again
        place = run / path.relative_to(finished)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, place)
    assert contents(open_run(run)) == contents(open_run(finished))
    result = compacted(run)
    assert {(table.files, table.parts) for table in result.tables} == {(2, 1), (2, 2)}
    assert files(run, METRICS) == ["part-000002.parquet"]
    assert files(run, MAPS) == ["part-000001.parquet", "part-000002.parquet"]
    assert contents(open_run(run)) == contents(open_run(finished))


def test_a_damaged_record_is_refused_by_name(run: Path) -> None:
    compacted(run)
    record = run / "compactions" / f"{METRICS}.json"
    record.write_text(record.read_text().replace('"bytes": ', '"bytes": 1'))
    with pytest.raises(UsageError, match="checksum"):
        open_run(run).metrics()
    with pytest.raises(RefusedError, match=r"compactions/metrics/.*checksum"):
        compacted(run)


def test_a_part_that_does_not_hold_what_its_record_says_is_refused(run: Path) -> None:
    compacted(run)
    part = run / METRICS / "part-000000.parquet"
    table = pq.read_table(part)
    part.unlink()
    pq.write_table(table.slice(1), part)
    with pytest.raises(UsageError, match="holds 21 rows"):
        open_run(run).metrics()


def test_a_full_disk_leaves_nothing_behind_and_the_run_as_it_was(
    run: Path, finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    passed: list[str] = []

    def hook(point: str, about: str) -> None:
        passed.extend([about] * (point == "after-compaction-part"))
        if len(passed) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(fault_points, "hook", hook)
    with pytest.raises(OSError, match="No space left"):
        compacted(run)
    monkeypatch.setattr(fault_points, "hook", None)
    assert not (run / "compactions").exists()
    assert {path.name for path in (run / METRICS).iterdir()} == {path.name for path in (finished / METRICS).iterdir()}
    assert len(compacted(run).tables) == 4


class _Crash(BaseException):
    """Ends a compaction at a point, as far as one process can do that to itself."""


@pytest.fixture
def bucket(finished: Path) -> str:
    """The run in an object store."""
    url = f"memory://{uuid.uuid4().hex}/run"
    storage = open_storage(url)
    for path in finished.rglob("*"):
        if path.is_file():
            storage.put(str(path.relative_to(finished)), path.read_bytes())
    return url


def listed(url: str, table: str) -> Counter[str]:
    """How often each key of a label lies in the folder of a table."""
    storage = open_storage(url)
    keys: Counter[str] = Counter()
    for entry in storage.list(table):
        with storage.open(entry.name) as stream:
            keys.update(pq.read_table(stream, columns=["key"])["key"].to_pylist())
    return keys


def test_a_run_in_an_object_store_is_compacted(bucket: str, finished: Path) -> None:
    compacted(bucket)
    assert [entry.name for entry in open_storage(bucket).list(METRICS)] == [f"{METRICS}/part-000000.parquet"]
    assert contents(open_run(bucket)) == contents(open_run(finished))


@pytest.mark.parametrize(
    "point",
    [
        *("after-layout", "after-compaction-part", "before-compaction-record"),
        *("after-compaction-record", "after-unit-files", "after-switch"),
    ],
)
def test_cut_off_in_an_object_store_no_row_is_there_twice(
    bucket: str, finished: Path, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    def hook(name: str, about: str) -> None:
        if name == point:
            raise _Crash

    expected = listed(bucket, METRICS)
    monkeypatch.setattr(fault_points, "hook", hook)
    with pytest.raises(_Crash):
        compacted(bucket)
    monkeypatch.setattr(fault_points, "hook", None)
    for table in (METRICS, MAPS):
        assert not listed(bucket, table) - expected
    assert contents(open_run(bucket)) == contents(open_run(finished))
    compacted(bucket)
    for table in (METRICS, MAPS):
        assert listed(bucket, table) == expected
    assert Compactions(open_storage(bucket)).leftovers() == []
    assert contents(open_run(bucket)) == contents(open_run(finished))


def test_one_part_number_is_never_used_twice(run: Path) -> None:
    compacted(run)
    directory = RunDirectory(open_storage(str(run)))
    before = Compactions(directory.storage).of(METRICS)
    assert before is not None
    assert before.next_part == 1
    assert replace(before, next_part=2).content != before.content
