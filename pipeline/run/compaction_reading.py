"""Reads the rows of units, wherever they lie: in files of their own, or in parts of compacted tables.

A unit is asked for by the name that its file has or had, which is the name in its commit. A compaction may go on while
a run is read: a file that is gone is looked for where it is moved to, and then the records are read again.
"""

from __future__ import annotations

import itertools
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.run.compaction_record import Part, PartUnit
from pipeline.run.compactions import Compactions
from pipeline.run.layout import ATTRIBUTIONS, TABLE_SUFFIX, former_folder, staged_folder
from pipeline.run.publishing import DamagedTableError
from pipeline.storage.base import Storage
from pipeline.storage.many import in_order

UNIT = "unit"
_LOOKS = 4  # at the records, before a file counts as missing
_KEPT_BYTES = 64 << 20  # of row groups: units are mostly read in order, and share them
_FOOTERS_KEPT = 64
_LARGE_READERS = 3  # of tables of maps, which have megabytes
# An object store answers in tens of milliseconds, and a table of numbers is decoded in a few: more threads than cores
# would wait for each other there, and take twice the processor time.
_FETCHERS, _DECODERS = 16, 8
_AHEAD = 32  # tables of numbers that are decoded while the caller works

Value = TypeVar("Value")


@dataclass(frozen=True)
class Place:
    """Where the rows of a unit lie.

    Attributes:
        files: where the file may be; the first that is there is read.
        part: the part, and what it records of the unit; None for a file of the unit's own.
        unit: what the part's record says of the unit.
    """

    files: tuple[str, ...]
    part: Part | None = None
    unit: PartUnit | None = None


@dataclass(frozen=True)
class _Footer:
    """What a part says of itself: its metadata and columns, and first and last unit of each row group."""

    metadata: pq.FileMetaData
    schema: pa.Schema
    spans: tuple[tuple[str, str], ...]


