"""What is stored of one sample, read when it is asked for: a row group of a table, byte ranges of a shard."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa

from pipeline.run.reader import Run
from pipeline.shards.reading import read_unit
from pipeline.shards.samples import ManifestRow, Member, Sample, Status
from pipeline.storage import locate
from pipeline.storage.base import Storage
from ssig.errors import UsageError

_CHANGED = "the shard as it was when the run began"


def stored_row(run: Run, name: str, shard: str, index: int, columns: Sequence[str]) -> pa.Table:
    """The row of a sample in a table of the run, of `columns` those that it has; no row where there is none.

    Only row groups whose statistics allow the sample are read.

    Raises:
        OSError, DamagedTableError: the file cannot be read.
    """
    return run.stored.row(name, shard, index, columns)


def shard_of(run: Run, name: str) -> tuple[Storage, str]:
    """Where a shard of the run is.

    Raises:
        UsageError: the run does not say, or it has another size than when the run began.
    """
    for shard in run.document.get("dataset", {}).get("shards", []):
        if shard["name"] == name:
            storage, file = locate(str(shard["url"]))
            entry = storage.entry(file)
            if entry is None or entry.size != shard.get("size", entry.size):
                raise UsageError("dataset.shards", shard["url"], _CHANGED)
            return storage, file
    raise UsageError("dataset.shards", name, "a shard that the run names")


def manifest_row(record: Mapping[str, Any], *, as_ok: bool = False) -> ManifestRow:
    """A row of the manifest from its record in the index."""
    members = tuple(Member(**member) for member in record["members"] or ())
    status = Status.OK if as_ok else Status(record["status"])
    about = {name: record[name] for name in ("unit", "shard", "index", "key", "label", "error")}
    return ManifestRow(**about, status=status, members=members)


def sample_of(run: Run, row: ManifestRow) -> Sample:
    """A sample, decoded from the ranges of its own members.

    Raises:
        UsageError, OSError: its shard cannot be read, or is another than when the run began.
    """
    storage, _ = shard_of(run, row.shard)
    (sample,) = read_unit(storage, [row])
    return sample


def members_of(run: Run, row: ManifestRow) -> Iterator[tuple[str, bytes]]:
    """(extension, content) of each member of a sample, as its shard holds it.

    Raises:
        UsageError, OSError: the same.
    """
    storage, file = shard_of(run, row.shard)
    for member in row.members:
        data = storage.read_range(file, member.offset, member.size)
        if len(data) < member.size:
            raise OSError(f"{row.shard}: shorter than in its manifest: member {member.extension} of {row.key}")
        yield member.extension, data
