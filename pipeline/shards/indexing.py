"""Makes the indexes beside shards that exist."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from pipeline.shards.index import current_index, index_name, write_index
from pipeline.shards.survey import ShardRecord, Survey
from pipeline.shards.surveying import at_once, look_up, survey
from pipeline.storage import locate
from ssig.errors import UsageError


@dataclass(frozen=True)
class Indexed:
    """What was done: indexes that were written or were current, samples of all, and faults, one line each."""

    written: int
    current: int
    samples: int
    faults: tuple[str, ...]


def index_shards(
    shards: Sequence[str], *, hashed: bool = False, tell: Callable[[int, int], object] = lambda done, all_: None
) -> Indexed:
    """Writes the index of each shard beside it, unless there is a current one.

    Args:
        shards: paths or URLs.
        hashed: whether shards are read whole, so that their indexes hold their SHA-256.
        tell: is told after each shard how many are done, of how many.

    Raises:
        UsageError: field ``shards``; an index cannot be written there.
        OSError: the storage does not answer, or a shard changes meanwhile.
    """
    written = current = samples = 0
    faults: list[str] = []
    with ThreadPoolExecutor(at_once(shards)) as pool:
        done = pool.map(lambda shard: _index(shard, hashed=hashed), look_up(shards))
        for number, (survey_, is_new) in enumerate(done, 1):
            written, current = written + is_new, current + (not is_new)
            samples += survey_.samples.num_rows
            faults += [f"{fault.shard}: {fault.kind}: {fault.reason}" for fault in survey_.quarantine]
            tell(number, len(shards))
    return Indexed(written, current, samples, tuple(faults))


def _index(shard: ShardRecord, *, hashed: bool) -> tuple[Survey, bool]:
    """What a shard holds, and whether its index was written now."""
    storage, _ = locate(shard.url)
    known = current_index(storage, shard)
    if known is not None and (known.record.sha256 is not None or not hashed):
        return known, False
    found = survey(shard, hashed=hashed, indexed=False)
    if not shard.version:
        return found, False
    try:
        write_index(storage, found)
    except OSError as error:
        raise UsageError(
            "shards", f"{storage.root}/{index_name(shard.name)}", f"a folder that can be written ({error})"
        ) from error
    return found, True
