"""Parquet files that appear whole or not at all.

A table is written in the staging folder, closed, fsynced, read back and checked against the manifest's keys, and then
published under its final name, exclusively. Nothing half-written ever has a name that a glob over the run finds.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.shards.samples import ManifestRow
from pipeline.storage import fault_points
from pipeline.storage.base import Storage
from ssig.errors import SsigError

# Bytes of a row group, before compression: one map of 224 x 224 is read within about a megabyte, not within its unit.
ROW_GROUP_BYTES = 1 << 20


class DamagedTableError(SsigError):
    """A Parquet file of a run that is not what its manifest and schema say."""


def publish_table(
    storage: Storage, name: str, table: pa.Table, rows: Sequence[ManifestRow], attempt: str
) -> tuple[bool, dict[str, Any]]:
    """Publishes a table of a unit; the first attempt wins.

    Args:
        storage: the run.
        name: final name of the file.
        table: one row for each of `rows`, in order.
        rows: the unit's manifest rows.
        attempt: id of this attempt, part of the staged file's name.

    Returns:
        Whether this attempt's file was published, and `{"sha256", "bytes"}` of what is now under the name.

    Raises:
        DamagedTableError: a file of another attempt is there and is not whole.
        OSError: the storage cannot be written.
    """
    # A hash, since labels may be long; the attempt's id keeps two attempts at one name apart.
    staged = storage.staging() / f"{hashlib.sha256(name.encode()).hexdigest()[:16]}.{attempt}.part"
    staged.parent.mkdir(parents=True, exist_ok=True)
    fault_points.point("before-stage", name)
    try:
        with staged.open("wb") as file:
            write_table(table, file)
            file.flush()
            fault_points.point("after-write", name)
            os.fsync(file.fileno())
        fault_points.point("after-fsync", name)
        check_table(read_table(staged, name), table.schema, rows, name)
        identity = identity_of(staged.read_bytes())
        fault_points.point("before-publish", name)
        if storage.publish(staged, name):
            fault_points.point("after-publish", name)
            return True, identity
    finally:
        staged.unlink(missing_ok=True)
    existing = storage.read(name)
    check_table(read_table(existing, name), table.schema, rows, name)
    return False, identity_of(existing)


def write_table(table: pa.Table, file: BinaryIO) -> None:
    """Writes a table of a unit as Parquet, in row groups of about `ROW_GROUP_BYTES`."""
    rows = max(1, ROW_GROUP_BYTES * table.num_rows // max(1, table.nbytes))
    pq.write_table(table, file, row_group_size=rows, **parquet_options(table.schema))


def parquet_options(schema: pa.Schema) -> dict[str, Any]:
    """How every table of a run is stored.

    Only flat columns get a dictionary: for maps and curves, whose values rarely repeat, it only takes time.
    """
    flat = [field.name for field in schema if pa.types.is_primitive(field.type) or pa.types.is_string(field.type)]
    return {"compression": "zstd", "write_page_checksum": True, "use_dictionary": flat}


def read_table(source: bytes | Path | BinaryIO, name: str, columns: Sequence[str] | None = None) -> pa.Table:
    """A Parquet file's table.

    Args:
        source: the file's bytes, its path, or an open stream of it.
        name: of the file, for messages.
        columns: those that are wanted; those that the table does not have are left out. None for all.

    Raises:
        DamagedTableError: it does not parse, or a page is not what its checksum says.
    """
    try:
        stream = pa.BufferReader(source) if isinstance(source, bytes) else source
        with pq.ParquetFile(stream, page_checksum_verification=True) as file:
            present = set(file.schema_arrow.names)
            return file.read(None if columns is None else [column for column in columns if column in present])
    except (pa.ArrowInvalid, OSError) as error:
        raise DamagedTableError(f"{name}: not a readable Parquet file ({error})") from None


def check_table(table: pa.Table, schema: pa.Schema, rows: Sequence[ManifestRow], name: str) -> None:
    """Checks schema, row count and key set.

    Raises:
        DamagedTableError: what differs.
    """
    if not table.schema.equals(schema):
        raise DamagedTableError(f"{name}: its schema is not the run's")
    expected = [(row.index, row.key) for row in rows]
    actual = list(zip(table["index"].to_pylist(), table["key"].to_pylist(), strict=True))
    if actual != expected:
        raise DamagedTableError(
            f"{name}: holds {len(actual)} rows that are not the {len(expected)} of its unit's manifest"
        )


def identity_of(data: bytes) -> dict[str, Any]:
    """Hash and size of a file's content, as commit records hold them."""
    return {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}


def clean_staging(storage: Storage, older_than: float) -> None:
    """Removes staged files last touched before `older_than` (seconds since the epoch), which killed attempts left.

    No link is followed: a staging folder that is a link is refused, and a link in it is removed like a file.

    Raises:
        OSError: the staging folder is a link, or cannot be read.
    """
    try:
        folder = os.open(storage.staging(), os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except FileNotFoundError:
        return
    try:
        for name in os.listdir(folder):
            with suppress(FileNotFoundError):  # another attempt has just published or removed it
                status = os.stat(name, dir_fd=folder, follow_symlinks=False)
                if status.st_mtime < older_than and not stat.S_ISDIR(status.st_mode):
                    os.unlink(name, dir_fd=folder)
    finally:
        os.close(folder)
