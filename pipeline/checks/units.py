"""Whether a committed unit is what its commit, its label and the manifest say: bytes, rows and columns."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.checks.compacted import AuditedParts
from pipeline.checks.findings import Finding, Kind
from pipeline.run.described import known_metric
from pipeline.run.labels import Label
from pipeline.run.layout import ATTRIBUTIONS
from pipeline.run.publishing import identity_of
from pipeline.run.records import CommitRecord
from pipeline.run.schema import KEYS, attributions_schema, metrics_schema
from pipeline.shards.samples import ManifestRow, Status
from pipeline.storage.base import Storage
from ssig.errors import SsigError, UsageError

CHECKED = ["unit", "shard", "index", "key", "status", "error"]
_IN_MEMORY = 16 * 2**20  # bytes of a table as its commit says; a larger one is checked on the disk

# The commit of a unit under a label, or why that cannot be read.
Examined = CommitRecord | SsigError | OSError


def audit_unit(
    parts: AuditedParts, label: Label, unit: str, rows: Sequence[ManifestRow], commit: Examined, base: Examined | None
) -> tuple[Counter[str], list[Finding]]:
    """Rows by status of one committed unit, and what is wrong with it.

    Args:
        parts: of the run, with its other tables.
        label: the unit's label.
        unit: its id.
        rows: its manifest rows.
        commit: its commit.
        base: of an evaluation, the commit of what was measured; None without one.
    """
    names = label.table_names(unit)
    source = label.commit_name(unit)
    try:
        if isinstance(commit, Exception):
            raise commit
        source = commit.source
        tables = {table: _table(parts, name, commit) for table, name in names.items()}
        problems = [*_commit_problems(commit, label, unit, len(rows)), *_measured_problems(commit, label, unit, base)]
    except SsigError as error:
        return Counter(), [damaged(label, unit, source, str(error))]
    except OSError as error:  # nothing is known of it
        return Counter(), [Finding(Kind.UNREADABLE, f"unit {unit} of {label.method} could not be read: {error}")]
    for table, content in tables.items():
        problems += [f"{names[table]}: {problem}" for problem in _row_problems(content.rows, label, rows)]
    first_statuses, *later_statuses = (content.rows["status"].to_pylist() for content in tables.values())
    counts = Counter(first_statuses)
    if dict(counts) != commit.statuses:
        problems.append(f"{source}: counts {commit.statuses}, the rows say {dict(counts)}")
    for name, statuses in zip(list(names.values())[1:], later_statuses, strict=True):
        if statuses != first_statuses:
            problems.append(f"{name}: its statuses are not those of the {label.tables[0]}")
    findings = [damaged(label, unit, source, problem) for problem in problems]
    if not findings:
        findings = [
            Finding(Kind.OTHER_VERSION, f"{names[table]}: {problem}")
            for table, content in tables.items()
            for problem in _schema_problems(table, content.schema, label)
        ]
    return counts, findings


def damaged(label: Label, unit: str, source: str, message: str) -> Finding:
    """A unit that is not what it should be under a label; `source`: the file of its commit."""
    files = (source, *label.table_names(unit).values())
    return Finding(Kind.DAMAGED, message, files, unit=unit, config=label.config_name)


def _commit_problems(commit: CommitRecord, label: Label, unit: str, rows: int) -> Iterator[str]:
    name = commit.source
    if commit.unit != unit:
        yield f"{name}: is the commit of unit {commit.unit}"
    if not label.matches(commit):
        yield f"{name}: its fingerprint is not the label's"
    if commit.rows != rows:
        yield f"{name}: {commit.rows} rows, the manifest has {rows}"
    measured = {label.attributions_name(unit)} if label.evaluation is not None else set()
    if set(commit.files) != {*label.table_names(unit).values(), *measured}:
        yield f"{name}: names {sorted(commit.files)}"
    if not commit.is_whole:
        yield f"{name}: its content does not have its checksum"


def _measured_problems(commit: CommitRecord, label: Label, unit: str, base: Examined | None) -> Iterator[str]:
    """Whether the attributions that an evaluation measured are those that the run holds."""
    if label.evaluation is None:
        return
    name = label.attributions_name(unit)
    if base is None:
        yield f"{commit.source}: measured unit {unit} of {label.method}, which is not committed"
    elif isinstance(base, Exception):
        raise base
    elif base.files.get(name) != commit.files.get(name):
        yield f"{commit.source}: measured a {name} that is not the committed one"


class _Table(NamedTuple):
    """The checked columns of a table, and the schema of all."""

    rows: pa.Table
    schema: pa.Schema


class _DamagedError(SsigError):
    """A table that is not what its commit says."""


def _table(parts: AuditedParts, name: str, commit: CommitRecord) -> _Table:
    """The table of a unit, in a part or in a file of its own.

    Raises:
        SsigError: what is wrong with it.
        OSError: the storage does not give it.
    """
    place = parts.stored.place(name)
    if place.unit is not None:
        return _Table(*parts.rows(place, name, commit, CHECKED))
    return _own_file(parts.stored.storage, name, commit)


def _own_file(storage: Storage, name: str, commit: CommitRecord) -> _Table:
    """A published file, whose bytes are the committed ones.

    Raises:
        _DamagedError: what is wrong with the file.
        OSError: the storage does not give it.
    """
    committed = dict(commit.files.get(name, {}))
    try:
        if committed.get("bytes", 0) <= _IN_MEMORY:
            data = storage.read(name)  # one request
            return _checked(name, committed, identity_of(data), pa.BufferReader(data))
        with storage.open(name) as file, tempfile.TemporaryFile(prefix="ssig-") as copy:
            shutil.copyfileobj(file, copy)
            size = copy.tell()
            copy.seek(0)
            digest = hashlib.file_digest(copy, "sha256").hexdigest()
            return _checked(name, committed, {"bytes": size, "sha256": digest}, copy)
    except FileNotFoundError:
        raise _DamagedError(f"{name}: missing, though its unit is committed") from None


def _checked(name: str, committed: Mapping[str, Any], identity: Mapping[str, Any], file: Any) -> _Table:
    """A file whose hash and size are known."""
    if identity != committed:
        raise _DamagedError(f"{name}: its bytes are not the committed ones")
    try:
        parquet = pq.ParquetFile(file)
        schema = parquet.schema_arrow
        columns = [*CHECKED, *(name for name in KEYS if name in schema.names)]
        rows = parquet.read(columns, use_threads=False)  # many units are examined at a time
        return _Table(rows.select(columns), schema)
    except (pa.ArrowException, OSError, KeyError) as error:
        raise _DamagedError(f"{name}: not a readable table ({error})") from None


def _row_problems(table: pa.Table, label: Label, rows: Sequence[ManifestRow]) -> Iterator[str]:
    keys = table.select(CHECKED[:4])
    if not _is_equal(keys, [(row.unit, row.shard, row.index, row.key) for row in rows]):
        present = [tuple(row.values()) for row in keys.to_pylist()]
        expected = [(row.unit, row.shard, row.index, row.key) for row in rows]
        missing, extra = Counter(expected) - Counter(present), Counter(present) - Counter(expected)
        yield f"{missing.total()} samples of the manifest have no row, {extra.total()} rows are not the manifest's"
    if not _has_plain_values(table, label):
        for row in table.to_pylist():
            yield from _value_problems(row, label)


def _is_equal(table: pa.Table, rows: Sequence[tuple[Any, ...]]) -> bool:
    """Whether a table holds these rows in this order."""
    try:
        columns = [
            pa.array(values, field.type) for values, field in zip(zip(*rows, strict=True), table.schema, strict=True)
        ]
        return bool(table.equals(pa.table(columns, schema=table.schema)))
    except (pa.ArrowException, TypeError, ValueError):  # of another type, or without a row
        return False


def _has_plain_values(table: pa.Table, label: Label) -> bool:
    """Whether no row needs to be looked at by itself: all statuses are known, with an error where they are not ok."""
    of_schema_1 = [name for name in KEYS if name in table.column_names]
    if of_schema_1 or not set(table["status"].unique().to_pylist()) <= set(Status):
        return False
    fits = pc.equal(pc.equal(table["status"], Status.OK.value), pc.is_null(table["error"]))
    return bool(pc.all(fits, min_count=0).as_py())


def _value_problems(row: Mapping[str, Any], label: Label) -> Iterator[str]:
    # In tables of schema 1 the labels are columns too.
    if (row.get("model", label.model), row.get("method", label.method)) != (label.model, label.method):
        yield f"row {row['key']} is of {row.get('model')} / {row.get('method')}"
    if row["status"] not in list(Status):
        yield f"row {row['key']} has status {row['status']!r}"
    elif (row["status"] == Status.OK) != (row["error"] is None):
        yield f"row {row['key']} has status {row['status']} and error {row['error']!r}"


def _schema_problems(table: str, schema: pa.Schema, label: Label) -> Iterator[str]:
    settings, version = label.settings, label.version
    try:
        if table == ATTRIBUTIONS:
            height, width = settings.model.input_size
            expected = attributions_schema((3, height, width), settings.maps, settings.channels, version)
        else:
            # Runs of schema 1 record no revisions, so the columns of a metric are unknown.
            metrics = [known_metric(label.config, name) for name in settings.columns] if version > 1 else []
            expected = metrics_schema(metrics, version)
            if version == 1:
                schema = pa.schema([field for field in schema if field.name in expected.names], schema.metadata)
    except UsageError as error:
        yield f"a metric that this version does not know ({error.found})"
        return
    if not schema.equals(expected) or schema.metadata != expected.metadata:
        yield "its columns are not those that this version writes for its configuration"
