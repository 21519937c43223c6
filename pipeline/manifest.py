"""The manifest: every sample that a run expects, listed once before any work.

    rows = samples of shard 0, then of shard 1, …; a unit = at most `unit_size` consecutive rows of one shard.

A sample is all members of one key, wherever in its shard they lie. A member that its key already has opens a row
of its own (`duplicate`), to which the later members of that key belong. Where a shard is cut, the sample whose
payload is cut is `truncated`; at a cut between payloads the last sample is, if its extensions differ from those of
the sample before it. What is damaged, doubled or skipped is also a quarantine record, which says what and where.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import io
import json
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from enum import StrEnum
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline import schema
from pipeline.records import ManifestRow, Member, Status, Unit
from pipeline.storage import Storage, is_object_url, locate, sha256
from pipeline.tarscan import Damage, Scan, TarMember, scan
from ssig.errors import UsageError

FILE = "manifest.parquet"
_META = b"ssig.manifest"
_LABEL_LIMIT = 64  # bytes; a longer payload is no class number
_SAMPLES = pa.schema([name for name in schema.MANIFEST if name.name != "unit"])


class Kind(StrEnum):
    """Why something is in quarantine."""

    UNREADABLE = "unreadable"
    TRUNCATED = "truncated"
    DUPLICATE = "duplicate"
    SKIPPED = "skipped"


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
        """What makes it the same shard: not where it lies, nor, where its hash is known, when it was written."""
        return self.name, self.size, self.sha256 or self.version


@dataclass(frozen=True)
class QuarantineRecord:
    """A fault in a shard.

    Attributes:
        shard, kind, reason: where, of what sort, and in words.
        key: the sample that it concerns, if it is one's.
        offset: in bytes: of the member at fault, or where the good part of a cut shard ends.
    """

    shard: str
    kind: Kind
    key: str | None
    offset: int | None
    reason: str


@dataclass(frozen=True)
class Manifest:
    """The expected samples of a run: `table` has `schema.MANIFEST`, one row per sample, units one after another."""

    table: pa.Table
    shards: tuple[ShardRecord, ...]
    quarantine: tuple[QuarantineRecord, ...]

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def units(self) -> list[Unit]:
        """Every unit, in order."""
        return [_unit(id_, self.table["shard"][start].as_py()) for id_, (start, _) in self._slices.items()]

    def rows(self, unit_id: str) -> list[ManifestRow]:
        """The samples of a unit, in order.

        Raises:
            KeyError: there is no such unit.
        """
        start, stop = self._slices[unit_id]
        return [_row(values) for values in self.table.slice(start, stop - start).to_pylist()]

    @functools.cached_property
    def hash(self) -> str:
        """SHA-256 of the rows and of the identities of the shards, free of how either is stored."""
        digest = hashlib.sha256(json.dumps([shard.identity for shard in self.shards]).encode())
        for name, column in _flat_columns(self.table):
            digest.update(json.dumps([name, len(column)]).encode())
            if pa.types.is_integer(column.type):
                # Outside the range of every column, so that null is told from each number.
                digest.update(np.asarray(column.cast(pa.int64()).fill_null(np.iinfo(np.int64).min), "<i8").tobytes())
            else:
                digest.update(json.dumps(column.to_pylist()).encode())
        return digest.hexdigest()

    def save(self, storage: Storage) -> bool:
        """Stores the manifest unless the run has one; whether it did."""
        about = {
            "shards": [dataclasses.astuple(shard) for shard in self.shards],
            "quarantine": [dataclasses.astuple(record) for record in self.quarantine],
        }
        metadata = {**schema.MANIFEST.metadata, _META: json.dumps(about)}
        buffer = io.BytesIO()
        pq.write_table(self.table.replace_schema_metadata(metadata), buffer)
        return storage.create(FILE, buffer.getvalue())

    @functools.cached_property
    def _slices(self) -> dict[str, tuple[int, int]]:
        """First row and end of each unit."""
        runs = pc.run_end_encode(self.table["unit"].combine_chunks(), run_end_type=pa.int64())
        ends = runs.run_ends.to_pylist()
        return dict(zip(runs.values.to_pylist(), zip([0, *ends[:-1]], ends, strict=True), strict=True))


def load(storage: Storage) -> Manifest:
    """The manifest of a run.

    Raises:
        FileNotFoundError: the run has none.
        UsageError: field ``manifest.parquet``; it is damaged or not a manifest.
    """
    data = storage.read(FILE)
    try:
        table = pq.read_table(io.BytesIO(data))
        about = json.loads(table.schema.metadata[_META])
        shards = tuple(ShardRecord(*values) for values in about["shards"])
        quarantine = tuple(QuarantineRecord(shard, Kind(kind), *rest) for shard, kind, *rest in about["quarantine"])
        return Manifest(table.cast(schema.MANIFEST), shards, quarantine)
    except (pa.ArrowException, OSError, KeyError, TypeError, ValueError) as error:
        raise UsageError(FILE, f"{storage.root}: {error}", "the manifest that the run was started with") from error


def build(shards: Sequence[str], unit_size: int, limit: int | None = None, workers: int = 8) -> Manifest:
    """Reads every shard once and lists its samples.

    Args:
        shards: paths or URLs, as `pipeline.shards.expand` gives them.
        unit_size: the most samples of a unit.
        limit: only the first so many samples, and only the shards that hold them.
        workers: shards read at a time.

    Raises:
        UsageError: field ``dataset.shards``; no shard has a readable sample.
    """
    surveys: list[_Survey] = []
    tables: list[pa.Table] = []
    wanted = limit
    for survey in _survey_all(shards, workers, eager=limit is None):
        taken = survey.samples.slice(0, wanted)
        tables.append(_with_units(taken, len(surveys), unit_size))
        surveys.append(survey)
        if wanted is not None:
            wanted -= taken.num_rows
            if wanted <= 0:
                break
    quarantine = tuple(record for survey in surveys for record in survey.quarantine)
    table = pa.concat_tables([schema.MANIFEST.empty_table(), *tables]).combine_chunks()
    if table.num_rows == 0:
        found = "; ".join(f"{record.shard}: {record.reason}" for record in quarantine[:3])
        raise UsageError("dataset.shards", found, "at least one shard with a readable sample")
    return Manifest(table, tuple(survey.record for survey in surveys), quarantine)


def verify_shards(manifest: Manifest) -> list[str]:
    """What has changed in the shards since the manifest was built; hashes are compared only where versions differ.

    Returns:
        one line per difference: shard, field, what was recorded and what was found.
    """
    return [line for record in manifest.shards if (line := _difference(record)) is not None]


def _difference(record: ShardRecord) -> str | None:
    storage, name = locate(record.url)
    entry = storage.entry(name)
    if entry is None:
        return f"{record.name}: recorded {record.size} bytes, found no file at {record.url}"
    if entry.size != record.size:
        return f"{record.name}: size: recorded {record.size}, found {entry.size}"
    if entry.version == record.version:
        return None
    if record.sha256 is None:
        return f"{record.name}: version: recorded {record.version}, found {entry.version}"
    found = sha256(storage.open(name))
    return None if found == record.sha256 else f"{record.name}: sha256: recorded {record.sha256}, found {found}"


@dataclass(frozen=True)
class _Survey:
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


def _survey_all(shards: Sequence[str], workers: int, eager: bool) -> Iterator[_Survey]:
    """Surveys shards in parallel, in order; if not `eager`, at most `workers` beyond what is asked for."""
    step = max(1, len(shards) if eager else workers)
    with ThreadPoolExecutor(max(1, workers)) as pool:
        for start in range(0, len(shards), step):
            yield from pool.map(_survey, shards[start : start + step])


def _survey(url: str) -> _Survey:
    """Reads one shard; one that cannot be read has no samples and a quarantine record."""
    storage, name = locate(url)
    size, version, digest = 0, "", None
    try:
        entry = storage.entry(name)
        if entry is None:
            raise FileNotFoundError("no such file")
        size, version = entry.size, entry.version
        with storage.open(name) as file:
            hashing = _HashingFile(file)
            found = scan(hashing, keep=lambda extension, size: extension == "cls" and size <= _LABEL_LIMIT)
        digest = None if is_object_url(url) else hashing.sha256.hexdigest()
    except OSError as error:
        found = Scan([], [], Damage(0, error.strerror or str(error)))
    drafts, quarantine = _group(found, name)
    return _Survey(ShardRecord(name, url, size, version, digest), _table(drafts, name), quarantine)


def _group(found: Scan, shard: str) -> tuple[list[_Draft], list[QuarantineRecord]]:
    """Members to samples, in order of first appearance."""
    drafts: list[_Draft] = []
    latest: dict[str, _Draft] = {}
    quarantine = [
        QuarantineRecord(shard, Kind.SKIPPED, None, item.offset, f"{item.name}: {item.reason}".removeprefix(": "))
        for item in found.skipped
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

    for member in found.members:
        draft = draft_of(member)
        draft.members[member.extension] = Member(member.extension, member.offset, member.size)
        if member.extension == "cls":
            draft.label = _label(member.payload)
    if found.damage is not None:
        cut = draft_of(found.damage.member) if found.damage.member is not None else _short_last(drafts)
        quarantine.append(_damage_record(found.damage, shard, cut, readable=bool(drafts)))
    elif not drafts:
        quarantine.append(QuarantineRecord(shard, Kind.UNREADABLE, None, 0, "no samples"))
    return drafts, quarantine


def _short_last(drafts: list[_Draft]) -> _Draft | None:
    """The last sample, if it seems to lack members: its extensions are not those of the sample before it."""
    if len(drafts) < 2 or drafts[-1].status != Status.OK:
        return None
    return drafts[-1] if drafts[-1].members.keys() != drafts[-2].members.keys() else None


def _damage_record(damage: Damage, shard: str, cut: _Draft | None, readable: bool) -> QuarantineRecord:
    """The record of a cut shard; marks the sample that the cut leaves incomplete, if one is."""
    reason = f"{damage.reason}; last good offset {damage.last_good_offset}"
    if cut is not None:
        cut.status, cut.error = Status.TRUNCATED, f"{shard}: {cut.key}: {reason}"
    kind = Kind.TRUNCATED if readable else Kind.UNREADABLE
    return QuarantineRecord(shard, kind, cut.key if cut else None, damage.last_good_offset, reason)


def _label(payload: bytes | None) -> int | None:
    try:
        label = int(payload or b"")
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


def _with_units(samples: pa.Table, ordinal: int, unit_size: int) -> pa.Table:
    """The samples of one shard, cut into units."""
    count = samples.num_rows
    starts = [index - index % unit_size for index in range(count)]
    units = [Unit(ordinal, "", start, min(start + unit_size, count)).id for start in starts]
    return samples.add_column(0, schema.MANIFEST.field("unit"), [pa.array(units, pa.string())]).cast(schema.MANIFEST)


def _unit(id_: str, shard: str) -> Unit:
    ordinal, start, stop = map(int, id_.split("-"))
    return Unit(ordinal, shard, start, stop)


def _row(values: dict[str, object]) -> ManifestRow:
    members = tuple(Member(**member) for member in values.pop("members"))  # type: ignore[attr-defined]
    return ManifestRow(**{**values, "status": Status(values["status"]), "members": members})  # type: ignore[arg-type]


def _flat_columns(table: pa.Table) -> Iterable[tuple[str, pa.Array]]:
    """The columns without nesting: members as their number per row and one column per field."""
    for name in table.column_names:
        column = table[name].combine_chunks()
        if name != "members":
            yield name, column
            continue
        yield "members", pc.list_value_length(column)
        members = pc.list_flatten(column)
        for index, struct_field in enumerate(members.type):
            yield f"members.{struct_field.name}", pc.struct_field(members, [index])
