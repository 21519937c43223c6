"""Proof, from the files alone, that every expected sample has exactly one row under every label.

    expected = ok + every other status, for each label, and nothing else is in the run's folders

All of it is derived again: hashes and sizes from the bytes, rows from the tables against the manifest, fingerprints
and schemas from the configurations, what is there from a listing. One file is read at a time (a large one by way of
the disk), the manifest one row group at a time; what grows is the ids of the units, of one label at a time.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.run.commit import Commit, read_commit
from pipeline.run.described import known_metric
from pipeline.run.differences import RECORDED_ONLY
from pipeline.run.labels import OF_THE_RUN, Label, recorded_evaluations, recorded_labels
from pipeline.run.layout import (
    EVALUATION_RECORDS,
    EVALUATIONS,
    MANIFEST,
    OURS,
    RUN,
    TABLES,
    config_name,
    evaluation_folder,
    folder,
    records_folder,
)
from pipeline.run.records import RefusedError, canonical, checksum, open_run_record
from pipeline.run.schema import KEYS, attributions_schema, metrics_schema
from pipeline.shards import manifest as manifests
from pipeline.shards.manifest import Manifest
from pipeline.shards.samples import ManifestRow, Status
from pipeline.storage import open_storage
from pipeline.storage.base import Storage
from ssig.errors import SsigError, UsageError

CHECKED = ["unit", "shard", "index", "key", "status", "error"]
_IN_MEMORY = 64 * 2**20  # bytes of a table; a larger one is checked on the disk
_COMMIT, _TABLE = ".json", ".parquet"
_UNIT = r"\d{6,}-\d{6,}-\d{6,}"
_LABEL_FOLDER = r"model=[^/]+/method=[^/]+"
_STRICT = ("config",)  # of the folders beside those of a series, the one that holds nothing but what labels name


class Kind(StrEnum):
    """What sort of thing is wrong, which is what can be done about it.

    unfinished: units are still to be done; the command that made the run does them.
    damaged: a committed unit whose commit or tables are not what they should be.
    orphan: a file that has a name of ours and that no commit names.
    foreign: a file in the run's folders that has no name of ours.
    unconfigured: commits of a label whose configuration is gone; the command that made the run records it again.
    other version: a unit that is whole, in columns that this version does not write.
    unreadable: the storage did not give a file.
    record: `run.json`, the manifest or a configuration is not what it was; everything else is judged by them.
    """

    UNFINISHED = "unfinished"
    DAMAGED = "damaged"
    ORPHAN = "orphan"
    FOREIGN = "foreign"
    UNCONFIGURED = "unconfigured"
    OTHER_VERSION = "other version"
    UNREADABLE = "unreadable"
    RECORD = "record"


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong.

    Attributes:
        kind, message: what.
        files: what would have to go for the run to be sound or completed, in the order in which it may go.
        commit: of an orphan, the commit whose absence makes it one.
    """

    kind: Kind
    message: str
    files: tuple[str, ...] = ()
    commit: str | None = None


@dataclass(frozen=True)
class AuditResult:
    """What an audit found.

    Attributes:
        run: the run.
        expected: samples of the manifest.
        units: units of the manifest.
        statuses: rows by status under each `model / method` label.
        findings: everything that is wrong; empty for a sound and finished run.
    """

    run: str
    expected: int
    units: int
    statuses: Mapping[str, Mapping[str, int]]
    findings: Sequence[Finding] = field(default_factory=list)

    @property
    def problems(self) -> list[str]:
        """The findings in words, one line each."""
        return [finding.message for finding in self.findings]

    @property
    def ok(self) -> bool:
        return not self.findings


@dataclass(frozen=True)
class Series:
    """Tables that are committed together: one file of each per unit and label, and one commit.

    Every evaluation of a run is a series of its own.

    Attributes:
        commits: the folder of the commits.
        tables: the folders of the tables.
    """

    commits: str
    tables: tuple[str, ...]

    def commit(self, label_folder: str, unit: str) -> str:
        return f"{self.commits}/{label_folder}/{unit}{_COMMIT}"

    def table(self, table: str, label_folder: str, unit: str) -> str:
        return f"{table}/{label_folder}/{unit}{_TABLE}"

    def unit_tables(self, label_folder: str, unit: str) -> dict[str, str]:
        """Table -> its file of a unit."""
        return {table: self.table(table, label_folder, unit) for table in self.tables}


