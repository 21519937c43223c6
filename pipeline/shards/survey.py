"""What one shard holds: its samples, gathered from its members, and what is wrong with it."""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import pyarrow as pa

from pipeline.shards.images import IMAGE_EXTENSIONS, no_image_member
from pipeline.shards.manifest_table import MANIFEST
from pipeline.shards.samples import Status
from pipeline.shards.tar_scan import Damage, Item, Skipped, TarMember

LABEL_LIMIT = 64  # bytes; a longer payload is no class number
_LEAST_LABEL, _MOST_LABEL = -(2**31), 2**31 - 1  # those of the manifest's column
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


def is_label(extension: str, size: int) -> bool:
    """Whether a member may be a class number, by its extension and size in bytes."""
    return extension == "cls" and size <= LABEL_LIMIT


def surveyed(record: ShardRecord, contents: Iterable[Item], note: str | None = None) -> Survey:
    """The survey of a shard, from what is in it; members that `is_label` names have their payloads."""
    samples = _Samples(record.name)
    skipped: list[QuarantineRecord] = []
    damage: Damage | None = None
    for item in contents:
        if isinstance(item, TarMember):
            samples.add(item)
        elif isinstance(item, Skipped):
            reason = f"{item.name}: {item.reason}".removeprefix(": ")
            skipped.append(QuarantineRecord(record.name, Kind.SKIPPED, None, item.offset, reason))
        else:
            damage = item
    fault = samples.fault(damage, has_skipped=bool(skipped))  # a cut in a second member of a key is a duplicate too
    quarantine = [*skipped, *samples.duplicates, *([] if fault is None else [fault])]
    return Survey(record, samples.table(), quarantine, note)


class _Samples:
    """The samples of a shard while its members are gathered, in order of first appearance: numbers in columns, since
    many shards are surveyed at a time.

    Args:
        shard: its file name.

    Attributes:
        duplicates: a record of each second member of a key.
    """

    def __init__(self, shard: str) -> None:
        self._shard = shard
        self.duplicates: list[QuarantineRecord] = []
        self._keys: list[str] = []
        self._latest: dict[str, int] = {}  # key -> the last sample of it
        self._labels: dict[int, int] = {}
        self._errors: dict[int, tuple[Status, str]] = {}
        self._extensions: dict[str, int] = {}  # -> its bit in `_held`
        self._held: list[int] = []  # which extensions each sample has
        # Of each member: its sample, its extension's bit, and where its payload lies.
        self._owners, self._bits, self._offsets, self._sizes = array("i"), array("i"), array("q"), array("q")

    def add(self, member: TarMember) -> None:
        """Takes a member in."""
        sample = self._sample_of(member)
        bit = self._bit(member.extension)
        self._held[sample] |= 1 << bit
        self._owners.append(sample)
        self._bits.append(bit)
        self._offsets.append(member.offset)
        self._sizes.append(member.size)
        if member.extension == "cls" and (label := _label(member.payload)) is not None:
            self._labels[sample] = label

    def fault(self, damage: Damage | None, *, has_skipped: bool) -> QuarantineRecord | None:
        """The record of a cut shard, or of one without images; marks the sample that a cut leaves incomplete."""
        if damage is not None:
            cut = self._sample_of(damage.member) if damage.member is not None else self._short_last()
            return self._cut(damage, cut)
        if not self._keys:
            reason = "no samples" if has_skipped else "no samples: an archive without files"
            return QuarantineRecord(self._shard, Kind.UNREADABLE, None, 0, reason)
        if not self._extensions.keys() & IMAGE_EXTENSIONS:
            reason = f"no sample has an image: {no_image_member(list(self._extensions))}"
            return QuarantineRecord(self._shard, Kind.IMAGELESS, None, None, reason)
        return None

    def table(self) -> pa.Table:
        """The samples, with the columns `SAMPLES`."""
        count = len(self._keys)
        errors = [self._errors.get(sample, (Status.OK, None)) for sample in range(count)]
        columns = {
            "shard": [self._shard] * count,
            "index": range(count),
            "key": self._keys,
            "label": [self._labels.get(sample) for sample in range(count)],
            "status": [status.value for status, _ in errors],
            "error": [error for _, error in errors],
            "members": self._members(),
        }
        return pa.table(columns, schema=SAMPLES)

    def _members(self) -> pa.Array:
        """The members of each sample, in the order of the archive."""
        owners = np.frombuffer(self._owners, np.intc)
        order = np.argsort(owners, kind="stable")
        extensions = pa.array(list(self._extensions), pa.string()).take(pa.array(np.frombuffer(self._bits, np.intc)))
        places = [pa.array(np.frombuffer(column, np.int64)) for column in (self._offsets, self._sizes)]
        type_ = SAMPLES.field("members").type
        members = pa.StructArray.from_arrays([extensions, *places], fields=list(type_.value_type))
        ends = np.cumsum(np.bincount(owners, minlength=len(self._keys)), dtype=np.int32)
        starts = pa.array(np.concatenate([np.zeros(1, np.int32), ends]))
        return pa.ListArray.from_arrays(starts, members.take(pa.array(order)), type=type_)

    def _sample_of(self, member: TarMember) -> int:
        """The sample of a member; a new one for the first of a key, and for one that its sample has already."""
        sample = self._latest.get(member.key)
        if sample is not None and not self._held[sample] >> self._bit(member.extension) & 1:
            return sample
        is_again = sample is not None
        sample = self._latest[member.key] = len(self._keys)
        self._keys.append(member.key)
        self._held.append(0)
        if is_again:
            reason = f"a second {member.extension} of this key at offset {member.offset}"
            self._errors[sample] = Status.DUPLICATE, f"{self._shard}: {member.key}: {reason}"
            self.duplicates.append(QuarantineRecord(self._shard, Kind.DUPLICATE, member.key, member.offset, reason))
        return sample

    def _bit(self, extension: str) -> int:
        return self._extensions.setdefault(extension, len(self._extensions))

    def _short_last(self) -> int | None:
        """The last sample, if it seems to lack members: its extensions are not those of the sample before it."""
        last = len(self._keys) - 1
        if last < 1 or last in self._errors:
            return None
        return last if self._held[last] != self._held[last - 1] else None

    def _cut(self, damage: Damage, cut: int | None) -> QuarantineRecord:
        offset = damage.last_good_offset
        reason = f"{damage.reason}; last good offset {offset}" if offset else damage.reason
        key = None if cut is None else self._keys[cut]
        if cut is not None:
            self._errors[cut] = Status.TRUNCATED, f"{self._shard}: {key}: {reason}"
        kind = Kind.TRUNCATED if self._keys else Kind.UNREADABLE
        return QuarantineRecord(self._shard, kind, key, offset, reason)


def _label(payload: bytes | None) -> int | None:
    try:
        label = int((payload or b"").replace(b"_", b"?"))  # Python would read 1_0 as 10
    except ValueError:
        return None
    return label if _LEAST_LABEL <= label <= _MOST_LABEL else None
