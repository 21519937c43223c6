"""The manifest of a run while its shards are still being listed: a part for each shard, and the seal at the end.

    run.json                     first: names, sizes and versions of the shards, limit; the identity of the data
    manifest/NNNNNN.parquet      the samples of shard N, as soon as they are known; in order of the shards
    manifest.parquet             all parts as one, up to the limit
    manifest.json                the seal: how many samples, which shards they are from, hash of `manifest.parquet`
    manifest/                    removed

Units are done as soon as their shard has its part. A driver that comes after a killed one reads the parts that are
there, and lists on behind the last. Parts do not depend on the limit, so they are the same whoever writes them.
"""

from __future__ import annotations

import functools
import hashlib
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict
from typing import Any

from pipeline.run.canonical import checksum
from pipeline.run.layout import MANIFEST, PARTS, SEAL, TABLE_SUFFIX
from pipeline.shards import index
from pipeline.shards.manifest import Manifest, row_of
from pipeline.shards.samples import ManifestRow
from pipeline.shards.survey import ShardRecord, Survey
from pipeline.storage import fault_points
from pipeline.storage.base import Storage, sha256
from pipeline.storage.fields import SCHEMA_VERSION
from pipeline.storage.jsontext import to_json

_AT_ONCE = 32  # parts that are read or removed
_PARTS_IN_MEMORY = 16


def part_name(ordinal: int) -> str:
    """The part of a shard, by its place among the shards of the run."""
    return f"{PARTS}/{ordinal:06d}{TABLE_SUFFIX}"


def identity_of(shards: Sequence[ShardRecord], limit: int | None) -> str:
    """The identity of data that were not hashed: SHA-256 of name, size and version of each shard, and of the limit."""
    known = [[shard.name, shard.size, shard.version] for shard in shards]
    return hashlib.sha256(to_json([known, limit], compact=True).encode()).hexdigest()


def publish_part(storage: Storage, ordinal: int, survey: Survey) -> None:
    """Stores what was found in a shard; a part that is not whole is replaced."""
    name, data = part_name(ordinal), index.to_bytes(survey)
    if not storage.create(name, data) and read_part(storage, ordinal, survey.record) is None:
        storage.put(name, data)
    fault_points.point("after-part", name)


def read_part(storage: Storage, ordinal: int, shard: ShardRecord) -> Survey | None:
    """What was found in a shard of a run; None if that is not known yet, or its part is not whole."""
    try:
        found = index.parsed(storage.read(part_name(ordinal)))
    except FileNotFoundError:
        return None
    known = None if found is None else (found.record.name, found.record.size)
    if found is None or known != (shard.name, shard.size):
        return None
    record = ShardRecord(shard.name, shard.url, shard.size, shard.version, found.record.sha256)
    return Survey(record, found.samples, found.quarantine)


def read_parts(storage: Storage, shards: Sequence[ShardRecord]) -> Iterator[Survey]:
    """The parts that are there, in order, up to the first that is not; many are read at a time."""
    present = set(_names(storage))
    count = next((ordinal for ordinal in range(len(shards)) if part_name(ordinal) not in present), len(shards))
    ahead: deque[Future[Survey | None]] = deque()
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        for ordinal in range(count):
            ahead.append(pool.submit(read_part, storage, ordinal, shards[ordinal]))
            if len(ahead) > _AT_ONCE:
                if (survey := ahead.popleft().result()) is None:
                    return
                yield survey
        while ahead:
            if (survey := ahead.popleft().result()) is None:
                return
            yield survey


def seal(storage: Storage, manifest: Manifest) -> None:
    """Stores the whole manifest, then the seal that makes it count; `remove_parts` is what is left to do."""
    fault_points.point("before-manifest", storage.root)
    if not manifest.save(storage) and sha256(storage.open(MANIFEST)) != manifest.file_hash:
        storage.delete(MANIFEST)  # left by a start that was cut off; nothing has counted on it
        manifest.save(storage)
    fault_points.point("after-manifest", storage.root)
    storage.create(SEAL, to_json(seal_record(manifest), indent=1).encode())
    fault_points.point("after-seal", storage.root)


def seal_record(manifest: Manifest) -> dict[str, Any]:
    """The content of the seal: what `run.json` could not say yet when it was written."""
    record = {
        "schema_version": SCHEMA_VERSION,
        "dataset": {
            "shards": [asdict(shard) for shard in manifest.shards],
            "samples": len(manifest),
            "manifest_file": manifest.file_hash,
        },
    }
    return {**record, "checksum": checksum(record)}


def remove_parts(storage: Storage) -> None:
    """Removes the parts of a sealed manifest."""
    if names := _names(storage):
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            list(pool.map(storage.delete, names))


def _names(storage: Storage) -> list[str]:
    """The parts that are there; of a listing that may hold `manifest.parquet` too, on some stores."""
    return [entry.name for entry in storage.list(PARTS) if entry.name.startswith(f"{PARTS}/")]


def sealed_document(document: Mapping[str, Any], sealing: Mapping[str, Any] | None) -> dict[str, Any]:
    """`run.json` with what the seal adds to it: samples, hashes, and only those shards that the limit needs."""
    if sealing is None:
        return dict(document)
    return {**document, "dataset": {**document["dataset"], **sealing["dataset"]}}


class GrowingManifest:
    """The rows of units whose shards have their parts, read as they are asked for.

    Args:
        storage: the run.
        shards: all of them, in order.

    Attributes:
        sealed: the whole manifest, once there is one.
    """

    def __init__(self, storage: Storage, shards: Sequence[ShardRecord]) -> None:
        self._storage = storage
        self.shards = tuple(shards)
        self.sealed: Manifest | None = None
        self._part = functools.lru_cache(_PARTS_IN_MEMORY)(self._read)

    def rows(self, unit_id: str) -> list[ManifestRow]:
        """The samples of a unit, in order.

        Raises:
            KeyError: there is no such unit.
        """
        sealed = self.sealed
        if sealed is not None:
            return sealed.rows(unit_id)
        ordinal, start, stop = map(int, unit_id.split("-"))
        survey = self._part(ordinal)
        if survey is None:
            return self._sealed_rows(unit_id)
        rows = survey.samples.slice(start, stop - start).to_pylist()
        return [row_of({**row, "unit": unit_id}) for row in rows]

    def _sealed_rows(self, unit_id: str) -> list[ManifestRow]:
        """The rows of a unit whose part was removed, by the seal, since `rows` was called."""
        if self.sealed is None:
            raise KeyError(unit_id)
        return self.sealed.rows(unit_id)

    def _read(self, ordinal: int) -> Survey | None:
        return read_part(self._storage, ordinal, self.shards[ordinal])