RESULTS = Series("commits", TABLES)


def audit(run: str) -> AuditResult:
    """Audits a run.

    Raises:
        UsageError: there is no run.
        RefusedError: a record that everything is judged by cannot be read, so that nothing can be proved.
        OSError: the storage cannot be listed.
    """
    storage = open_storage(run)
    record = open_run_record(storage)
    manifest = _manifest(storage)
    labels = {config_name(label.model, label.method): label for label in recorded_labels(storage)}
    findings = [Finding(Kind.RECORD, message) for message in _record_problems(record, manifest)]
    if not labels:
        findings.append(Finding(Kind.UNFINISHED, "config: the run has no labels"))
    statuses: dict[str, Mapping[str, int]] = {}
    columns = next((label.config.get("columns") for label in labels.values()), None)
    for label in labels.values():
        findings += [Finding(Kind.RECORD, message) for message in _label_problems(label, record, columns)]
        counts, found = _audit_label(storage, RESULTS, label, manifest)
        statuses[_title(label)] = counts
        findings += found
    evaluations = _evaluations(storage, list(labels.values()))
    tables: dict[str | None, Any] = {}  # evaluation -> the metrics that its tables have columns for
    for label in evaluations.values():
        columns = tables.setdefault(label.evaluation, label.config.get("columns"))
        findings += [Finding(Kind.RECORD, message) for message in _evaluation_problems(label, labels, columns)]
        counts, found = _audit_label(storage, series_of(label), label, manifest)
        statuses[_title(label)] = counts
        findings += found
    findings += _strangers(storage, RESULTS, labels)
    findings += _strange_evaluations(storage, evaluations)
    return AuditResult(storage.root, len(manifest), manifest.unit_count, statuses, findings)


def _manifest(storage: Storage) -> Manifest:
    try:
        return manifests.load(storage)
    except FileNotFoundError:
        raise RefusedError(f"{storage.root}: no {MANIFEST}, so nothing can be proved") from None


def series_of(label: Label) -> Series:
    """The series that a label's units are committed in."""
    if label.evaluation is None:
        return RESULTS
    commits = f"{records_folder(label.evaluation, label.version)}/commits"
    return Series(commits, (evaluation_folder(label.evaluation),))


def _title(label: Label) -> str:
    title = f"{label.model} / {label.method}"
    return title if label.evaluation is None else f"{title} / evaluation {label.evaluation}"


def _evaluations(storage: Storage, labels: Sequence[Label]) -> dict[str, Label]:
    """The evaluations of a run by the names of their configurations."""
    found = recorded_evaluations(storage, labels)
    return {config_name(label.model, label.method, label.evaluation, label.version): label for label in found}


def _evaluation_problems(label: Label, labels: Mapping[str, Label], columns: Sequence[str] | None) -> Iterator[str]:
    """What is wrong with an evaluation's configuration; `columns`: the metrics that its tables have columns for."""
    name = config_name(label.model, label.method, label.evaluation, label.version)
    own = {field: value for field, value in label.config.items() if field not in OF_THE_RUN}
    frozen = {field: value for field, value in own.items() if field not in RECORDED_ONLY}
    if hashlib.sha256(canonical(frozen)).hexdigest() != label.fingerprint:
        yield f"{name}: its content does not have its fingerprint"
    if label.config["base"] != labels[config_name(label.model, label.method)].fingerprint:
        yield f"{name}: it belongs to another configuration of its label"
    if label.config.get("columns") != columns:
        yield f"{name}: its tables have other columns than those of other labels"


def _strange_evaluations(storage: Storage, evaluations: Mapping[str, Label]) -> Iterator[Finding]:
    """Files in the folders of evaluations that no evaluation accounts for."""
    homes = {}
    for label in evaluations.values():
        series, where = series_of(label), folder(label.model, label.method)
        homes[f"{series.commits}/{where}"] = _COMMIT
        homes.update({f"{table}/{where}": _TABLE for table in series.tables})
    for entry in (*storage.list(EVALUATIONS), *storage.list(EVALUATION_RECORDS)):
        home, _, file = entry.name.rpartition("/")
        if entry.name not in evaluations and not (
            home in homes and re.fullmatch(_UNIT + re.escape(homes[home]), file)
        ):
            yield _foreign(entry.name)


