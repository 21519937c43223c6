"""What one shard holds: its samples, gathered from one pass over its members, and what is wrong with it."""

from __future__ import annotations

import errno
import hashlib
from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from enum import StrEnum
from tarfile import BLOCKSIZE
from typing import BinaryIO

import numpy as np
import pyarrow as pa

from pipeline.shards.images import IMAGE_EXTENSIONS, no_image_member
from pipeline.shards.manifest_table import MANIFEST
from pipeline.shards.samples import Member, Status
from pipeline.shards.tar_scan import Damage, Scan, TarMember, scan, why_no_tar
from pipeline.storage import locate
from pipeline.storage.base import is_object_url
from ssig.errors import UsageError

# Errors of a network's file system, or of a process without resources: the file itself may be whole.
_NO_ANSWER = frozenset(
    {
        *(errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EAGAIN, errno.ENOTCONN, errno.ECONNRESET, errno.EREMOTEIO),
        *(errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENETDOWN, errno.ENETUNREACH, errno.EMFILE, errno.ENFILE),
    }
)
_LABEL_LIMIT = 64  # bytes; a longer payload is no class number
_SAMPLES = pa.schema([name for name in MANIFEST if name.name != "unit"])


class Kind(StrEnum):
    """Why something is in quarantine."""

    UNREADABLE = "unreadable"
    TRUNCATED = "truncated"
    DUPLICATE = "duplicate"
    SKIPPED = "skipped"
    IMAGELESS = "imageless"


@dataclass(frozen=True)
class ShardRecord:
    """A shard as it was when the manifest was built.

    Attributes:
        name, url: its file name, and where it lies.
        size, version: in bytes; mtime in ns, or ETag.
        sha256: of its bytes; None in an object store, where the ETag is enough, and of a file that cannot be read.
    """

    name: str
    url: str
    size: int
    version: str
    sha256: str | None

    @property
    def identity(self) -> tuple[str, int, str]:
        """What identifies its content, wherever it lies: name, size, and hash or else version."""
        return self.name, self.size, self.sha256 or self.version


@dataclass(frozen=True)
class QuarantineRecord:
    """A fault in a shard.

    Attributes:
        shard, kind, reason: where, of what sort, and in words.
        key: the sample that it concerns, if it concerns one.
        offset: in bytes: of the member at fault, or where the good part of a cut shard ends.
    """

    shard: str
    kind: Kind
    key: str | None
    offset: int | None
    reason: str


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


@dataclass(frozen=True)
class Survey:
    """What one shard holds; `samples` has the columns of the manifest without `unit`."""

    record: ShardRecord
    samples: pa.Table
    quarantine: list[QuarantineRecord]


@dataclass
class _Draft:
    """A sample while its members are being gathered."""

    key: str
    status: Status = Status.OK
    error: str | None = None
    label: int | None = None
    members: dict[str, Member] = field(default_factory=dict)


