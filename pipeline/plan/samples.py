"""How many samples shards hold: counted where they are small, else estimated from a few and the sizes of all."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from pipeline.shards import manifest as manifests
from pipeline.shards.manifest import Manifest
from pipeline.storage import locate
from ssig.errors import UsageError

# Shards up to this size together are read to count their samples; of larger ones the first, middle and last.
COUNTED_BYTES = 1 << 30
_MOST = 1 << 12  # samples of a unit, while shards are only counted
_REQUESTS = 16


@dataclass(frozen=True)
class Samples:
    """Samples of each shard that a job uses.

    Attributes:
        of_shards: (shards,) in order.
        exact: whether they were counted.
    """

    of_shards: tuple[int, ...]
    exact: bool

    @property
    def total(self) -> int:
        return sum(self.of_shards)

    def units(self, unit_size: int) -> int:
        """How many units they are cut into; no unit has samples of two shards."""
        return sum(math.ceil(count / unit_size) for count in self.of_shards)


def samples_of(shards: Sequence[str], limit: int | None = None) -> Samples:
    """The samples of shards.

    Args:
        shards: paths or URLs.
        limit: only the first so many samples.

    Raises:
        UsageError: field ``dataset.shards``; no shard that was read has a readable sample.
        OSError: an object store does not answer, or refuses a shard.
    """
    sizes = _sizes(shards)
    if sum(sizes) <= COUNTED_BYTES:
        return of_manifest(manifests.build(shards, _MOST, limit))
    read = sorted({0, len(shards) // 2, len(shards) - 1})
    found = {number: _count(shards[number]) for number in read}
    found = {number: count for number, count in found.items() if count}
    if not found:
        tried = ", ".join(shards[number].rpartition("/")[2] for number in read)
        raise UsageError("dataset.shards", f"no samples in {tried}", "shards with readable samples")
    per_byte = sum(found.values()) / sum(sizes[number] for number in found)
    counts = [found.get(number, round(size * per_byte)) for number, size in enumerate(sizes)]
    return limited(counts, limit, exact=False)


def of_manifest(manifest: Manifest) -> Samples:
    """The samples of a manifest."""
    counts: Counter[int] = Counter()
    for unit in manifest.units():
        counts[unit.shard_ordinal] += unit.stop - unit.start
    return Samples(tuple(counts[number] for number in sorted(counts)), exact=True)


def limited(counts: Sequence[int], limit: int | None, *, exact: bool) -> Samples:
    """The first so many of the samples of shards."""
    left = sum(counts) if limit is None else limit
    kept = []
    for count in counts:
        kept.append(min(count, left))
        left -= kept[-1]
    return Samples(tuple(count for count in kept if count), exact)


def _count(shard: str) -> int:
    try:
        return len(manifests.build([shard], _MOST))
    except UsageError:  # it holds no readable sample
        return 0


def _sizes(shards: Sequence[str]) -> list[int]:
    """Bytes of each shard; 0 for one that is not there."""

    def size(shard: str) -> int:
        storage, name = locate(shard)
        entry = storage.entry(name)
        return 0 if entry is None else entry.size

    with ThreadPoolExecutor(_REQUESTS) as pool:
        return list(pool.map(size, shards))