def _record_problems(record: Mapping[str, Any], manifest: Manifest) -> Iterator[str]:
    dataset = record.get("dataset")
    if not isinstance(dataset, Mapping):
        yield f"{RUN}: it tells no data set"
        return
    if dataset.get("manifest_hash", "") not in (None, manifest.hash):
        yield f"{MANIFEST}: its content is not the one that {RUN} names"
    if dataset.get("samples") != len(manifest):
        yield f"{RUN}: {dataset.get('samples')} samples, the manifest has {len(manifest)}"
    if "checksum" in record and record["checksum"] != checksum(record):
        yield f"{RUN}: its content does not have its checksum"
    elif dataset.get("manifest_file", manifest.file_hash) != manifest.file_hash:
        yield f"{MANIFEST}: its bytes are not those that {RUN} names"


def _label_problems(label: Label, record: Mapping[str, Any], columns: Sequence[str] | None) -> Iterator[str]:
    """What is wrong with a configuration; `columns`: the metrics that the run's tables have columns for."""
    name = config_name(label.model, label.method)
    if label.version != record["schema_version"]:
        yield f"{name}: its schema_version is {label.version}, that of {RUN} {record['schema_version']}"
    if label.config.get("columns") != columns:
        yield f"{name}: its tables have other columns than those of other labels"
    frozen = {field: value for field, value in label.config.items() if field not in RECORDED_ONLY}
    if hashlib.sha256(canonical(frozen)).hexdigest() != label.config.get("fingerprint"):
        yield f"{name}: its content does not have its fingerprint"
    dataset = record.get("dataset")
    known = dataset.get("manifest_hash") if isinstance(dataset, Mapping) else None
    if label.config.get("dataset", {}).get("manifest_hash") != known:
        yield f"{name}: it belongs to another manifest"
    if label.config.get("seed") != record.get("seed"):
        yield f"{name}: its seed is {label.config.get('seed')}, that of {RUN} {record.get('seed')}"


def _audit_label(
    storage: Storage, series: Series, label: Label, manifest: Manifest
) -> tuple[dict[str, int], list[Finding]]:
    """Rows by status under one label, and what is wrong with its units."""
    where, title = folder(label.model, label.method), _title(label)
    committed = set(_units(storage, f"{series.commits}/{where}", _COMMIT))
    findings: list[Finding] = []
    counts: Counter[str] = Counter()
    undone: list[str] = []  # the first few
    undone_count = 0
    left = set(committed)
    for unit in manifest.units():
        if unit.id in committed:
            left.remove(unit.id)
            found, wrong = _audit_unit(storage, series, label, unit.id, manifest.rows(unit.id))
            counts += found
            findings += wrong
        else:
            undone_count += 1
            undone += [unit.id] * (len(undone) < 6)
    findings += [_orphan(series.commit(where, unit_id)) for unit_id in sorted(left)]
    for table in series.tables:
        for unit_id in _units(storage, f"{table}/{where}", _TABLE):
            if unit_id not in committed or unit_id in left:
                commit = None if unit_id in left else series.commit(where, unit_id)
                findings.append(_orphan(series.table(table, where, unit_id), commit))
    if undone_count:
        message = f"{undone_count} of {manifest.unit_count} units have no commit: {_some(undone)}"
        findings.append(Finding(Kind.UNFINISHED, f"{title}: {message}"))
    if counts.total() != len(manifest):
        message = f"{len(manifest)} samples expected, {counts.total()} rows committed"
        findings.append(Finding(Kind.UNFINISHED, f"{title}: {message}"))
    return dict(counts), findings


def _units(storage: Storage, label_folder: str, suffix: str) -> Iterator[str]:
    """Ids of the units that have a file in a label's folder."""
    for entry in storage.list(label_folder):
        stem = entry.name.removeprefix(f"{label_folder}/").removesuffix(suffix)
        if entry.name.endswith(suffix) and re.fullmatch(_UNIT, stem):
            yield stem


