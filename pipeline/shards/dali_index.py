"""The index that NVIDIA DALI's ``wds2idx`` makes of a shard, ``NAME.idx`` beside ``NAME.tar``.

    v1.2 SAMPLES
    EXTENSION OFFSET SIZE NAME EXTENSION OFFSET SIZE NAME …     one line a sample

It says where the payload of each regular file with a usable name lies, and nothing of the rest: no size of the shard,
no class, no link, no damage. So it is used only where the files that it names, one behind the other, are the whole
archive up to its two closing zero blocks: then nothing else can be in it. The headers of a few members, and of each
label, must say the same. Version 1.1 has no names. The index of wids is a pickle, which can run any code: it is not
read.
"""

from __future__ import annotations

import random
import tarfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from pipeline.shards.names import is_left_behind, key_and_extension
from pipeline.shards.survey import ShardRecord, is_label
from pipeline.shards.tar_scan import Scan, Skipped, TarMember, why_unusable
from pipeline.storage.base import Storage

_SUFFIX = ".idx"
_CHECKED = 8  # headers beside the first and the last
_AT_ONCE = 8  # requests of one shard
_MOST_BEHIND = 2**20  # zero bytes behind the last member that are looked at
_STALE = "its places are not those of the shard that is there"


class IndexEntry(NamedTuple):
    """A file in a shard: its name, and offset and size of its payload in bytes."""

    name: str
    offset: int
    size: int

    @property
    def header(self) -> int:
        return self.offset - tarfile.BLOCKSIZE

    @property
    def end(self) -> int:
        return self.offset + self.size + -self.size % tarfile.BLOCKSIZE


def index_name(shard: str) -> str | None:
    """The file name that ``wds2idx`` gives the index of a shard: up to the first dot, but for a leading one."""
    dot = shard.find(".", 1)
    return None if dot < 0 else f"{shard[:dot]}{_SUFFIX}"


def parsed(data: bytes) -> list[IndexEntry] | str:
    """The files that an index names, in its order; or what is wrong with it."""
    try:
        first, *lines = data.decode("utf-8").splitlines()
        version, count = first.split(" ")
        if version != "v1.2":
            return f"version {version[:20]!r}; v1.2 is read"
        if int(count) != len(lines):
            return f"{len(lines)} samples, and it says {int(count)}"
        entries: list[IndexEntry] = []
        for line in lines:
            words = line.split(" ")
            if len(words) % 4:
                return "a name with spaces"
            entries += map(_entry, words[1::4], words[2::4], words[3::4])
    except (UnicodeDecodeError, ValueError):
        return "not an index of wds2idx"
    return entries or "it names no file"


def _entry(offset: str, size: str, name: str) -> IndexEntry:
    return IndexEntry(name, int(offset), int(size))


def contents(storage: Storage, shard: ShardRecord, entries: Sequence[IndexEntry]) -> Scan | str:
    """The members of a shard, with the payloads of labels; or why the index cannot be used for it.

    Raises:
        OSError: the shard cannot be read.
    """
    places = [0, *(entry.end for entry in entries)]
    if any(entry.header != place for entry, place in zip(entries, places, strict=False)):
        return "it does not name all that is in the shard"
    if not _is_end(storage, shard, places[-1]):
        return _STALE
    drawn = random.Random(shard.name).sample(range(len(entries)), min(_CHECKED, len(entries)))
    labels = (number for number, entry in enumerate(entries) if is_label(_extension(entry.name), entry.size))
    checked = sorted({0, len(entries) - 1, *drawn, *labels})
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        found = pool.map(lambda number: _payload(storage, shard, entries[number]), checked)
        payloads = dict(zip(checked, found, strict=True))
    if None in payloads.values():
        return _STALE
    members: list[TarMember] = []
    skipped: list[Skipped] = []
    for number, entry in enumerate(entries):
        if is_left_behind(entry.name):
            continue
        if (reason := why_unusable(entry.name)) is not None:
            skipped.append(Skipped(entry.name, entry.header, reason))
            continue
        key = key_and_extension(entry.name)[0]
        payload = payloads.get(number) or None
        members.append(TarMember(key, _extension(entry.name), entry.header, entry.offset, entry.size, payload))
    return Scan(members, skipped, None)


def _extension(name: str) -> str:
    return key_and_extension(name)[1].lower()


def _is_end(storage: Storage, shard: ShardRecord, end: int) -> bool:
    """Whether a shard has at least two zero blocks from `end` on, and nothing else."""
    left = shard.size - end
    if not 2 * tarfile.BLOCKSIZE <= left <= _MOST_BEHIND:
        return False
    return storage.read_range(shard.name, end, left) == bytes(left)


def _payload(storage: Storage, shard: ShardRecord, entry: IndexEntry) -> bytes | None:
    """The payload of a label, empty for another member; None if the member's header does not say what the index does.

    Long names stand in headers of their own, which `contents` has not allowed: so the header has the whole name.
    """
    wanted = entry.size if is_label(_extension(entry.name), entry.size) else 0
    data = storage.read_range(shard.name, entry.header, tarfile.BLOCKSIZE + wanted)
    try:
        header = tarfile.TarInfo.frombuf(data[: tarfile.BLOCKSIZE], "utf-8", "surrogateescape")
    except tarfile.HeaderError:
        return None
    is_file = header.type in (tarfile.REGTYPE, tarfile.AREGTYPE)
    same = is_file and (header.name, header.size) == (entry.name, entry.size)
    return data[tarfile.BLOCKSIZE :] if same and len(data) == tarfile.BLOCKSIZE + wanted else None
