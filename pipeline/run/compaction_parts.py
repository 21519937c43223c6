"""Writes one part of a compacted table, and proves it before anybody can see it.

The rows of units go into the part in order, a row group at a time, so that no more than one is in memory beside the
units that are read ahead. Then the part is read back: it must hold the same units, with the same number of rows and
the same values in every column. Only then is it staged in the run.
"""

from __future__ import annotations

import hashlib
import os
import uuid
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.run.compaction_content import content_hash
from pipeline.run.compaction_reading import by_unit
from pipeline.run.compaction_record import Part, PartUnit
from pipeline.run.layout import part_name, staged_folder
from pipeline.run.publishing import DamagedTableError, parquet_options
from pipeline.storage import fault_points
from pipeline.storage.base import Storage, sha256

# Of a row group: a few thousand rows of numbers, or tens of maps of 224 x 224, before compression.
ROW_GROUP_ROWS = 4096
ROW_GROUP_BYTES = 4 << 20


class UnitTable(NamedTuple):
    """The rows of a unit that go into a part; `table_hash`: SHA-256 of the unit's file, as its commit names it."""

    unit: str
    table_hash: str
    rows: pa.Table


def stage_part(storage: Storage, table: str, number: int, units: Iterable[UnitTable]) -> Part:
    """Writes, checks and stages a part.

    Args:
        storage: the run.
        table: the table's folder.
        number: of the part.
        units: their rows, in order; at least one unit.

    Raises:
        DamagedTableError: a unit has other columns than the first, or the part reads back otherwise than it was
            written; nothing is staged.
        OSError: the storage cannot be written.
    """
    name = f"{table}/{part_name(number)}"
    path = storage.staging() / f"{hashlib.sha256(name.encode()).hexdigest()[:16]}.{uuid.uuid4().hex[:12]}.part"
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        schema, written = _write(path, units, name)
        _check(path, schema, written, name)
        part = Part(part_name(number), sha256(path.open("rb")), path.stat().st_size, tuple(written))
        storage.upload(path, f"{staged_folder(table)}/{part.name}")
    finally:
        with suppress(FileNotFoundError):
            path.unlink()
    fault_points.point("after-compaction-part", name)
    return part


def _write(path: Path, units: Iterable[UnitTable], name: str) -> tuple[pa.Schema, list[PartUnit]]:
    """Writes the rows; the columns of the part, and what its record says of each unit."""
    written: list[PartUnit] = []
    rows = iter(_recorded(units, written))
    first = next(rows)
    with path.open("wb") as file:
        with pq.ParquetWriter(file, first.schema, **parquet_options(first.schema)) as writer:
            for group in _row_groups(_alike(first, rows, name)):
                writer.write_table(group, row_group_size=max(1, group.num_rows))
        file.flush()
        os.fsync(file.fileno())
    return first.schema, written


def _recorded(units: Iterable[UnitTable], written: list[PartUnit]) -> Iterator[pa.Table]:
    """The rows of units; each unit is recorded in `written` as it passes."""
    for unit, table_hash, rows in units:
        written.append(PartUnit(unit, rows.num_rows, table_hash, content_hash(rows)))
        yield rows


def _alike(first: pa.Table, later: Iterator[pa.Table], name: str) -> Iterator[pa.Table]:
    yield first
    for table in later:
        if not table.schema.equals(first.schema, check_metadata=True):
            raise DamagedTableError(f"{name}: its units have different columns")
        yield table


def _row_groups(tables: Iterator[pa.Table]) -> Iterator[pa.Table]:
    """The rows of tables, cut anew."""
    waiting: list[pa.Table] = []
    count, size = 0, 0
    for table in tables:
        size = size or _rows_of_a_group(table)
        waiting.append(table)
        count += table.num_rows
        if count >= size:
            whole = pa.concat_tables(waiting)
            full = count - count % size
            for start in range(0, full, size):
                yield whole.slice(start, size)
            waiting, count = ([whole.slice(full)], count - full) if full < count else ([], 0)
    if count:
        yield pa.concat_tables(waiting)


def _rows_of_a_group(table: pa.Table) -> int:
    return max(1, min(ROW_GROUP_ROWS, ROW_GROUP_BYTES * int(table.num_rows) // max(1, int(table.nbytes))))


def _check(path: Path, schema: pa.Schema, written: list[PartUnit], name: str) -> None:
    """Reads a part back.

    Raises:
        DamagedTableError: what differs.
    """
    expected = iter(written)
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as parquet:
            if not parquet.schema_arrow.equals(schema, check_metadata=True):
                raise DamagedTableError(f"{name}: reads back with other columns")
            groups = (parquet.read_row_group(number) for number in range(parquet.num_row_groups))
            for unit, rows in by_unit(groups):
                recorded = next(expected, None)
                if recorded is None or (recorded.unit, recorded.rows) != (unit, rows.num_rows):
                    raise DamagedTableError(f"{name}: reads back with other rows of unit {unit}")
                if recorded.content != content_hash(rows):
                    raise DamagedTableError(f"{name}: reads back with other values in unit {unit}")
    except (pa.ArrowException, OSError) as error:
        raise DamagedTableError(f"{name}: cannot be read back ({error})") from None
    if (left := next(expected, None)) is not None:
        raise DamagedTableError(f"{name}: reads back without unit {left.unit}")
