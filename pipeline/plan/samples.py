"""How many samples shards hold: counted where they are small, else estimated from a few and the sizes of all."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.shards import manifest as manifests
from pipeline.shards.manifest import Manifest
from pipeline.shards.surveying import Surveyor, look_up, survey
from ssig.errors import UsageError

# Shards up to this size together are read to count their samples; of larger ones the first, middle and last.
COUNTED_BYTES = 1 << 30
_MOST = 1 << 12  # samples of a unit, while shards are only counted


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


def samples_of(
    shards: Sequence[str],
    limit: int | None = None,
    listed: Manifest | None = None,
    by: Surveyor = survey,
) -> Samples:
    """The samples of shards.

    Args:
        shards: paths or URLs.
        limit: only the first so many samples.
        listed: of the first shards, which a run has listed already; these are not read again.
        by: how a shard is surveyed; `pipeline.shards.surveying.survey` by default.

    Raises:
        UsageError: field ``dataset.shards``; no shard that was read has a readable sample.
        OSError: an object store does not answer, or refuses a shard.
    """
    known = [] if listed is None else _of_shards(listed)
    others = shards[len(known) :]
    left = None if limit is None else limit - sum(known)
    if not others or (left is not None and left <= 0):
        return limited(known, limit, exact=True)
    sizes = [record.size for record in look_up(others)]
    if sum(sizes) <= COUNTED_BYTES:
        surveyed = manifests.build(others, _MOST, left, by=by, may_be_empty=listed is not None)
        return limited([*known, *_of_shards(surveyed)], limit, exact=True)
    read = sorted({0, len(others) // 2, len(others) - 1})
    surveyed = manifests.build([others[number] for number in read], _MOST, by=by, may_be_empty=True)
    found = {number: count for number, count in zip(read, _of_shards(surveyed), strict=True) if count}
    seen = [(count, sizes[number]) for number, count in found.items()]
    if listed is not None:
        seen += [(count, shard.size) for count, shard in zip(known, listed.shards, strict=True) if count]
    if not seen:
        tried = ", ".join(others[number].rpartition("/")[2] for number in read)
        raise UsageError("dataset.shards", f"no samples in {tried}", "shards with readable samples")
    per_byte = sum(count for count, _ in seen) / sum(size for _, size in seen)
    counts = [found.get(number, round(size * per_byte)) for number, size in enumerate(sizes)]
    return limited([*known, *counts], limit, exact=False)


def of_manifest(manifest: Manifest) -> Samples:
    """The samples of a manifest."""
    return limited(_of_shards(manifest), None, exact=True)


def _of_shards(manifest: Manifest) -> list[int]:
    """The samples of each shard of a manifest, 0 for one without any."""
    counts: Counter[int] = Counter()
    for unit in manifest.units():
        counts[unit.shard_ordinal] += unit.stop - unit.start
    return [counts[number] for number in range(len(manifest.shards))]


def limited(counts: Sequence[int], limit: int | None, *, exact: bool) -> Samples:
    """The first so many of the samples of shards."""
    left = sum(counts) if limit is None else limit
    kept = []
    for count in counts:
        kept.append(min(count, left))
        left -= kept[-1]
    return Samples(tuple(count for count in kept if count), exact)
