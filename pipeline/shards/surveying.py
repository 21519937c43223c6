"""How the samples of shards are found: by an index beside the shard, else by the headers in it.

    SHARD.index.parquet   of ssig, made of the shard as it is now: one request
    SHARD.idx             of DALI's wds2idx, where it accounts for the whole archive: a few requests, and the labels
    headers               the shard's own; payloads are skipped where they are long (`pipeline.shards.ranges`)

Whichever it is, every deviation of the archive is found as if it had been read whole: an index holds what was found
then, and headers lead from the first byte to the two closing zero blocks.
"""

from __future__ import annotations

import dataclasses
import errno
import functools
import hashlib
import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from tarfile import BLOCKSIZE
from typing import BinaryIO, NamedTuple

import pyarrow as pa

from pipeline.shards import dali_index, index
from pipeline.shards.ranges import RangedFile
from pipeline.shards.survey import ShardRecord, Survey, is_label, surveyed
from pipeline.shards.tar_scan import Damage, walk, why_no_tar
from pipeline.storage import locate
from pipeline.storage.base import Storage, is_object_url
from pipeline.storage.local import LocalStorage
from ssig.errors import UsageError

# Errors of a network's file system, or of a process without resources: the file itself may be whole.
_NO_ANSWER = frozenset(
    {
        *(errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EAGAIN, errno.ENOTCONN, errno.ECONNRESET, errno.EREMOTEIO),
        *(errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENETDOWN, errno.ENETUNREACH, errno.EMFILE, errno.ENFILE),
    }
)
# Shards at a time. A request to an object store is mostly waiting; a disk gains nothing by more.
AT_ONCE_REMOTE, AT_ONCE_LOCAL = 192, 8
_FILES_AT_ONCE = 32  # that are looked up
_KEPT = 16  # surveys: of the first shard, and of those that samples are counted in


Surveyor = Callable[[ShardRecord], Survey]


class ShardChangedError(OSError):
    """A shard is another than when the run was recorded."""


def at_once(shards: Sequence[str]) -> int:
    """How many shards to survey at a time."""
    return AT_ONCE_REMOTE if any(map(is_object_url, shards)) else AT_ONCE_LOCAL


def check_readable(shards: Sequence[str], workers: int = 8) -> None:
    """Refuses shards if none is a tar, by their first blocks, before anything else is loaded.

    Raises:
        UsageError: field ``dataset.shards``; the message says what they are.
        OSError: an object store does not answer, or refuses a shard.
    """
    reasons: list[str] = []
    with ThreadPoolExecutor(max(1, workers)) as pool:
        for start in range(0, len(shards), workers):
            part = shards[start : start + workers]
            problems = list(pool.map(_why_no_tar, part))
            if None in problems:
                return
            reasons += [f"{shard.rpartition('/')[2]}: {reason}" for shard, reason in zip(part, problems, strict=True)]
    raise UsageError("dataset.shards", "; ".join(reasons[:3]), "at least one shard with a readable sample")


def _why_no_tar(url: str) -> str | None:
    storage, name = locate(url)
    try:
        return why_no_tar(storage.read_range(name, 0, BLOCKSIZE))
    except OSError as error:
        if is_object_url(url) or error.errno in _NO_ANSWER:
            raise
        return error.strerror or str(error)


def look_up(shards: Sequence[str]) -> list[ShardRecord]:
    """The shards as they are now, by size and version, many at a time.

    Raises:
        OSError: the storage does not answer, or an object store refuses a shard.
    """
    with ThreadPoolExecutor(_FILES_AT_ONCE) as pool:
        return list(pool.map(_look_up, shards))


def _look_up(url: str) -> ShardRecord:
    storage, name = locate(url)
    try:
        entry = storage.entry(name)
    except OSError as error:
        _raise_unless_damage(error, url)
        entry = None
    return ShardRecord(name, url, 0, "") if entry is None else ShardRecord(name, url, entry.size, entry.version)


def survey_all(
    shards: Iterable[ShardRecord], workers: int, by: Surveyor | None = None
) -> Generator[Survey, None, None]:
    """Surveys shards in parallel, in order, at most `workers` ahead of the caller; with `survey` by default."""
    ahead: deque[Future[Survey]] = deque()
    with _small_tables(), ThreadPoolExecutor(max(1, workers)) as pool:
        try:
            for shard in shards:
                ahead.append(pool.submit(by or survey, shard))
                if len(ahead) > workers:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:
            for future in ahead:
                future.cancel()


@contextmanager
def _small_tables() -> Iterator[None]:
    """Takes Arrow's memory from the C library meanwhile: its own allocator keeps 1 to 2 MB for each thread."""
    usual = pa.default_memory_pool()
    pa.set_memory_pool(pa.system_memory_pool())
    try:
        yield
    finally:
        pa.set_memory_pool(usual)


def survey_and_keep() -> Surveyor:
    """`survey` that keeps a few surveys.

    Before a run is recorded, several ask for those of its first shards. In an object store each takes a request an
    image.
    """
    return functools.lru_cache(_KEPT)(survey)


