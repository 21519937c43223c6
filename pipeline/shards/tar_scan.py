"""One pass over a tar: where each member's payload lies, what was skipped and why, and where the archive is damaged.

The usual readers end quietly at a cut on a member border or inside a header, and pass over odd names. Here

    whole archive = members + directories + skipped members + leavings + two closing zero blocks,

and every deviation is reported. Bad data never raises; reading errors of the disk or the network do.
Header formats: POSIX.1-1988 (ustar), POSIX.1-2001 (pax), GNU (long names, base-256 sizes, sparse files).
"""

from __future__ import annotations

import re
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from pipeline.shards.foreign import no_shard
from pipeline.shards.names import is_left_behind, key_and_extension

_CHUNK = 2**20
_EXTENDED_LIMIT = 2**20  # bytes; a longer pax header or file name is no name but noise
_METADATA = re.compile(r"__[^/]*__($|/)")  # WebDataset keeps such names for itself
# What follows the name in the header of a file as nearly all programs write it: numbers in octal, no link, no prefix.
_NUMBER = rb"(?:[0-7]{7}\0|[0-7]{6} \0)"
_PLAIN = re.compile(
    _NUMBER + rb"{3}([0-7]{11})[\0 ][0-7]{11}[\0 ]([0-7]{6})\0 0\0{100}(?:ustar\x0000|ustar  \0).{64}"
    rb"(?:" + _NUMBER + rb"|\0{8}){2}\0",
    re.DOTALL,
)
_NAME_SIZE, _CHECKSUM = 100, slice(148, 156)
# Of pax records only those that matter are kept, so that a shard full of them fills no memory.
_PAX_USED = (b"path", b"size")
_PAX_SPARSE, _SPARSE = b"GNU.sparse.", "sparse"


class Readable(Protocol):
    """What a scan needs of a file."""

    def read(self, size: int, /) -> bytes: ...


@runtime_checkable
class Skippable(Readable, Protocol):
    """A file that goes on without reading."""

    def skip(self, size: int, /) -> int:
        """Goes on by `size` bytes, as far as there are so many; by how many."""


@dataclass(frozen=True, slots=True)
class TarMember:
    """A regular file in a tar.

    Attributes:
        key, extension: its path up to the first dot of the file name, and what follows, in lower case.
        header: offset of its first header, in bytes.
        offset, size: where its payload lies, in bytes.
        payload: the payload itself, if the scan was asked to keep it.
    """

    key: str
    extension: str
    header: int
    offset: int
    size: int
    payload: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Skipped:
    """A member (or trailing data) that is part of no sample."""

    name: str
    offset: int
    reason: str


@dataclass(frozen=True)
class Damage:
    """Why the archive could not be read to its end marker.

    Everything before `last_good_offset` was read well. `member` is the one whose payload is cut, if one is.
    """

    last_good_offset: int
    reason: str
    member: TarMember | None = None


# What one pass over a tar meets, in the order of the archive; damage is the last.
Item = TarMember | Skipped | Damage


@dataclass(frozen=True)
class Scan:
    """What one pass over a tar found, in the order of the archive."""

    members: list[TarMember]
    skipped: list[Skipped]
    damage: Damage | None

    def __iter__(self) -> Iterator[Item]:
        yield from self.members
        yield from self.skipped
        if self.damage is not None:
            yield self.damage


def _none(extension: str, size: int) -> bool:
    return False


def scan(file: Readable, keep: Callable[[str, int], bool] = _none) -> Scan:
    """All that `walk` meets."""
    members: list[TarMember] = []
    skipped: list[Skipped] = []
    damage: Damage | None = None
    for item in walk(file, keep):
        if isinstance(item, TarMember):
            members.append(item)
        elif isinstance(item, Skipped):
            skipped.append(item)
        else:
            damage = item
    return Scan(members, skipped, damage)


def walk(file: Readable, keep: Callable[[str, int], bool] = _none) -> Iterator[Item]:
    """Goes through `file` once from its beginning to its end, in bounded memory.

    Args:
        file: the archive, at its first byte. Payloads of a `Skippable` that are not kept are not read; other files are
            read whole.
        keep: given a member's extension and size, whether to keep its payload.
    """
    reader = _Reader(file)
    try:
        yield from _members(reader, keep)
        end = reader.position
        if reader.drain():
            yield Skipped("", end, "data after the end-of-archive marker")
    except _DamageError as error:
        if not isinstance(file, Skippable):
            reader.drain()  # what hashes a file must see all of it
        yield error.damage


class _DamageError(Exception):
    def __init__(self, offset: int, reason: str, member: TarMember | None = None) -> None:
        super().__init__(reason)
        self.damage = Damage(offset, reason, member)


