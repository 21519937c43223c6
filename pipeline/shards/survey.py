"""What one shard holds: its samples, gathered from its members, and what is wrong with it."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np
import pyarrow as pa

from pipeline.shards.images import IMAGE_EXTENSIONS, no_image_member
from pipeline.shards.manifest_table import MANIFEST
from pipeline.shards.samples import Member, Status
from pipeline.shards.tar_scan import Damage, Scan, TarMember

LABEL_LIMIT = 64  # bytes; a longer payload is no class number
# The columns of the manifest without `unit`.
SAMPLES = pa.schema([column for column in MANIFEST if column.name != "unit"])


class Kind(StrEnum):
    """Why something is in quarantine."""

    UNREADABLE = "unreadable"
    TRUNCATED = "truncated"
    DUPLICATE = "duplicate"
    SKIPPED = "skipped"
    IMAGELESS = "imageless"


@dataclass(frozen=True)
class ShardRecord:
    """A shard as it was when its samples were listed.

    Attributes:
        name, url: its file name, and where it lies.
        size, version: in bytes; mtime in ns, or ETag. A shard that is not there has 0 and no version.
        sha256: of its bytes, where they were all read; else None.
    """

    name: str
    url: str
    size: int
    version: str
    sha256: str | None = None

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


@dataclass(frozen=True)
class Survey:
    """What one shard holds.

    Attributes:
        record: the shard.
        samples: rows with the columns `SAMPLES`.
        quarantine: its faults.
        note: what a person should know of how it was surveyed.
    """

    record: ShardRecord
    samples: pa.Table
    quarantine: list[QuarantineRecord]
    note: str | None = None


@dataclass
class _Draft:
    """A sample while its members are being gathered."""

    key: str
    status: Status = Status.OK
    error: str | None = None
    label: int | None = None
    members: dict[str, Member] = field(default_factory=dict)


def is_label(extension: str, size: int) -> bool:
    """Whether a member may be a class number, by its extension and size in bytes."""
    return extension == "cls" and size <= LABEL_LIMIT


def surveyed(record: ShardRecord, contents: Scan, note: str | None = None) -> Survey:
    """The survey of a shard, from its members; the payloads of those that `is_label` names are in `contents`."""
    drafts, quarantine = _group(contents, record.name)
    return Survey(record, _table(drafts, record.name), quarantine, note)


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
    return pa.table(columns, schema=SAMPLES)
