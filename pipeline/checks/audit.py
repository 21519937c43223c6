"""Proof, from the files alone, that every expected sample has exactly one row under every label.

    expected = ok + every other status, for each label, and nothing else is in the run's folders

All of it is derived again: hashes and sizes from the bytes, rows from the tables against the manifest, fingerprints
and schemas from the configurations, names of files from a listing. One table is read at a time (a large one by way of
the disk), and one row group of the manifest; only the commit records stay in memory.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from pipeline.checks.configurations import evaluation_problems, label_problems, run_problems
from pipeline.checks.findings import AuditResult, Finding, Kind, orphan
from pipeline.checks.strangers import UNIT, strange_evaluations, strangers
from pipeline.checks.units import Examined, audit_unit
from pipeline.run.directory import RunDirectory
from pipeline.run.labels import Label
from pipeline.run.layout import RECORD_SUFFIX, TABLE_SUFFIX, config_name, table_folder
from pipeline.storage import open_storage
from pipeline.storage.base import Storage


def audit(run: str) -> AuditResult:
    """Audits a run.

    Raises:
        UsageError: there is no run.
        RefusedError: a record that everything is judged by cannot be read, so that nothing can be proved.
        OSError: the storage cannot be listed.
    """
    directory = RunDirectory(open_storage(run))
    document, manifest = directory.opened(), directory.manifest
    labels = {label.config_name: label for label in directory.labels}
    findings = _records(run_problems(document, manifest, directory.seal))
    if directory.unsealed is not None:
        findings.append(Finding(Kind.UNFINISHED, directory.unsealed))
    if not labels:
        findings.append(Finding(Kind.UNFINISHED, "config: the run has no labels"))
    statuses: dict[str, Mapping[str, int]] = {}
    for label in labels.values():
        first = next(iter(labels.values()))
        findings += _records(label_problems(label, document, first.settings.columns))
        statuses[label.title], label_findings = _audit_label(directory, label)
        findings += label_findings
    evaluations = {label.config_name: label for label in directory.evaluations}
    firsts: dict[str | None, Label] = {}
    for label in evaluations.values():
        first = firsts.setdefault(label.evaluation, label)
        base = labels[config_name(label.model, label.method)]
        findings += _records(evaluation_problems(label, base, first.settings.columns))
        statuses[label.title], label_findings = _audit_label(directory, label, base)
        findings += label_findings
    findings += strangers(directory.storage, labels)
    findings += strange_evaluations(directory.storage, evaluations)
    return AuditResult(directory.root, len(manifest), manifest.unit_count, statuses, findings)


def _records(messages: Iterator[str]) -> list[Finding]:
    return [Finding(Kind.RECORD, message) for message in messages]


def _audit_label(
    directory: RunDirectory, label: Label, base: Label | None = None
) -> tuple[dict[str, int], list[Finding]]:
    """Rows by status under one label, or an evaluation of `base`, and what is wrong with its units."""
    manifest, storage = directory.manifest, directory.storage
    committed = _committed(directory, label)
    measured = {} if base is None else _committed(directory, base)
    findings: list[Finding] = []
    counts: Counter[str] = Counter()
    first_undone: list[str] = []  # the first few
    undone_count = 0
    unexpected = set(committed)
    for unit in manifest.units():
        if unit.id in committed:
            unexpected.remove(unit.id)
            unit_counts, unit_findings = audit_unit(
                storage, label, unit.id, manifest.rows(unit.id), committed[unit.id], measured.get(unit.id)
            )
            counts += unit_counts
            findings += unit_findings
        else:
            undone_count += 1
            first_undone += [unit.id] * (len(first_undone) < 6)
    findings += [orphan(label.commit_name(unit_id)) for unit_id in sorted(unexpected)]
    for name, unit_id in _tables(storage, label):
        if unit_id not in committed or unit_id in unexpected:
            findings.append(orphan(name, None if unit_id in unexpected else label.commit_name(unit_id)))
    if undone_count:
        message = f"{undone_count} of {manifest.unit_count} units have no commit: {_first_few(first_undone)}"
        findings.append(Finding(Kind.UNFINISHED, f"{label.title}: {message}"))
    if counts.total() != len(manifest):
        message = f"{len(manifest)} samples expected, {counts.total()} rows committed"
        findings.append(Finding(Kind.UNFINISHED, f"{label.title}: {message}"))
    return dict(counts), findings


def _committed(directory: RunDirectory, label: Label) -> dict[str, Examined]:
    """Unit -> its commit under a label, or why that cannot be read."""
    commits = {}
    for name, commit in directory.examined(label).items():
        unit = _unit(name, RECORD_SUFFIX)
        if unit is not None:
            commits[unit] = commit
    return commits


def _tables(storage: Storage, label: Label) -> Iterator[tuple[str, str]]:
    """The name of each table of a label, and its unit."""
    for table in label.tables:
        for entry in storage.list(table_folder(table, label.model, label.method)):
            unit = _unit(entry.name, TABLE_SUFFIX)
            if unit is not None:
                yield entry.name, unit


def _unit(name: str, suffix: str) -> str | None:
    """The unit that a file is named after; None where it is named otherwise."""
    stem = name.rpartition("/")[2].removesuffix(suffix)
    return stem if name.endswith(suffix) and re.fullmatch(UNIT, stem) else None


def _first_few(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (", …" if len(names) > 5 else "")
