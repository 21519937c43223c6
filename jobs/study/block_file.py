"""A block's file: a Parquet table of an image and a method a row, and a record of how it was measured.

The table has the scalars of each map: no image, no map. The record is JSON in the file's metadata: the block, its
methods, mean curves, numbers of the whole data set, and where, when and by which commands they were measured. A file
is replaced at once, so a command that is killed leaves the old one or the new one.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.storage.jsontext import to_json

RECORD = b"ssig.study"
KEYS = ("key", "method")
MOST_BYTES = 20_000_000  # of all files together

Record = dict[str, Any]


def write(path: Path, table: pa.Table, record: Mapping[str, Any]) -> None:
    """Writes a block's file in place of an earlier one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    metadata = {RECORD: to_json(record, compact=True).encode()}
    floats = [field.name for field in table.schema if pa.types.is_floating(field.type)]
    texts = [field.name for field in table.schema if field.name not in floats]
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    pq.write_table(
        table.replace_schema_metadata(metadata),
        beside,
        compression="zstd",
        compression_level=19,
        use_dictionary=texts,
        use_byte_stream_split=floats,
        write_statistics=False,
    )
    os.replace(beside, path)


def read(path: Path) -> tuple[pa.Table, Record]:
    """A block's table and record."""
    table = pq.read_table(path)
    record: Record = json.loads(table.schema.metadata[RECORD])
    return table.replace_schema_metadata(None), record


def record_of(path: Path) -> Record:
    """A block's record alone."""
    record: Record = json.loads(pq.read_schema(path).metadata[RECORD])
    return record


def merged(old: tuple[pa.Table, Record] | None, new: tuple[pa.Table, Record]) -> tuple[pa.Table, Record]:
    """A block's table and record after more of its methods were measured.

    Args:
        old: as they are; None before the first.
        new: of the methods that were measured now, which replace those of the same label.
    """
    if old is None:
        return new
    (old_table, before), (table, after) = old, new
    gone = {*after["methods"], *after["refused"]}
    kept = old_table.filter(pc.invert(pc.is_in(old_table["method"], pa.array(sorted(gone), pa.string()))))
    record = {**before, **after}
    for name in ("methods", "refused"):
        record[name] = {**_without(before[name], gone), **after[name]}
    for name in ("curves", "whole"):
        columns = sorted({*before[name], *after[name]})
        record[name] = {
            column: {**_without(before[name].get(column, {}), gone), **after[name].get(column, {})}
            for column in columns
        }
    record["measured"] = [*before["measured"], *after["measured"]]
    return pa.concat_tables([kept, table], promote_options="default"), record


def refusing(old: tuple[pa.Table, Record], refused: Mapping[str, Any]) -> tuple[pa.Table, Record]:
    """What `merged` adds to a block where the network can run none of its further methods."""
    table, record = old
    return table.slice(0, 0), {
        **record,
        "methods": {},
        "refused": dict(refused),
        "curves": {},
        "whole": {},
        "measured": [],
    }


def _without(values: Mapping[str, Any], gone: set[str]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name not in gone}
