"""The manifest: every sample that a run expects, listed once before any work.

    rows = samples of shard 0, then of shard 1, …; a unit = at most `unit_size` consecutive rows of one shard.

A sample is all members of one key, wherever in its shard they lie. A member that its key already has opens a row
of its own (`duplicate`), to which the later members of that key belong. Where a shard is cut, the sample whose
payload is cut is `truncated`; at a cut between payloads the last sample is, if its extensions differ from those of
the sample before it. A damaged, doubled or skipped member is also a quarantine record, which says what and where;
so is a shard without images.

Rows lie in a Parquet file whose row groups hold whole shards, and are written and read one group at a time: what stays
in memory is a line for each shard and each fault.
"""

from __future__ import annotations

import base64
import dataclasses
import functools
import hashlib
import json
import shutil
import tempfile
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from typing import BinaryIO, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.shards.manifest_table import FILE, MANIFEST
from pipeline.shards.samples import ManifestRow, Member, Status, Unit
from pipeline.shards.survey import Kind, QuarantineRecord, ShardRecord, Survey
from pipeline.shards.surveying import Surveyor, at_once, look_up, survey, survey_all
from pipeline.storage.base import Storage, is_object_url
from pipeline.storage.jsontext import to_json
from ssig.errors import UsageError

_META = b"ssig.manifest"
_GROUP_ROWS = 8192  # at least, of a row group: its entry in the file's index is as large as a hundred rows
_GROUPS_IN_MEMORY = 4  # so that units that are done again do not make row groups be read again and again
_PIECE_ROWS = 4096  # of a column that is read from end to end


class Manifest:
    """The expected samples of a run, in a Parquet file of `MANIFEST`: one row each, units one after another.

    Args:
        file: the Parquet file, which stays open.
        root: what the manifest is of, for messages.

    Attributes:
        shards: every shard that was read, in order; a unit's ordinal counts them.
        quarantine: faults of the shards.

    Raises:
        UsageError: field ``manifest.parquet``; it is damaged or not a manifest. Methods that read rows raise it too.
    """

    def __init__(self, file: BinaryIO, root: str) -> None:
        self._file, self._root = file, root
        with _readable(root):
            self._parquet = pq.ParquetFile(file)
            if not self._parquet.schema_arrow.equals(MANIFEST):
                raise ValueError("its columns are not those of a manifest")
            about = json.loads(self._parquet.metadata.metadata[_META])
            self.shards = tuple(ShardRecord(*values) for values in about["shards"])
            self.quarantine = tuple(
                QuarantineRecord(shard, Kind(kind), *rest) for shard, kind, *rest in about["quarantine"]
            )
            self._spans = _spans(self._parquet.metadata)
        self._row_group = functools.lru_cache(_GROUPS_IN_MEMORY)(self._parquet.read_row_group)

    def __len__(self) -> int:
        return int(self._parquet.metadata.num_rows)

    def units(self) -> Iterator[Unit]:
        """Every unit, in order, read as they are asked for."""
        last = None
        for ids in self._column("unit"):
            for id_ in pc.run_end_encode(ids).values.to_pylist():
                if id_ != last:  # a unit may go on in the next piece of the column
                    last = id_
                    yield self._unit(id_)

    @functools.cached_property
    def unit_count(self) -> int:
        return sum(1 for _ in self.units())

    def rows(self, unit_id: str) -> list[ManifestRow]:
        """The samples of a unit, in order.

        Raises:
            KeyError: there is no such unit.
        """
        rows: list[ManifestRow] = []
        for number, (first, last) in enumerate(self._spans):
            if first <= unit_id <= last:
                with _readable(self._root):
                    group = self._row_group(number)
                    rows += map(row_of, group.filter(pc.equal(group["unit"], unit_id)).to_pylist())
        if not rows:
            raise KeyError(unit_id)
        return rows

    @functools.cached_property
    def hash(self) -> str:
        """SHA-256 of the rows and of the identities of the shards, however these are stored.

        Columns are read one after another, in pieces.
        """
        digest = hashlib.sha256(to_json([shard.identity for shard in self.shards]).encode())
        for name, kind, length, pieces in self._flat_columns():
            digest.update(to_json([name, length]).encode())
            for data in _integers(pieces) if pa.types.is_integer(kind) else _texts(pieces):
                digest.update(data)
        return digest.hexdigest()

    @functools.cached_property
    def file_hash(self) -> str:
        """SHA-256 of the file: of the stored rows, the shards and their faults."""
        self._file.seek(0)
        return hashlib.file_digest(self._file, "sha256").hexdigest()  # type: ignore[arg-type]

    def save(self, storage: Storage) -> bool:
        """Stores the manifest unless the run has one; whether it did."""
        staged = storage.staging() / uuid.uuid4().hex
        self._file.seek(0)
        with staged.open("wb") as copy:
            shutil.copyfileobj(self._file, copy)
        return storage.publish(staged, FILE)

    def _unit(self, id_: str) -> Unit:
        with _readable(self._root):
            ordinal, start, stop = map(int, id_.split("-"))
            return Unit(ordinal, self.shards[ordinal].name, start, stop)

    def _column(self, name: str) -> Iterator[pa.Array]:
        """A column, in pieces."""
        with _readable(self._root):
            for batch in self._parquet.iter_batches(_PIECE_ROWS, columns=[name]):
                yield batch.column(0)

    def _flat_columns(self) -> Iterator[tuple[str, pa.DataType, int, Iterable[pa.Array]]]:
        """Name, type, length and pieces of the columns without nesting: members as their number per row and one
        column per field."""
        for column in MANIFEST:
            if column.name != "members":
                yield column.name, column.type, len(self), self._column(column.name)
        yield "members", pa.int32(), len(self), map(pc.list_value_length, self._column("members"))
        total = sum(len(pc.list_flatten(piece)) for piece in self._column("members"))
        for index, column in enumerate(MANIFEST.field("members").type.value_type):
            pieces = (pc.struct_field(pc.list_flatten(piece), [index]) for piece in self._column("members"))
            yield f"members.{column.name}", column.type, total, pieces