def _audit_unit(
    storage: Storage, series: Series, label: Label, unit: str, rows: Sequence[ManifestRow]
) -> tuple[Counter[str], list[Finding]]:
    """Rows by status of one committed unit, and what is wrong with it."""
    where = folder(label.model, label.method)
    commit_name, names = series.commit(where, unit), series.unit_tables(where, unit)
    files = (commit_name, *names.values())

    def damaged(message: str) -> Finding:
        return Finding(Kind.DAMAGED, message, files)

    try:
        commit = read_commit(storage, commit_name)
        tables = {table: _table(storage, name, commit) for table, name in names.items()}
        problems = [f"{commit_name}: {problem}" for problem in _commit_problems(commit, label, unit, names, len(rows))]
        problems += _measured_problems(storage, commit, label, unit)
    except SsigError as error:
        return Counter(), [damaged(str(error))]
    except (AttributeError, TypeError, ValueError) as error:
        return Counter(), [damaged(f"{commit_name}: its fields are not those of a commit record ({error})")]
    except OSError as error:  # nothing is known of it
        return Counter(), [Finding(Kind.UNREADABLE, f"unit {unit} of {label.method} could not be read: {error}")]
    for table, content in tables.items():
        problems += [f"{names[table]}: {problem}" for problem in _row_problems(content.rows, label, rows)]
    first, *others = (content.rows["status"].to_pylist() for content in tables.values())
    counts = Counter(first)
    if dict(counts) != dict(commit.statuses):
        problems.append(f"{commit_name}: counts {dict(commit.statuses)}, the rows say {dict(counts)}")
    for name, other in zip(list(names.values())[1:], others, strict=True):
        if other != first:
            problems.append(f"{name}: its statuses are not those of the {series.tables[0]}")
    findings = [damaged(problem) for problem in problems]
    if not findings:
        findings = [
            Finding(Kind.OTHER_VERSION, f"{names[table]}: {problem}")
            for table, content in tables.items()
            for problem in _schema_problems(table, content.schema, label)
        ]
    return counts, findings


def _commit_problems(commit: Commit, label: Label, unit: str, names: Mapping[str, str], rows: int) -> Iterator[str]:
    if commit.unit != unit:
        yield f"is the commit of unit {commit.unit}"
    if commit.fingerprint != label.fingerprint:
        yield "its fingerprint is not the label's"
    if commit.rows != rows:
        yield f"{commit.rows} rows, the manifest has {rows}"
    measured = {_measured(label, unit)} if label.evaluation is not None else set()
    if set(commit.files) != {*names.values(), *measured}:
        yield f"names {sorted(commit.files)}"
    if not commit.is_whole:
        yield "its content does not have its checksum"


def _measured(label: Label, unit: str) -> str:
    """The attributions that an evaluation measured."""
    return RESULTS.table(TABLES[0], folder(label.model, label.method), unit)


def _measured_problems(storage: Storage, commit: Commit, label: Label, unit: str) -> Iterator[str]:
    """Whether the attributions that an evaluation measured are those that the run holds."""
    if label.evaluation is None:
        return
    name = _measured(label, unit)
    base = RESULTS.commit(folder(label.model, label.method), unit)
    if storage.entry(base) is None:
        yield f"{series_of(label).commits}: measured unit {unit} of {label.method}, which is not committed"
    elif read_commit(storage, base).files.get(name) != commit.files.get(name):
        yield f"{series_of(label).commits}: measured a {name} that is not the committed one"


class _Table(NamedTuple):
    """The checked columns of a table, and the schema of all."""

    rows: pa.Table
    schema: pa.Schema


class _DamagedError(SsigError):
    """A table that is not what its commit says."""


def _table(storage: Storage, name: str, commit: Commit) -> _Table:
    """A published file, whose bytes are the committed ones.

    Raises:
        _DamagedError: what is wrong with the file.
        OSError: the storage does not give it.
    """
    with tempfile.SpooledTemporaryFile(_IN_MEMORY, prefix="ssig-") as copy:
        try:
            with storage.open(name) as file:
                shutil.copyfileobj(file, copy)
        except FileNotFoundError:
            raise _DamagedError(f"{name}: missing, though its unit is committed") from None
        size = copy.tell()
        copy.seek(0)
        identity = {"bytes": size, "sha256": hashlib.file_digest(copy, "sha256").hexdigest()}
        if identity != dict(commit.files.get(name, {})):
            raise _DamagedError(f"{name}: its bytes are not the committed ones")
        try:
            parquet = pq.ParquetFile(copy)
            own = [*CHECKED, *(name for name in KEYS if name in parquet.schema_arrow.names)]
            return _Table(parquet.read(own).select(own), parquet.schema_arrow)
        except (pa.ArrowException, OSError, KeyError) as error:
            raise _DamagedError(f"{name}: not a readable table ({error})") from None