class StoredTables:
    """The tables of a run.

    Args:
        storage: the run.
        is_compacted: whether its records are looked for at once; else when a file is missing.

    All methods may be called by several threads. They raise, unless they say otherwise:

    Raises:
        FileNotFoundError: no file holds the rows.
        DamagedTableError: the file is no table, or does not hold the rows that its record says.
        RefusedError: the record of a compacted table is damaged.
        OSError: the storage does not give a file.
    """

    def __init__(self, storage: Storage, *, is_compacted: bool = True) -> None:
        self.storage = storage
        self.compactions = Compactions(storage)
        self._is_compacted = is_compacted
        self._lock = threading.Lock()
        self._groups: OrderedDict[tuple[str, int, tuple[str, ...] | None], pa.Table] = OrderedDict()
        self._footers: OrderedDict[str, _Footer] = OrderedDict()

    def refresh(self) -> None:
        """Reads the records of compacted tables again from now on."""
        self._is_compacted = True
        self.compactions.refresh()

    def place(self, name: str) -> Place:
        """Where the rows of a unit lie; `name`: of its file."""
        table, _, file = name.rpartition("/")
        compaction = self.compactions.of(table) if self._is_compacted else None
        if compaction is None:
            return Place((name,))
        unit = file.removesuffix(TABLE_SUFFIX)
        part = compaction.by_unit.get(unit)
        if part is None:  # its folder may be exchanged at this moment
            return Place((name, f"{former_folder(table)}/{file}"))
        return Place(part_files(table, part), part, compaction.units[unit])

    def read(self, name: str, columns: Sequence[str] | None = None) -> pa.Table:
        """The rows of a unit; of `columns`, those that its table has."""

        def read(place: Place) -> pa.Table:
            if place.part is not None and place.unit is not None:
                tables = list(self._part_rows(place.files, place.part, [place.unit], columns))
                return pa.concat_tables(tables)
            if not _has_maps(name):
                return _decoded(name, self._first(place, self.storage.read), columns)
            with self._parquet(place) as parquet:
                return _checked(lambda: parquet.read(_present(parquet.schema_arrow, columns)), name)

        return self._persistently(name, read)

    def read_many(self, names: Sequence[str], columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """The rows of many units, in the order of `names`: a table a unit, or a row group of a part.

        A row group is read once for all its units that follow each other in `names`. Several files, or row groups, are
        read at a time; of tables of maps, which are large, few.
        """
        position = 0
        while position < len(names):
            place = self.place(names[position])
            if place.part is None or place.unit is None:
                later_own = itertools.takewhile(lambda name: self.place(name).part is None, names[position + 1 :])
                own = [names[position], *later_own]
                yield from self._own_tables(own, columns)
                position += len(own)
                continue
            units = [place.unit]
            for name in names[position + 1 :]:
                later = self.place(name)
                if later.files != place.files or later.unit is None:
                    break
                units.append(later.unit)
            yield from self._part_rows(place.files, place.part, units, columns)
            position += len(units)

    def part_schema(self, place: Place) -> pa.Schema:
        """The columns of the part at a place."""
        if place.part is None:
            raise ValueError("a file of a unit's own")
        return self._footer(place.files, place.part).schema

    def files(self, names: Sequence[str]) -> list[str] | None:
        """The files that hold the rows of some units, and no others; None where a part holds others too."""
        files: dict[str, None] = {}
        held: dict[str, set[str]] = {}
        parts: dict[str, Part] = {}
        for name in names:
            place = self.place(name)
            if place.part is None or place.unit is None:
                files[name] = None
                continue
            key = place.files[0]
            if key not in parts:
                parts[key] = place.part
                files[next((file for file in place.files if self.storage.entry(file) is not None), key)] = None
            held.setdefault(key, set()).add(place.unit.unit)
        if any(len(held[key]) < len(part.units) for key, part in parts.items()):
            return None
        return list(files)

    def row(self, name: str, shard: str, index: int, columns: Sequence[str]) -> pa.Table:
        """The row of a sample of a unit, of `columns` those that there are; no row where there is none.

        Only row groups whose statistics allow the sample are read.
        """
        wanted = list(dict.fromkeys(["shard", "index", *columns]))

        def read(place: Place) -> pa.Table:
            with self._parquet(place) as parquet:
                return _checked(lambda: _row(parquet, shard, index, wanted), name)

        return self._persistently(name, read)

    def _own_tables(self, names: Sequence[str], columns: Sequence[str] | None) -> Iterator[pa.Table]:
        """The tables of units that had files of their own a moment ago."""
        if _has_maps(names[0]):
            yield from in_order(lambda name: self.read(name, columns), names, _LARGE_READERS, ahead=1)
            return

        def fetched(name: str) -> tuple[str, bytes | None]:
            try:
                return name, self.storage.read(name)
            except FileNotFoundError:
                return name, None

        def table(item: tuple[str, bytes | None]) -> pa.Table:
            name, data = item
            return self.read(name, columns) if data is None else _decoded(name, data, columns)

        decoders = min(_DECODERS, os.cpu_count() or 1)
        fetching = in_order(fetched, names, _FETCHERS)
        yield from in_order(table, fetching, decoders, ahead=_AHEAD // decoders)

    def _persistently(self, name: str, read: Callable[[Place], Value]) -> Value:
        """What `read` gives, for the place of a unit as it is now; looks again where its file is gone."""
        for look in range(_LOOKS):
            try:
                return read(self.place(name))
            except FileNotFoundError:
                if look == _LOOKS - 1:
                    raise
                self.refresh()
        raise AssertionError("unreachable")

    def _part_rows(
        self, files: Sequence[str], part: Part, units: Sequence[PartUnit], columns: Sequence[str] | None
    ) -> Iterator[pa.Table]:
        """The rows of units of a part, a row group at a time."""
        names = [unit.unit for unit in units]
        whole = len(names) == len(part.units)
        wanted = pa.array(names, pa.string())
        first, last, expected, rows = min(names), max(names), sum(unit.rows for unit in units), 0
        read_columns = None if columns is None else tuple(dict.fromkeys([*columns, UNIT]))
        spans = self._footer(files, part).spans
        numbers = [number for number, (low, high) in enumerate(spans) if high >= first and low <= last]
        groups = in_order(lambda n: self._group(files, part, n, read_columns), numbers, _LARGE_READERS, ahead=1)
        for table in groups:
            if not whole:
                table = table.filter(pc.is_in(table[UNIT], wanted))
            rows += table.num_rows
            if table.num_rows:
                yield table if columns is None or UNIT in columns else table.drop([UNIT])
        if rows != expected:
            raise DamagedTableError(f"{files[0]}: holds {rows} rows of units that have {expected}")

    def _group(self, files: Sequence[str], part: Part, number: int, columns: tuple[str, ...] | None) -> pa.Table:
        """A row group of a part; the last few are kept."""
        key = part.sha256, number, columns
        with self._lock:
            if key in self._groups:
                self._groups.move_to_end(key)
                return self._groups[key]
        metadata = self._footer(files, part).metadata
        with self._parquet(Place(tuple(files), part), metadata) as parquet:
            chosen = _present(parquet.schema_arrow, columns)
            table = _checked(lambda: parquet.read_row_group(number, chosen), files[0])
        with self._lock:
            self._groups[key] = table
            while len(self._groups) > 1 and sum(group.nbytes for group in self._groups.values()) > _KEPT_BYTES:
                self._groups.popitem(last=False)
        return table

    def _footer(self, files: Sequence[str], part: Part) -> _Footer:
        with self._lock:
            if part.sha256 in self._footers:
                self._footers.move_to_end(part.sha256)
                return self._footers[part.sha256]
        with self._parquet(Place(tuple(files), part)) as parquet:
            footer = _checked(
                lambda: _Footer(parquet.metadata, parquet.schema_arrow, _unit_spans(parquet.metadata)), files[0]
            )
        with self._lock:
            self._footers[part.sha256] = footer
            while len(self._footers) > _FOOTERS_KEPT:
                self._footers.popitem(last=False)
        return footer

    @contextmanager
    def _parquet(self, place: Place, metadata: pq.FileMetaData | None = None) -> Iterator[pq.ParquetFile]:
        """The file of a place, open."""
        with (
            closing(self._first(place, self.storage.open)) as stream,
            _parquet_of(stream, place.files[0], metadata) as parquet,
        ):
            yield parquet

    def _first(self, place: Place, get: Callable[[str], Value]) -> Value:
        """What `get` gives of the first file of a place that is there."""
        for file in place.files:
            try:
                return get(file)
            except FileNotFoundError:
                continue
        raise FileNotFoundError(f"{self.storage.root}/{place.files[0]}: no such file")


def by_unit(tables: Iterable[pa.Table]) -> Iterator[tuple[str, pa.Table]]:
    """Rows in order, cut into units: (unit, its rows)."""
    unit, pieces = "", list[pa.Table]()
    for table in tables:
        runs = pc.run_end_encode(table[UNIT].combine_chunks())
        start = 0
        for name, end in zip(runs.values.to_pylist(), runs.run_ends.to_pylist(), strict=True):
            if pieces and name != unit:
                yield unit, pa.concat_tables(pieces)
                pieces = []
            unit = name
            pieces.append(table.slice(start, end - start))
            start = end
    if pieces:
        yield unit, pa.concat_tables(pieces)


def _has_maps(name: str) -> bool:
    """Whether a table of the run has maps, by its name: it has megabytes then."""
    return name.startswith(f"{ATTRIBUTIONS}/")


def part_files(table: str, part: Part) -> tuple[str, ...]:
    """Where a part of a table may be: in its place, staged, or for an instant in a folder that is renamed away."""
    return tuple(f"{folder}/{part.name}" for folder in (table, staged_folder(table), former_folder(table)))


def _parquet_of(stream: Any, name: str, metadata: pq.FileMetaData | None = None) -> pq.ParquetFile:
    return _checked(lambda: pq.ParquetFile(stream, metadata=metadata, page_checksum_verification=True), name)


def _decoded(name: str, data: bytes, columns: Sequence[str] | None) -> pa.Table:
    """The rows of a table of numbers; of `columns`, those that it has. Several are decoded at a time, each by one
    thread."""
    with _parquet_of(pa.BufferReader(data), name) as parquet:
        return _checked(lambda: parquet.read(_present(parquet.schema_arrow, columns), use_threads=False), name)


def _present(schema: pa.Schema, columns: Sequence[str] | None) -> list[str] | None:
    present = set(schema.names)
    return None if columns is None else [column for column in columns if column in present]


def _checked(read: Callable[[], Value], name: str) -> Value:
    """What `read` gives of a table.

    Raises:
        DamagedTableError: the file is no table, or a page of it is damaged; storage that fails is no damage.
    """
    try:
        return read()
    except OSError as error:
        if error.errno is not None:
            raise
        raise DamagedTableError(f"{name}: not a readable Parquet file ({error})") from None
    except (pa.ArrowException, KeyError) as error:
        raise DamagedTableError(f"{name}: not a readable Parquet file ({error})") from None


def _unit_spans(metadata: pq.FileMetaData) -> tuple[tuple[str, str], ...]:
    """First and last unit of each row group; without statistics, those of any unit."""
    return tuple(_span(metadata.row_group(number), UNIT, ("", "~")) for number in range(metadata.num_row_groups))


def _span(group: Any, column: str, unknown: tuple[Any, Any]) -> tuple[Any, Any]:
    """The least and the greatest value of a column in a row group."""
    for number in range(group.num_columns):
        chunk = group.column(number)
        if chunk.path_in_schema == column:
            statistics = chunk.statistics
            if statistics is not None and statistics.has_min_max:
                return statistics.min, statistics.max
    return unknown


def _row(parquet: pq.ParquetFile, shard: str, index: int, columns: Sequence[str]) -> pa.Table:
    stored_columns = _present(parquet.schema_arrow, columns) or []
    for number in range(parquet.metadata.num_row_groups):
        group = parquet.metadata.row_group(number)
        (low, high), (first, last) = _span(group, "index", (index, index)), _span(group, "shard", (shard, shard))
        if low <= index <= high and first <= shard <= last:
            table = parquet.read_row_group(number, stored_columns)
            table = table.filter(pc.and_(pc.equal(table["index"], index), pc.equal(table["shard"], shard)))
            if table.num_rows:
                return table
    return parquet.schema_arrow.empty_table().select(stored_columns)
