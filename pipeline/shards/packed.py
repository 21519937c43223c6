"""The record of a packing, beside its shards: what the files of the source were, and which shards hold them.

``source.parquet`` has a row for each file of the source: field, name, size and time of change. It is written last,
so where it is the shards are whole. A source that has changed since is told by it without reading an image.
"""

from __future__ import annotations

import io
import json
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.shards.classes import FILE as CLASSES
from pipeline.shards.index import index_name
from pipeline.shards.items import unreadable
from pipeline.shards.names import IMAGES, SOURCE
from pipeline.shards.own_data import OwnData, source_files
from pipeline.shards.pack import SHARD_SIZE, shard_name
from pipeline.shards.presence import parquet_files
from pipeline.storage.base import Storage
from pipeline.storage.jsontext import to_json
from ssig.errors import UsageError

_META = b"ssig.packed"
_SCHEMA = pa.schema(
    [("field", pa.string()), ("name", pa.string()), ("size", pa.int64()), ("mtime_ns", pa.int64())],
)

Files = dict[tuple[str, str], tuple[int, int]]  # (field, name) -> (bytes, time of change in ns)


@dataclass(frozen=True)
class About:
    """What was packed.

    Attributes:
        name: what the shards are called.
        shards: names of the shards, in order: all, or the first ones where a limit needs no more.
        images: how many the source has.
        labelled: whether every image has a class.
    """

    name: str
    shards: tuple[str, ...]
    images: int
    labelled: bool


@dataclass(frozen=True)
class Packed:
    """A packing that is done."""

    about: About
    files: Files


def look(data: OwnData) -> Files:
    """The files of the source as they are now.

    Raises:
        UsageError: a file or folder that is not there or cannot be read.
    """
    files: Files = {}
    for field, path, name in source_files(data):
        try:
            stat = path.stat()
        except OSError as error:
            raise unreadable(path, error, field) from error
        files[field, name] = stat.st_size, stat.st_mtime_ns
    return files


def read_record(storage: Storage) -> Packed | None:
    """The record of a packing; None if there is none.

    Raises:
        UsageError: field ``dataset.shards_out``; it cannot be read.
    """
    if storage.entry(SOURCE) is None:
        return None
    try:
        table = pq.read_table(io.BytesIO(storage.read(SOURCE)))
        about = json.loads(table.schema.metadata[_META])
        files = {
            (row["field"], row["name"]): (row["size"], row["mtime_ns"])
            for batch in table.to_batches()
            for row in batch.to_pylist()
        }
        return Packed(_about(about), files)
    except (pa.ArrowException, KeyError, TypeError, ValueError) as error:
        where = f"{storage.root}/{SOURCE}"
        raise UsageError(
            "dataset.shards_out", where, f"the record of a packing ({error}); delete it to pack again"
        ) from None


def _about(values: dict[str, Any]) -> About:
    return About(str(values["name"]), tuple(values["shards"]), int(values["images"]), bool(values["labelled"]))


def write_record(storage: Storage, about: About, files: Files) -> None:
    rows = sorted((field, name, *known) for (field, name), known in files.items())
    columns = [list(column) for column in zip(*rows, strict=True)]
    table = pa.Table.from_arrays(
        [pa.array(values, kind) for values, kind in zip(columns, _SCHEMA.types, strict=True)],
        schema=_SCHEMA.with_metadata({_META: to_json(asdict(about)).encode()}),
    )
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    storage.put(SOURCE, buffer.getvalue())
    with suppress(OSError):  # not empty: another command is at work there
        storage.staging().rmdir()


def refuse_changes(before: Files, now: Files, root: str) -> None:
    """Refuses a source that is no longer as it was packed.

    Raises:
        UsageError: the field of the first file that differs; how many others do.
    """
    changed = [key for key in sorted(before.keys() | now.keys()) if before.get(key) != now.get(key)]
    if not changed:
        return
    field, name = changed[0]
    more = f" (and {len(changed) - 1} more)" if len(changed) > 1 else ""
    found = f"{name} {_difference(before.get(changed[0]), now.get(changed[0]))} since it was packed into {root}{more}"
    raise UsageError(field, found, f"the files as they were packed; {_how_to_go_on(root)}")


def _how_to_go_on(root: str) -> str:
    return f"for the new ones type another --out; to go on with the packed ones type --shards '{root}/*.tar'"


def _difference(before: tuple[int, int] | None, now: tuple[int, int] | None) -> str:
    if before is None or now is None:
        return "is new" if before is None else "is gone"
    return f"has {now[0]} bytes, not {before[0]}," if before[0] != now[0] else "was written again"


def planned(name: str, images: int, limit: int | None) -> tuple[str, ...]:
    """The names of the shards that hold the first `limit` of so many images; a shard is packed whole or not at all."""
    count = -(-(images if limit is None else min(images, limit)) // SHARD_SIZE)
    return tuple(shard_name(name, number) for number in range(count))


def check_source(packed: Packed, data: OwnData, root: str, *, labelled: bool) -> Files:
    """The files of a source, which are as they were when it was packed.

    Args:
        packed: the record.
        data: the source.
        root: of the shards.
        labelled: whether every image must have a class.

    Raises:
        UsageError: the source is gone or has changed, or has no classes and they are needed.
    """
    if not Path(data.images).exists() and not parquet_files(data.images):
        raise UsageError(IMAGES, f"{data.images}: gone since it was packed into {root}", _how_to_go_on(root))
    if labelled and not packed.about.labelled:
        allowed = "--target predicted, as before; or another --out, and --labels FILE.csv"
        raise UsageError(IMAGES, f"images packed into {root} without classes", allowed)
    files = look(data)
    refuse_changes(packed.files, files, root)
    return files


def own_files(storage: Storage, folder: str) -> frozenset[str]:
    """Names, below the root of `storage`, of what a packing into `folder` has written."""
    names = {SOURCE, CLASSES}
    try:
        schema = pq.read_schema(io.BytesIO(storage.read(f"{folder}/{SOURCE}")))
        shards = json.loads(schema.metadata[_META])["shards"]
        names |= {*shards, *map(index_name, shards)}
    except (OSError, pa.ArrowException, KeyError, TypeError, ValueError):  # no record, or none that can be read
        pass
    return frozenset(f"{folder}/{name}" for name in names)