def _row_problems(table: pa.Table, label: Label, rows: Sequence[ManifestRow]) -> Iterator[str]:
    found = [(r["unit"], r["shard"], r["index"], r["key"]) for r in table.select(CHECKED[:4]).to_pylist()]
    expected = [(row.unit, row.shard, row.index, row.key) for row in rows]
    if found != expected:
        lost, extra = Counter(expected) - Counter(found), Counter(found) - Counter(expected)
        yield f"{lost.total()} samples of the manifest have no row, {extra.total()} rows are not the manifest's"
    for row in table.to_pylist():
        yield from _value_problems(row, label)


def _value_problems(row: Mapping[str, Any], label: Label) -> Iterator[str]:
    # In tables of schema 1 the labels are columns too.
    if (row.get("model", label.model), row.get("method", label.method)) != (label.model, label.method):
        yield f"row {row['key']} is of {row.get('model')} / {row.get('method')}"
    if row["status"] not in list(Status):
        yield f"row {row['key']} has status {row['status']!r}"
    elif (row["status"] == Status.OK) != (row["error"] is None):
        yield f"row {row['key']} has status {row['status']} and error {row['error']!r}"


def _schema_problems(table: str, schema: pa.Schema, label: Label) -> Iterator[str]:
    config, version = label.config, label.version
    try:
        if table == "attributions":
            shape = (3, *config["model"]["input_size"])
            expected = attributions_schema(shape, config["maps"], config["channels"], version)
        elif table == "metrics" or table.startswith(f"{EVALUATIONS}/"):
            # Runs of schema 1 record no revisions, so nobody knows which columns a metric had.
            metrics = [known_metric(config, name) for name in config["columns"]] if version > 1 else []
            expected = metrics_schema(metrics, version)
            if version == 1:
                schema = pa.schema([field for field in schema if field.name in expected.names], schema.metadata)
        else:
            return
    except UsageError as error:
        yield f"a metric that this version does not know ({error.found})"
        return
    if not schema.equals(expected) or schema.metadata != expected.metadata:
        yield "its columns are not those that this version writes for its configuration"


def _strangers(storage: Storage, series: Series, labels: Mapping[str, Label]) -> Iterator[Finding]:
    """Files that no label of the run accounts for."""
    known = {folder(label.model, label.method) for label in labels.values()}
    unconfigured: Counter[str] = Counter()
    for entry in storage.list():
        place = _place(series, entry.name)
        if place is None:
            top, _, rest = entry.name.partition("/")
            if entry.name not in {RUN, MANIFEST, *labels} and (top not in OURS or top in _STRICT or not rest):
                yield _foreign(entry.name)
            continue
        suffix, rest = place
        named = re.fullmatch(rf"({_LABEL_FOLDER})/({_UNIT}){re.escape(suffix)}", rest)
        if named is None:
            yield _foreign(entry.name)
        elif named[1] in known:
            continue  # judged with its label
        elif suffix == _COMMIT:
            unconfigured[named[1]] += 1
        elif storage.entry(series.commit(named[1], named[2])) is None:
            yield _orphan(entry.name, series.commit(named[1], named[2]))
    for label_folder, count in unconfigured.items():
        message = f"{series.commits}/{label_folder}: {count} commits whose configuration is gone"
        yield Finding(Kind.UNCONFIGURED, f"{message}; the command that made the run records it again")


def _place(series: Series, name: str) -> tuple[str, str] | None:
    """How a file of a series ends that lies where `name` does, and the rest of `name`; None if it is of no series."""
    for top, suffix in ((series.commits, _COMMIT), *((table, _TABLE) for table in series.tables)):
        if name.startswith(f"{top}/"):
            return suffix, name.removeprefix(f"{top}/")
    return None


def _orphan(name: str, commit: str | None = None) -> Finding:
    return Finding(Kind.ORPHAN, f"{name}: an orphan: no commit names it", (name,), commit)


def _foreign(name: str) -> Finding:
    return Finding(Kind.FOREIGN, f"{name}: an orphan that is not of this run: no file of a run has such a name")


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (", …" if len(names) > 5 else "")