def survey(shard: ShardRecord, *, hashed: bool = False, indexed: bool = True) -> Survey:
    """Surveys one shard; one that cannot be read has no samples and a quarantine record.

    Args:
        shard: as it was looked up.
        hashed: read all of it, whatever index there is, for its hash.
        indexed: whether an index beside it may be used.

    Raises:
        ShardChangedError: it is another now.
        OSError: the storage does not answer, or an object store refuses the shard: it may be whole, and the run would
            be frozen without it.
    """
    storage, name = locate(shard.url)
    note: str | None = None
    try:
        if not shard.version:
            if storage.entry(name) is not None:
                raise ShardChangedError(errno.ESTALE, "it was not there when the run was recorded", shard.url)
            raise FileNotFoundError("no such file")
        if indexed and not hashed:
            found = _by_index(storage, shard)
            if found.survey is not None:
                return found.survey
            note = found.note
        return _by_reading(storage, shard, note, hashed=hashed)
    except OSError as error:
        if isinstance(error, FileNotFoundError) and shard.version:
            raise ShardChangedError(errno.ESTALE, "it is gone since it was looked up", shard.url) from error
        _raise_unless_damage(error, shard.url)
        return surveyed(shard, [Damage(0, error.strerror or str(error))], note)


def _raise_unless_damage(error: OSError, url: str) -> None:
    """Raises an error of a storage that does not answer, of an object store, or of a shard that has changed."""
    if isinstance(error, ShardChangedError) or (is_object_url(url) and not isinstance(error, FileNotFoundError)):
        raise error
    if error.errno in _NO_ANSWER:
        reason = f"{error.strerror}; it may be whole, so no run is begun without it"
        raise OSError(error.errno, reason, url) from error


class _Found(NamedTuple):
    """What an index beside a shard gives: a survey, or why it gives none, where that is worth a line."""

    survey: Survey | None = None
    note: str | None = None


def _by_index(storage: Storage, shard: ShardRecord) -> _Found:
    """The survey of a shard by an index beside it."""
    own = index.index_name(shard.name)
    data = _read(storage, own)
    if data is None:
        return _by_foreign_index(storage, shard)
    known = index.parsed(data)
    if known is None:
        return _Found(note=f"{own}: not an index that this version reads; it is passed over")
    if not index.is_of(known, shard):
        advice = f"it is passed over (ssig index {shard.url} makes it anew)"
        return _Found(note=f"{own}: of another {shard.name} than the one that is there: {advice}")
    record = dataclasses.replace(shard, sha256=known.record.sha256)
    return _Found(Survey(record, known.samples, known.quarantine))


def _by_foreign_index(storage: Storage, shard: ShardRecord) -> _Found:
    """The survey of a shard by the index that DALI made of it."""
    name = dali_index.index_name(shard.name)
    data = None if name is None else _read(storage, name)
    if data is None:
        return _Found()
    entries = dali_index.parsed(data)
    if isinstance(entries, str):
        return _Found(note=f"{name}: {entries}; it is passed over")
    contents = dali_index.contents(storage, shard, entries)
    if isinstance(contents, str):
        return _Found(note=f"{name}: {contents}; it is passed over")
    _check_unchanged(storage, shard)
    return _Found(surveyed(shard, contents))


def _read(storage: Storage, name: str) -> bytes | None:
    """A file beside a shard; None where it cannot be read: the shard itself then says what is in it, or fails."""
    try:
        return storage.read(name)
    except OSError:
        return None


def _by_reading(storage: Storage, shard: ShardRecord, note: str | None, *, hashed: bool) -> Survey:
    """The survey of a shard by its own headers, with its hash where all of it is read."""
    with ExitStack() as stack:
        if hashed or not shard.size:  # some systems give files without a size
            hashing = _HashingFile(stack.enter_context(storage.open(shard.name)))
            found = surveyed(shard, walk(hashing, is_label), note)
            digest = hashing.sha256.hexdigest() if hashed else None
            found = dataclasses.replace(found, record=dataclasses.replace(shard, sha256=digest))
        else:
            file = RangedFile(_range_reader(storage, shard.name, stack), shard.size)
            found = surveyed(dataclasses.replace(shard, sha256=None), walk(file, is_label), note)
    _check_unchanged(storage, shard)
    return found


def _range_reader(storage: Storage, name: str, stack: ExitStack) -> Callable[[int, int], bytes]:
    """Reads ranges of a shard: by one request each, on a disk from one open file."""
    if not isinstance(storage, LocalStorage):
        return lambda offset, size: storage.read_range(name, offset, size)
    descriptor = stack.enter_context(storage.open(name)).fileno()
    return lambda offset, size: os.pread(descriptor, size, offset)


def _check_unchanged(storage: Storage, shard: ShardRecord) -> None:
    """Refuses what was read of a shard that has changed since it was looked up.

    Raises:
        ShardChangedError: it has.
    """
    entry = storage.entry(shard.name)
    if entry is None or (entry.size, entry.version) != (shard.size, shard.version):
        raise ShardChangedError(errno.ESTALE, "it changed while its samples were listed", shard.url)


class _HashingFile:
    """Hashes what is read through it."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self.sha256 = file, hashlib.sha256()

    def read(self, size: int, /) -> bytes:
        data = self._file.read(size)
        self.sha256.update(data)
        return data