@contextmanager
def _readable(root: str) -> Iterator[None]:
    """Turns what reading a damaged file raises into a `UsageError`; storage that fails is no damage."""
    try:
        yield
    except OSError as error:
        if error.errno is not None:
            raise
        raise _damaged(root, error) from error
    except (pa.ArrowException, AttributeError, LookupError, TypeError, ValueError) as error:
        raise _damaged(root, error) from error


def _damaged(root: str, error: Exception) -> UsageError:
    return UsageError(FILE, f"{root}: {error}", "the manifest that the run was started with")


def _spans(metadata: pq.FileMetaData) -> list[tuple[str, str]]:
    """First and last unit of each row group."""
    groups = (metadata.row_group(number).column(0).statistics for number in range(metadata.num_row_groups))
    return [(group.min, group.max) for group in groups]


def _integers(pieces: Iterable[pa.Array]) -> Iterator[bytes]:
    for piece in pieces:
        # Outside the range of every column, so that null differs from each number.
        yield np.asarray(piece.cast(pa.int64()).fill_null(np.iinfo(np.int64).min), "<i8").tobytes()


def _texts(pieces: Iterable[pa.Array]) -> Iterator[bytes]:
    """One JSON list, however the column is cut."""
    separator = "["
    for piece in pieces:
        if len(piece):
            yield (separator + to_json(piece.to_pylist())[1:-1]).encode()
            separator = ", "
    yield b"[]" if separator == "[" else b"]"


def load(storage: Storage) -> Manifest:
    """The manifest of a run.

    Raises:
        FileNotFoundError: the run has none.
        UsageError: field ``manifest.parquet``; it is damaged or not a manifest.
    """
    file = storage.open(FILE)
    if is_object_url(storage.root):  # fetched once: its row groups are many small ranges
        with file as remote:
            file = _temporary()
            shutil.copyfileobj(remote, file)
    return Manifest(file, storage.root)


