"""The index beside a shard, ``SHARD.index.parquet``: what was found in it, so that it need not be read again.

A row for each sample, with the columns of the manifest but `unit`: index, key, label, status, error, and offset and
size of each member. The file's metadata hold the shard's name, size, version (mtime in ns, or ETag) and, where it was
read whole, SHA-256; and its faults. An index counts only for a shard of this name, size and version.

The parts of a manifest (`pipeline.run.manifest_parts`) are stored in the same form.
"""

from __future__ import annotations

import dataclasses
import io
import json

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.shards.names import INDEX_SUFFIX
from pipeline.shards.survey import SAMPLES, Kind, QuarantineRecord, ShardRecord, Survey
from pipeline.storage.base import Storage
from pipeline.storage.jsontext import to_json

VERSION = 1
_META = b"ssig.index"


def index_name(shard: str) -> str:
    """The file name of the index of a shard."""
    return f"{shard}{INDEX_SUFFIX}"


def to_bytes(survey: Survey) -> bytes:
    """A survey as it is stored; equal surveys give equal bytes."""
    record = dataclasses.asdict(survey.record)
    del record["url"]  # the index goes where the shard goes
    about = {
        "version": VERSION,
        "shard": record,
        "quarantine": [dataclasses.astuple(fault) for fault in survey.quarantine],
    }
    buffer = io.BytesIO()
    table = survey.samples.replace_schema_metadata({_META: to_json(about).encode()})
    pq.write_table(table, buffer, compression="zstd")
    return buffer.getvalue()


def parsed(data: bytes) -> Survey | None:
    """The survey that a file holds, its shard without URL; None if the file holds none that can be trusted."""
    try:
        table = pq.read_table(io.BytesIO(data), partitioning=None)
        about = json.loads(table.schema.metadata[_META])
        if about["version"] != VERSION or not table.schema.equals(SAMPLES):
            return None
        record = ShardRecord(url="", **about["shard"])
        quarantine = [QuarantineRecord(shard, Kind(kind), *rest) for shard, kind, *rest in about["quarantine"]]
        return Survey(record, table, quarantine) if _is_within(table, record) else None
    except (pa.ArrowException, OSError, KeyError, TypeError, ValueError):
        return None


def is_of(known: Survey, shard: ShardRecord) -> bool:
    """Whether an index was made of a shard as it is now."""
    made_of = known.record
    return (made_of.name, made_of.size, made_of.version) == (shard.name, shard.size, shard.version)


def current_index(storage: Storage, shard: ShardRecord) -> Survey | None:
    """The index beside a shard, if there is one that was made of it as it is now."""
    try:
        known = parsed(storage.read(index_name(shard.name)))
    except FileNotFoundError:
        return None
    return known if known is not None and is_of(known, shard) else None


def write_index(storage: Storage, survey: Survey) -> None:
    """Stores the index of a shard beside it, in place of another.

    Raises:
        OSError: the folder cannot be written.
    """
    storage.put(index_name(survey.record.name), to_bytes(survey))


def _is_within(table: pa.Table, record: ShardRecord) -> bool:
    """Whether the rows are of the shard, numbered from 0, with members that lie in it."""
    if table.num_rows == 0:
        return True
    if table["index"].to_pylist() != list(range(table.num_rows)):
        return False
    if pc.unique(table["shard"]).to_pylist() != [record.name]:
        return False
    members = pc.list_flatten(table["members"])
    if len(members) == 0:
        return True
    offsets, sizes = (pc.struct_field(members, [place]) for place in (1, 2))
    if offsets.null_count or sizes.null_count or pc.min(offsets).as_py() < 0 or pc.min(sizes).as_py() < 0:
        return False
    return bool(pc.max(pc.add(offsets, sizes)).as_py() <= record.size)
