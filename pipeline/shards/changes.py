"""What has changed in the shards of a run since it began."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from pipeline.shards.survey import ShardRecord
from pipeline.shards.surveying import look_up
from pipeline.storage import locate
from pipeline.storage.base import sha256

TRUST = "--trust-shards"
_HASHES_AT_ONCE = 4


def changes(records: Sequence[ShardRecord], *, trusted: bool = False) -> list[str]:
    """What has changed in shards since they were recorded.

    A file of equal size and another version (mtime or ETag) is hashed where its hash is recorded. Where none is, it
    counts as changed unless it is trusted.

    Args:
        records: the shards as they were.
        trusted: whether a shard of equal size is taken for the same, where no hash can tell.

    Returns:
        one line per difference: shard, field, what was recorded and what was found.

    Raises:
        OSError: the storage does not answer, or an object store refuses a shard.
    """
    now = look_up([record.url for record in records])
    with ThreadPoolExecutor(_HASHES_AT_ONCE) as pool:
        lines = pool.map(partial(_difference, trusted=trusted), records, now)
        return [line for line in lines if line is not None]


def refusal(lines: Iterable[str]) -> str:
    """The message that refuses shards which have changed."""
    return "\n".join(["shards have changed since the run was started:", *(f"  {line}" for line in lines)])


def _difference(then: ShardRecord, now: ShardRecord, *, trusted: bool) -> str | None:
    if not now.version:
        if not then.version:
            return None  # it was not there then either
        return f"{then.name}: recorded {then.size} bytes, found no file at {then.url}"
    if now.size != then.size:
        return f"{then.name}: size: recorded {then.size}, found {now.size}"
    if now.version == then.version:
        return None
    if then.sha256 is None:
        advice = f"if its bytes are the same, as those of a copy, type {TRUST}"
        return None if trusted else f"{then.name}: version: recorded {then.version}, found {now.version}; {advice}"
    storage, name = locate(then.url)
    digest = sha256(storage.open(name))
    return None if digest == then.sha256 else f"{then.name}: sha256: recorded {then.sha256}, found {digest}"