class _Reader:
    """A forward reader with a position; it returns fewer bytes than requested only at the end."""

    def __init__(self, file: Readable) -> None:
        self._file = file
        self._skip = file.skip if isinstance(file, Skippable) else None
        self.position = 0

    def read(self, size: int) -> bytes:
        data = self._file.read(size) if 0 < size <= _CHUNK else b""  # mostly all of it
        self.position += len(data)
        return data if len(data) == size else data + b"".join(self._chunks(size - len(data)))

    def skip(self, size: int) -> int:
        """Goes on over `size` bytes; how many there were."""
        if self._skip is None:
            return sum(map(len, self._chunks(size)))
        skipped = self._skip(size) if size > 0 else 0
        self.position += skipped
        return skipped

    def drain(self) -> bool:
        """Reads to the end; whether anything but zero bytes was left."""
        return sum(len(chunk.strip(b"\0")) for chunk in iter(lambda: self.read(_CHUNK), b"")) > 0

    def _chunks(self, size: int) -> Iterator[bytes]:
        while size > 0 and (chunk := self._file.read(min(size, _CHUNK))):
            size -= len(chunk)
            self.position += len(chunk)
            yield chunk


def _members(reader: _Reader, keep: Callable[[str, int], bool]) -> Iterator[TarMember | Skipped]:
    for_all: dict[str, str] = {}  # pax records for all members that follow
    for_next: dict[str, str] = {}  # pax records or GNU long name for the next member
    start = 0
    while True:
        block = reader.read(tarfile.BLOCKSIZE)
        plain = None if for_all or for_next else _plain_file(block)
        if plain is not None:
            name, size = plain
            item = _file(reader, name, size, start, keep)
            if item is not None:
                yield item
            start = reader.position
            continue
        header = _header(reader, block, start)
        if header is None:
            return
        if header.type in (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.XGLTYPE):
            records = _pax_records(_extended(reader, header, start), start)
            (for_all if header.type == tarfile.XGLTYPE else for_next).update(records)
        elif header.type == tarfile.GNUTYPE_LONGNAME:
            for_next["path"] = _text(_extended(reader, header, start).partition(b"\0")[0])
        elif header.type == tarfile.GNUTYPE_LONGLINK:
            _extended(reader, header, start)
        else:
            item = _member(reader, header, {**for_all, **for_next}, start, keep)
            for_next.clear()
            if item is not None:
                yield item
        if not for_next:
            start = reader.position


def _header(reader: _Reader, block: bytes, start: int) -> tarfile.TarInfo | None:
    """The header that `block` is, or None at the two zero blocks. `start` is where the member began (its first
    header)."""
    try:
        return tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except tarfile.HeaderError:
        first = reader.position == len(block)
        reason = (why_no_tar(block) if first else None) or _header_fault(reader, block)
    if reason is not None:
        raise _DamageError(start, reason)
    return None


def _plain_file(block: bytes) -> tuple[str, int] | None:
    """Name and size of a file by a header as nearly all programs write it; None for any other, which `tarfile` reads.

    `tarfile` takes ten times as long for a header, and a data set has millions.
    """
    match = _PLAIN.match(block, _NAME_SIZE)
    if match is None or len(block) != tarfile.BLOCKSIZE:
        return None
    # Bytes of the checksum count as spaces.
    if sum(block) - sum(block[_CHECKSUM]) + 8 * 32 != int(match[2], 8):
        return None
    name = block[:_NAME_SIZE].partition(b"\0")[0]
    return (_text(name), int(match[1], 8)) if name else None


def why_no_tar(block: bytes) -> str | None:
    """What a file is instead of a tar, by its first block, or all of it if it is shorter; None if it may be one."""
    if block and not block.strip(b"\0"):
        return None  # the end of an archive without members
    try:
        tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except tarfile.HeaderError:
        unknown = "not a tar archive" if len(block) == tarfile.BLOCKSIZE else None
        return no_shard(block) or unknown
    return None


def _header_fault(reader: _Reader, block: bytes) -> str | None:
    """Why `block` is no header; None if it begins a whole end-of-archive marker."""
    if not block:
        return "cut on a member border: no end-of-archive marker"
    if len(block) < tarfile.BLOCKSIZE:
        return f"cut inside a header: {len(block)} of {tarfile.BLOCKSIZE} bytes"
    if not block.strip(b"\0"):
        second = reader.read(tarfile.BLOCKSIZE)
        whole = len(second) == tarfile.BLOCKSIZE and not second.strip(b"\0")
        return None if whole else "one zero block where two end an archive"
    return "bad header checksum"