def build(
    shards: Sequence[str],
    unit_size: int,
    limit: int | None = None,
    workers: int | None = None,
    *,
    by: Surveyor = survey,
    may_be_empty: bool = False,
) -> Manifest:
    """Lists the samples of shards, in a temporary file.

    Args:
        shards: paths or URLs, as `pipeline.shards.patterns.expand` gives them.
        unit_size: the most samples of a unit.
        limit: only the first so many samples, and only the shards that hold them.
        workers: shards surveyed at a time; None for as many as their place allows.
        by: how a shard is surveyed; `pipeline.shards.surveying.survey` by default.
        may_be_empty: whether there may be no sample.

    Raises:
        UsageError: field ``dataset.shards``; no shard has a readable sample.
        OSError: an object store does not answer, or refuses a shard.
    """
    with closing(survey_all(look_up(shards), workers or at_once(shards), by)) as surveys:
        return assemble(surveys, unit_size, limit, may_be_empty=may_be_empty)


def assemble(
    surveys: Iterable[Survey], unit_size: int, limit: int | None = None, *, may_be_empty: bool = False
) -> Manifest:
    """The manifest of surveyed shards, in a temporary file.

    Args:
        surveys: of the shards, in order; none is asked for once the limit is reached.
        unit_size, limit: as for `build`.
        may_be_empty: whether there may be no sample.

    Raises:
        UsageError: field ``dataset.shards``; no shard has a readable sample.
    """
    records: list[ShardRecord] = []
    quarantine: list[QuarantineRecord] = []
    unwritten: list[pa.Table] = []
    count = 0
    file = _temporary()
    # Arrow's copy of the schema goes last, with metadata that are known at the end only.
    with pq.ParquetWriter(file, MANIFEST, store_schema=False) as writer:
        for ordinal, found in enumerate(surveys):
            samples = found.samples.slice(0, None if limit is None else limit - count)
            if samples.num_rows:
                unwritten.append(with_units(samples, ordinal, unit_size))
            if sum(table.num_rows for table in unwritten) >= _GROUP_ROWS:
                writer.write_table(pa.concat_tables(unwritten))
                unwritten.clear()
            records.append(found.record)
            quarantine += found.quarantine
            count += samples.num_rows
            if count == limit:
                break
        if unwritten:
            writer.write_table(pa.concat_tables(unwritten))
        about = {
            "shards": [dataclasses.astuple(record) for record in records],
            "quarantine": [dataclasses.astuple(record) for record in quarantine],
        }
        metadata = {**MANIFEST.metadata, _META: to_json(about).encode()}
        # Only Arrow's own copy of the schema holds the descriptions of columns. It repeats the other metadata, which
        # it would else hide.
        arrow = MANIFEST.with_metadata(metadata).serialize().to_pybytes()
        writer.add_key_value_metadata({**metadata, "ARROW:schema": base64.b64encode(arrow)})
    if count == 0 and not may_be_empty:
        raise no_samples(quarantine)
    return Manifest(file, "the shards")


def no_samples(quarantine: Sequence[QuarantineRecord]) -> UsageError:
    """The refusal of shards without a sample, by their faults."""
    first, *others = [f"{record.shard}: {record.reason}" for record in quarantine] or ["no samples"]
    reasons = first + (f" (and {len(others)} more)" if others else "")
    return UsageError("dataset.shards", reasons, "at least one shard with a readable sample")


def _temporary() -> BinaryIO:
    """A file that is gone once it is closed."""
    return cast(BinaryIO, tempfile.TemporaryFile(prefix="ssig-"))


def with_units(samples: pa.Table, ordinal: int, unit_size: int) -> pa.Table:
    """The samples of one shard, cut into units of at most `unit_size`."""
    count = samples.num_rows
    starts = [index - index % unit_size for index in range(count)]
    units = [Unit(ordinal, "", start, min(start + unit_size, count)).id for start in starts]
    return samples.add_column(0, MANIFEST.field("unit"), [pa.array(units, pa.string())]).cast(MANIFEST)


def row_of(values: dict[str, object]) -> ManifestRow:
    """A row of the manifest, from its columns; `values` loses its members."""
    members = tuple(Member(**member) for member in values.pop("members"))  # type: ignore[attr-defined]
    return ManifestRow(**{**values, "status": Status(values["status"]), "members": members})  # type: ignore[arg-type]