class _HashingFile:
    """Hashes what is read through it."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self.sha256 = file, hashlib.sha256()

    def read(self, size: int, /) -> bytes:
        data = self._file.read(size)
        self.sha256.update(data)
        return data


def survey_all(shards: Sequence[str], workers: int) -> Generator[Survey, None, None]:
    """Surveys shards in parallel, in order, at most `workers` ahead of the caller."""
    ahead: deque[Future[Survey]] = deque()
    with ThreadPoolExecutor(max(1, workers)) as pool:
        for shard in shards:
            ahead.append(pool.submit(_survey, shard))
            if len(ahead) > workers:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()


def _survey(url: str) -> Survey:
    """Reads one shard; one that cannot be read has no samples and a quarantine record.

    Raises:
        OSError: the storage does not answer, or an object store refuses the shard: it may be whole, and the run would
            be frozen without it.
    """
    storage, name = locate(url)
    size, version, digest = 0, "", None
    try:
        entry = storage.entry(name)
        if entry is None:
            raise FileNotFoundError("no such file")
        size, version = entry.size, entry.version
        with storage.open(name) as file:
            hashing = _HashingFile(file)
            contents = scan(hashing, keep=lambda extension, size: extension == "cls" and size <= _LABEL_LIMIT)
        digest = None if is_object_url(url) else hashing.sha256.hexdigest()
    except OSError as error:
        if is_object_url(url) and not isinstance(error, FileNotFoundError):
            raise
        if error.errno in _NO_ANSWER:
            reason = f"{error.strerror}; it may be whole, so no run is begun without it"
            raise OSError(error.errno, reason, url) from error
        contents = Scan([], [], Damage(0, error.strerror or str(error)))
    drafts, quarantine = _group(contents, name)
    return Survey(ShardRecord(name, url, size, version, digest), _table(drafts, name), quarantine)


def _group(contents: Scan, shard: str) -> tuple[list[_Draft], list[QuarantineRecord]]:
    """Members to samples, in order of first appearance."""
    drafts: list[_Draft] = []
    latest: dict[str, _Draft] = {}
    quarantine = [
        QuarantineRecord(shard, Kind.SKIPPED, None, item.offset, f"{item.name}: {item.reason}".removeprefix(": "))
        for item in contents.skipped
    ]

    def draft_of(member: TarMember) -> _Draft:
        draft = latest.get(member.key)
        if draft is None or member.extension in draft.members:
            again, draft = draft is not None, _Draft(member.key)
            drafts.append(draft)
            latest[member.key] = draft
            if again:
                draft.status = Status.DUPLICATE
                reason = f"a second {member.extension} of this key at offset {member.offset}"
                draft.error = f"{shard}: {member.key}: {reason}"
                quarantine.append(QuarantineRecord(shard, Kind.DUPLICATE, member.key, member.offset, reason))
        return draft

    for member in contents.members:
        draft = draft_of(member)
        draft.members[member.extension] = Member(member.extension, member.offset, member.size)
        if member.extension == "cls":
            draft.label = _label(member.payload)
    if contents.damage is not None:
        cut = draft_of(contents.damage.member) if contents.damage.member is not None else _short_last(drafts)
        quarantine.append(_damage_record(contents.damage, shard, cut, readable=bool(drafts)))
    elif not drafts:
        reason = "no samples" if contents.skipped else "no samples: an archive without files"
        quarantine.append(QuarantineRecord(shard, Kind.UNREADABLE, None, 0, reason))
    elif not any(draft.members.keys() & IMAGE_EXTENSIONS for draft in drafts):
        extensions = list(dict.fromkeys(extension for draft in drafts for extension in draft.members))
        reason = f"no sample has an image: {no_image_member(extensions)}"
        quarantine.append(QuarantineRecord(shard, Kind.IMAGELESS, None, None, reason))
    return drafts, quarantine


def _short_last(drafts: list[_Draft]) -> _Draft | None:
    """The last sample, if it seems to lack members: its extensions are not those of the sample before it."""
    if len(drafts) < 2 or drafts[-1].status != Status.OK:
        return None
    return drafts[-1] if drafts[-1].members.keys() != drafts[-2].members.keys() else None


def _damage_record(damage: Damage, shard: str, cut: _Draft | None, readable: bool) -> QuarantineRecord:
    """The record of a cut shard; marks the sample that the cut leaves incomplete, if one is."""
    offset = damage.last_good_offset
    reason = f"{damage.reason}; last good offset {offset}" if offset else damage.reason
    if cut is not None:
        cut.status, cut.error = Status.TRUNCATED, f"{shard}: {cut.key}: {reason}"
    kind = Kind.TRUNCATED if readable else Kind.UNREADABLE
    return QuarantineRecord(shard, kind, cut.key if cut else None, offset, reason)


def _label(payload: bytes | None) -> int | None:
    try:
        label = int((payload or b"").replace(b"_", b"?"))  # Python would read 1_0 as 10
    except ValueError:
        return None
    return label if np.iinfo(np.int32).min <= label <= np.iinfo(np.int32).max else None


def _table(drafts: list[_Draft], shard: str) -> pa.Table:
    columns = {
        "shard": [shard] * len(drafts),
        "index": range(len(drafts)),
        "key": [draft.key for draft in drafts],
        "label": [draft.label for draft in drafts],
        "status": [draft.status.value for draft in drafts],
        "error": [draft.error for draft in drafts],
        "members": [list(map(vars, draft.members.values())) for draft in drafts],
    }
    return pa.table(columns, schema=_SAMPLES)