def _member(
    reader: _Reader, header: tarfile.TarInfo, records: dict[str, str], start: int, keep: Callable[[str, int], bool]
) -> TarMember | Skipped | None:
    """Reads over one member's payload. None for a directory and for what a system left behind."""
    name = records.get("path", header.name)
    size = _size(records.get("size", header.size))
    if size is None:
        raise _DamageError(start, f"impossible size in the header of {name!r}")
    if header.type == tarfile.GNUTYPE_SPARSE:
        _skip_sparse_headers(reader, header)
    if header.type in tarfile.SUPPORTED_TYPES and not header.isreg():
        size = 0  # links, directories and devices have no payload, whatever their header says
    item = _file(reader, name, size, start, keep, _why_no_file(header, records))
    return None if header.isdir() else item


def _file(
    reader: _Reader, name: str, size: int, start: int, keep: Callable[[str, int], bool], reason: str | None = None
) -> TarMember | Skipped | None:
    """Reads over the payload of a file, or of what is none for a reason. None for what a system left behind."""
    key, extension, reason = ("", "", reason) if reason else _place(name)
    is_leaving = is_left_behind(name)
    offset = reader.position
    payload = None
    if reason is None and not is_leaving and keep(extension, size):
        payload = reader.read(size)
    available = reader.skip(size) if payload is None else len(payload)
    member = TarMember(key, extension, start, offset, size, payload) if reason is None and not is_leaving else None
    if available < size:
        raise _DamageError(start, f"cut inside the payload of {_printable(name)}: {available} of {size} bytes", member)
    reader.skip(-size % tarfile.BLOCKSIZE)
    if is_leaving:
        return None
    return member or Skipped(_printable(name), start, reason or "")


def _place(name: str) -> tuple[str, str, str | None]:
    """Key and extension of a file's name, in lower case, and why it belongs to no sample; None if it does."""
    if not name.isascii() and _printable(name) != name:
        return "", "", "a name that is not UTF-8"
    if _METADATA.match(name):
        return "", "", "a name of WebDataset's own metadata"
    key, extension = key_and_extension(name)
    if not key or key.endswith("/"):
        return "", "", "a name without key or without extension"
    if not extension or extension.startswith("__"):
        return "", "", "a name without a usable extension"
    return key, extension.lower(), None


def why_unusable(name: str) -> str | None:
    """Why a file of this name belongs to no sample; None if it does."""
    return _place(name)[2]


def _why_no_file(header: tarfile.TarInfo, records: dict[str, str]) -> str | None:
    """Why a member is no file whose payload could be read; None if it is one."""
    if header.islnk() or header.issym():
        return "a link"
    if header.type == tarfile.GNUTYPE_SPARSE or _SPARSE in records:
        return "a sparse file"
    return None if header.isreg() else "not a regular file"


def _skip_sparse_headers(reader: _Reader, header: tarfile.TarInfo) -> None:
    """Reads over the further headers of an old GNU sparse file, each of which says whether one more follows."""
    more = header._sparse_structs[1]  # type: ignore[attr-defined]
    while more and len(block := reader.read(tarfile.BLOCKSIZE)) == tarfile.BLOCKSIZE:
        more = bool(block[504])


def _extended(reader: _Reader, header: tarfile.TarInfo, start: int) -> bytes:
    """The payload of a header that describes the next member."""
    if not 0 <= header.size <= _EXTENDED_LIMIT:
        raise _DamageError(start, f"an extended header of {header.size} bytes")
    data = reader.read(header.size)
    if len(data) < header.size:
        raise _DamageError(start, f"cut inside an extended header: {len(data)} of {header.size} bytes")
    reader.skip(-header.size % tarfile.BLOCKSIZE)
    return data


def _pax_records(data: bytes, start: int) -> dict[str, str]:
    """The records ``LENGTH KEYWORD=VALUE\\n`` of a pax header, LENGTH counting the whole record."""
    records: dict[str, str] = {}
    data = data.rstrip(b"\0")
    begin = 0
    while begin < len(data):  # by position: cutting records off would take time quadratic in their number
        digits = data[begin : begin + 20].partition(b" ")[0]
        length = int(digits) if digits.isdigit() and len(digits) < 20 else 0
        end = begin + length
        keyword, equals, value = data[begin + len(digits) + 1 : max(begin, end - 1)].partition(b"=")
        if not equals or end > len(data) or data[end - 1 : end] != b"\n":
            raise _DamageError(start, "malformed pax header")
        if keyword in _PAX_USED:
            records[_text(keyword)] = _text(value)
        elif keyword.startswith(_PAX_SPARSE):
            records[_SPARSE] = ""
        begin = end
    return records


def _size(value: str | int) -> int | None:
    text = str(value)
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else None


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def _printable(name: str) -> str:
    """`name` with what is not UTF-8 replaced, so that it can be stored and shown."""
    return name.encode("utf-8", "replace").decode("utf-8") if not name.isascii() else name
