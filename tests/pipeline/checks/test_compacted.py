"""Audit and repair of runs whose tables are compacted."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from pipeline.checks.audit import audit
from pipeline.checks.repair import repair
from pipeline.checks.sampling import Sample
from pipeline.driver.synthetic import SyntheticRun, write_synthetic_run
from pipeline.run.compaction import compact
from pipeline.run.directory import RunDirectory
from pipeline.run.lease import Lease
from pipeline.run.reader import open_run
from pipeline.run.records import RefusedError
from pipeline.storage import fault_points, open_storage

UNITS, IMAGES = 8, 32
METRICS = "metrics/model=synthetic/method=ig"
MAPS = "attributions/model=synthetic/method=ig"
PART = "part-000000.parquet"
THIRD = "000000-000008-000012"


@pytest.fixture(scope="module")
def compacted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two labels in which each row group holds two units."""
    plan = SyntheticRun(images=IMAGES, metrics=["insertion"], maps="float16", side=4, unit_size=4)
    directory = write_synthetic_run(tmp_path_factory.mktemp("synthetic"), plan)
    with pytest.MonkeyPatch.context() as patch, Lease(directory.storage) as lease:
        patch.setattr("pipeline.run.compaction_parts.ROW_GROUP_ROWS", 8)
        compact(directory, lease)
    return Path(directory.root)


@pytest.fixture
def run(compacted: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(compacted, tmp_path / "run"))


