"""Proof, from the files alone, that every expected sample has exactly one row under every label.

    expected = ok + every other status, for each label, and nothing else is in the run's folders

Everything is read one unit at a time, the manifest one shard at a time: only names of files grow with the run.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import manifest as manifests
from pipeline.commit import Commit, read_commit
from pipeline.manifest import Manifest
from pipeline.names import MANIFEST, RUN, TABLES, commit_name, config_name, table_name
from pipeline.plan import RECORDED_ONLY, Label, RefusedError, canonical, open_run_record, recorded_labels
from pipeline.planning import OURS
from pipeline.records import ManifestRow, Status
from pipeline.storage import Storage, open_storage
from pipeline.writer import identity_of
from ssig.errors import SsigError

CHECKED = ["unit", "shard", "index", "key", "model", "method", "status", "error"]


@dataclass(frozen=True)
class AuditResult:
    """What an audit found.

    Attributes:
        run: the run.
        expected: samples of the manifest.
        units: units of the manifest.
        statuses: rows by status under each `model / method` label.
        problems: everything that is wrong, one line each; empty for a sound and finished run.
    """

    run: str
    expected: int
    units: int
    statuses: Mapping[str, Mapping[str, int]]
    problems: Sequence[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return not self.problems


def audit(run: str) -> AuditResult:
    """Audits a run.

    Raises:
        UsageError: there is no run.
        RefusedError: `run.json` or the manifest cannot be read, so that nothing can be proved.
    """
    storage = open_storage(run)
    record = open_run_record(storage)
    manifest = _manifest(storage)
    problems = []
    if manifest.hash != record["dataset"]["manifest_hash"]:
        problems.append(f"{MANIFEST}: its content is not the one that {RUN} names")
    labels = recorded_labels(storage)
    if not labels:
        problems.append("config: the run has no labels")
    known = {RUN, MANIFEST}
    statuses: dict[str, Mapping[str, int]] = {}
    for label in labels:
        known.add(config_name(label.model, label.method))
        problems += _label_problems(label, manifest)
        counts: Counter[str] = Counter()
        missing = []
        for unit in manifest.units():
            names = _unit_names(label, unit.id)
            known.update(names.values())
            if storage.entry(names["commit"]) is None:
                missing.append(unit.id)
                continue
            found, wrong = _audit_unit(storage, label, unit.id, manifest.rows(unit.id))
            counts += found
            problems += wrong
        title = f"{label.model} / {label.method}"
        statuses[title] = dict(counts)
        if missing:
            problems.append(f"{title}: {len(missing)} of {manifest.unit_count} units have no commit: {_some(missing)}")
        if counts.total() != len(manifest):
            problems.append(f"{title}: {len(manifest)} samples expected, {counts.total()} rows committed")
    problems += _orphans(storage, known)
    return AuditResult(storage.root, len(manifest), manifest.unit_count, statuses, problems)


def _manifest(storage: Storage) -> Manifest:
    try:
        return manifests.load(storage)
    except FileNotFoundError:
        raise RefusedError(f"{storage.root}: no {MANIFEST}, so nothing can be proved") from None


def _unit_names(label: Label, unit: str) -> dict[str, str]:
    names = {table: table_name(table, label.model, label.method, unit) for table in TABLES}
    return {**names, "commit": commit_name(label.model, label.method, unit)}


def _label_problems(label: Label, manifest: Manifest) -> list[str]:
    name = config_name(label.model, label.method)
    frozen = {field: value for field, value in label.config.items() if field not in RECORDED_ONLY}
    problems = []
    if hashlib.sha256(canonical(frozen)).hexdigest() != label.config.get("fingerprint"):
        problems.append(f"{name}: its content does not have its fingerprint")
    if label.config.get("dataset", {}).get("manifest_hash") != manifest.hash:
        problems.append(f"{name}: it belongs to another manifest")
    return problems


def _audit_unit(
    storage: Storage, label: Label, unit: str, rows: Sequence[ManifestRow]
) -> tuple[Counter[str], list[str]]:
    """Rows by status of one committed unit, and what is wrong with it."""
    names = _unit_names(label, unit)
    try:
        commit = read_commit(storage, names["commit"])
        problems = list(_commit_problems(commit, label, unit, names, len(rows)))
        tables = {table: _table(storage, names[table], commit) for table in TABLES}
    except (SsigError, OSError) as error:
        return Counter(), [str(error)]
    for table, content in tables.items():
        problems += [f"{names[table]}: {problem}" for problem in _row_problems(content, label, rows)]
    counts = Counter(tables["attributions"]["status"].to_pylist())
    if dict(counts) != dict(commit.statuses):
        problems.append(f"{names['commit']}: counts {dict(commit.statuses)}, the rows say {dict(counts)}")
    if tables["metrics"]["status"].to_pylist() != tables["attributions"]["status"].to_pylist():
        problems.append(f"{names['metrics']}: its statuses are not those of the attributions")
    return counts, problems


def _commit_problems(commit: Commit, label: Label, unit: str, names: Mapping[str, str], rows: int) -> Iterator[str]:
    if commit.unit != unit:
        yield f"{names['commit']}: is the commit of unit {commit.unit}"
    if commit.fingerprint != label.fingerprint:
        yield f"{names['commit']}: its fingerprint is not the label's"
    if commit.rows != rows:
        yield f"{names['commit']}: {commit.rows} rows, the manifest has {rows}"
    if set(commit.files) != {names[table] for table in TABLES}:
        yield f"{names['commit']}: names {sorted(commit.files)}"


def _table(storage: Storage, name: str, commit: Commit) -> pa.Table:
    """The checked columns of a published file, whose bytes are the committed ones."""
    if storage.entry(name) is None:
        raise RefusedError(f"{name}: missing, though its unit is committed")
    data = storage.read(name)
    if identity_of(data) != dict(commit.files.get(name, {})):
        raise RefusedError(f"{name}: its bytes are not the committed ones")
    try:
        return pq.read_table(pa.BufferReader(data), columns=CHECKED)
    except (pa.ArrowException, OSError, KeyError) as error:
        raise RefusedError(f"{name}: not a readable table ({error})") from None


def _row_problems(table: pa.Table, label: Label, rows: Sequence[ManifestRow]) -> Iterator[str]:
    found = [(r["unit"], r["shard"], r["index"], r["key"]) for r in table.select(CHECKED[:4]).to_pylist()]
    expected = [(row.unit, row.shard, row.index, row.key) for row in rows]
    if found != expected:
        lost, extra = Counter(expected) - Counter(found), Counter(found) - Counter(expected)
        yield f"{lost.total()} samples of the manifest have no row, {extra.total()} rows are not the manifest's"
    for row in table.to_pylist():
        yield from _value_problems(row, label)


def _value_problems(row: Mapping[str, Any], label: Label) -> Iterator[str]:
    if (row["model"], row["method"]) != (label.model, label.method):
        yield f"row {row['key']} is of {row['model']} / {row['method']}"
    if row["status"] not in list(Status):
        yield f"row {row['key']} has status {row['status']!r}"
    elif (row["status"] == Status.OK) != (row["error"] is None):
        yield f"row {row['key']} has status {row['status']} and error {row['error']!r}"


def _orphans(storage: Storage, known: set[str]) -> Iterator[str]:
    """Files that nothing accounts for: everything in the folders of results, and strangers beside them."""
    strict = {"attributions", "metrics", "commits", "config"}
    for entry in storage.list():
        top = entry.name.split("/")[0]
        if (top in strict or top not in OURS or "/" not in entry.name) and entry.name not in known:
            yield f"{entry.name}: an orphan: no commit or configuration accounts for it"


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (", …" if len(names) > 5 else "")