def flip(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


def flip_in_group(path: Path, number: int) -> None:
    """Flips a bit of the values of a row group."""
    column = pq.read_metadata(path).row_group(number).column(17)
    flip(path, column.data_page_offset + column.total_compressed_size - 3)


def undone(run: Path) -> set[tuple[str, str]]:
    """(method, unit) of what is left to do."""
    directory = RunDirectory(open_storage(str(run)))
    return {(method, unit.id) for unit, methods in directory.remaining(directory.labels) for method in methods}


def rows(run: Path) -> dict[str, int]:
    found = duckdb.sql(f"select method, count(*) from '{run}/metrics/**/*.parquet' group by all").fetchall()
    return {str(method): int(count) for method, count in found}


@pytest.mark.parametrize("sample", [None, Sample(3, 0)])
def test_a_compacted_run_is_sound(run: Path, sample: Sample | None) -> None:
    result = audit(str(run), sample=sample)
    assert result.problems == []
    if sample is None:
        assert set(result.statuses) == {"synthetic / ig", "synthetic / gradient"}
        assert all(statuses == {"ok": IMAGES} for statuses in result.statuses.values())


@pytest.mark.parametrize("table", [METRICS, MAPS])
def test_a_flipped_bit_costs_the_units_of_its_row_group(run: Path, table: str) -> None:
    flip_in_group(run / table / PART, 1)
    problems = audit(str(run)).problems
    assert len(problems) == 4  # the part, two units, and the rows that are missing
    assert THIRD in " ".join(problems)
    mended = repair(str(run))
    assert not mended.sound
    units = {THIRD, "000000-000012-000016"}
    assert undone(run) == {("ig", unit) for unit in units}
    assert rows(run) == {"ig": IMAGES - 8, "gradient": IMAGES}
    assert all("units have no commit" in line or "rows committed" in line for line in audit(str(run)).problems)
    assert open_run(run).metrics().num_rows == 2 * IMAGES - 8
    assert audit(str(run), sample=Sample(100, 0)).statuses["synthetic / ig"] == {"ok": IMAGES - 8}


def test_a_sample_finds_a_flipped_bit_by_the_values_of_a_unit(run: Path) -> None:
    flip_in_group(run / METRICS / PART, 1)
    result = audit(str(run), sample=Sample(UNITS, 0))
    assert result.sample is not None
    assert result.sample.damaged == 2


def test_a_part_that_is_gone_costs_its_units(run: Path) -> None:
    (run / METRICS / PART).unlink()
    assert any(f"{METRICS}/{PART}: missing" in problem for problem in audit(str(run)).problems)
    repair(str(run))
    assert len(undone(run)) == UNITS
    assert {method for method, _ in undone(run)} == {"ig"}
    assert not any((run / MAPS).iterdir())


def test_values_that_were_changed_on_purpose_are_found(run: Path) -> None:
    """The pages have right checksums: the hash of the rows alone tells."""
    path = run / METRICS / PART
    table = pq.read_table(path, partitioning=None)
    column = table.schema.get_field_index("insertion")
    changed = pc.if_else(pc.equal(table["unit"], THIRD), pa.scalar(0.5, pa.float32()), table["insertion"])
    path.unlink()
    pq.write_table(table.set_column(column, table.schema.field(column), changed), path)
    problems = audit(str(run)).problems
    assert any(f"its rows of unit {THIRD} are not the committed ones" in problem for problem in problems)
    repair(str(run))
    assert undone(run) == {("ig", THIRD)}


def test_a_part_of_other_bytes_and_the_same_rows_is_written_again(run: Path) -> None:
    path = run / METRICS / PART
    table = pq.read_table(path, partitioning=None)
    path.unlink()
    pq.write_table(table, path, compression="snappy")
    (problem,) = audit(str(run)).problems
    assert "its bytes are not those that its record names" in problem
    assert repair(str(run)).sound
    assert audit(str(run)).problems == []
    assert [file.name for file in (run / METRICS).iterdir()] == ["part-000001.parquet"]


def test_a_unit_file_beside_its_part_is_found_and_goes(run: Path) -> None:
    table = pq.read_table(run / METRICS / PART, partitioning=None)
    path = run / METRICS / f"{THIRD}.parquet"
    pq.write_table(table.filter(pc.equal(table["unit"], THIRD)), path)
    (problem,) = audit(str(run)).problems
    assert "its rows lie in" in problem
    assert repair(str(run)).sound
    assert not path.exists()


def test_a_part_that_no_record_names_is_found_and_goes(run: Path) -> None:
    shutil.copy(run / METRICS / PART, run / METRICS / "part-000007.parquet")
    (problem,) = audit(str(run)).problems
    assert "no record of a compacted table names it" in problem
    assert repair(str(run)).sound


class _Crash(BaseException):
    pass


@pytest.mark.parametrize("point", ["after-compaction-part", "after-compaction-record", "after-exchange"])
def test_a_compaction_that_was_cut_off_is_said_and_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    directory = write_synthetic_run(tmp_path, SyntheticRun(images=12, methods=["ig"], metrics=[], unit_size=4))

    def hook(name: str, about: str) -> None:
        if name == point:
            raise _Crash

    monkeypatch.setattr(fault_points, "hook", hook)
    with Lease(directory.storage) as lease, pytest.raises(_Crash):
        compact(directory, lease)
    monkeypatch.setattr(fault_points, "hook", None)
    (problem,) = audit(directory.root).problems
    assert "a compaction was cut off" in problem
    repair(directory.root)
    assert audit(directory.root).problems == []


def edit(change: Callable[[dict[str, object]], None]) -> Callable[[Path], None]:
    def apply(path: Path) -> None:
        record = json.loads(path.read_text())
        change(record)
        path.write_text(json.dumps(record))

    return apply


@pytest.mark.parametrize("change", [edit(lambda record: record.update(next_part=7)), lambda path: path.write_text("")])
def test_a_damaged_record_ends_the_audit(run: Path, change: Callable[[Path], None]) -> None:
    change(run / "compactions" / f"{METRICS}.json")
    with pytest.raises(RefusedError, match=f"compactions/{METRICS}.json"):
        audit(str(run))


def test_without_its_record_a_table_is_done_again(run: Path) -> None:
    (run / "compactions" / f"{METRICS}.json").unlink()
    assert not audit(str(run)).ok
    repair(str(run))
    assert undone(run) == {("ig", unit.id) for unit in RunDirectory(open_storage(str(run))).manifest.units()}
    assert rows(run) == {"gradient": IMAGES}


def test_a_stranger_among_the_records_is_found(run: Path) -> None:
    (run / "compactions" / "notes.txt").write_text("mine")
    (problem,) = audit(str(run)).problems
    assert "compactions/notes.txt: unexpected file" in problem
