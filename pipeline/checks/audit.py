"""Proof, from the files alone, that every expected sample has exactly one row under every label.

    expected = ok + every other status, for each label, and nothing else is in the run's folders

All of it is derived again: hashes and sizes from the bytes, rows from the tables against the manifest, fingerprints
and schemas from the configurations, names of files from a listing. Each commit and each table is read once, many units
at a time (a large table by way of the disk), and one row group of the manifest; the names of the commits alone stay in
memory.

Of a large run, a random sample of the units can be examined instead: it bounds the share of damaged units.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from pipeline.checks.configurations import evaluation_problems, label_problems, run_problems
from pipeline.checks.examination import Examine, Tally, UnitFiles, examine_here
from pipeline.checks.findings import AuditResult, Finding, Kind, orphan
from pipeline.checks.sampling import Sample
from pipeline.checks.strangers import UNIT, strange_evaluations, strangers
from pipeline.run.directory import RunDirectory
from pipeline.run.labels import Label
from pipeline.run.layout import TABLE_SUFFIX, config_name, table_folder
from pipeline.shards.manifest import Manifest
from pipeline.storage import open_storage
from pipeline.storage.base import Storage


def audit(run: str, examine: Examine = examine_here, sample: Sample | None = None) -> AuditResult:
    """Audits a run.

    Args:
        run: its path or URL.
        examine: how its units are spread over threads or processes.
        sample: of the units; then the tables of the others, and files that no commit names, are not looked at.

    Raises:
        UsageError: there is no run.
        RefusedError: a record that everything is judged by cannot be read, so that nothing can be proved.
        OSError: the storage cannot be listed.
    """
    directory = RunDirectory(open_storage(run))
    document, manifest = directory.opened(), directory.manifest
    labels, evaluations = directory.labels, directory.evaluations
    findings = _records(run_problems(document, manifest, directory.seal))
    if directory.unsealed is not None:
        findings.append(Finding(Kind.UNFINISHED, directory.unsealed))
    if not labels:
        findings.append(Finding(Kind.UNFINISHED, "config: the run has no labels"))
    plan = _Plan(manifest, [*labels, *evaluations], [_sources(directory, label) for label in (*labels, *evaluations)])
    chosen = None if sample is None else sample.chosen(plan.committed)
    tally = Tally(len(plan.labels))
    for result in examine(directory.storage, plan.labels, plan.files(chosen)):
        tally.add(result)
    listed: set[str] = set()  # commits of batches without a unit, which several labels share
    firsts: dict[str | None, Label] = {}
    for number, label in enumerate(plan.labels):
        columns = firsts.setdefault(label.evaluation, label).settings.columns
        if label.evaluation is None:
            findings += _records(label_problems(label, document, columns))
        else:
            base = next(base for base in labels if base.config_name == config_name(label.model, label.method))
            findings += _records(evaluation_problems(label, base, columns))
        findings += tally.findings[number]
        if chosen is None:
            findings += _orphans(directory.storage, label, plan.sources[number], plan.expected, listed)
        findings += plan.unfinished(number, None if chosen is not None else tally.counts[number].total())
    statuses = {label.title: dict(tally.counts[number]) for number, label in enumerate(plan.labels)}
    if chosen is None:
        findings += strangers(directory.storage, labels, tally.unconfigured)
        findings += strange_evaluations(directory.storage, evaluations)
    bound = None if sample is None else sample.bound(tally.damaged, tally.units, len(plan.committed))
    return AuditResult(directory.root, len(manifest), manifest.unit_count, statuses, findings, bound)


@dataclass(frozen=True)
class _Plan:
    """The units of a run, and the files that may commit them.

    Attributes:
        manifest: of the run.
        labels: all of the run, then those of its evaluations.
        sources: of each label, unit -> the files that may commit it.
        expected: the units of the manifest, in order.
    """

    manifest: Manifest
    labels: Sequence[Label]
    sources: Sequence[Mapping[str, Sequence[str]]]
    expected: dict[str, None] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "expected", dict.fromkeys(unit.id for unit in self.manifest.units()))

    @property
    def committed(self) -> list[str]:
        """The units that are committed under some label, in order."""
        return [unit for unit in self.expected if any(unit in sources for sources in self.sources)]

    def files(self, chosen: Sequence[str] | None) -> Iterator[UnitFiles]:
        """The units to examine, in order; `chosen`: these alone."""
        for unit in self.committed if chosen is None else chosen:
            sources = {number: names[unit] for number, names in enumerate(self.sources) if unit in names}
            yield UnitFiles(unit, self.manifest.rows(unit), sources)

    def unfinished(self, number: int, rows: int | None) -> Iterator[Finding]:
        """What is still to be done under a label; `rows`: how many are committed, None if they were not counted."""
        label, sources = self.labels[number], self.sources[number]
        undone = [unit for unit in self.expected if unit not in sources]
        if undone:
            message = f"{len(undone)} of {len(self.expected)} units have no commit: {_first_few(undone)}"
            yield Finding(Kind.UNFINISHED, f"{label.title}: {message}")
        if rows is not None and rows != len(self.manifest):
            message = f"{len(self.manifest)} samples expected, {rows} rows committed"
            yield Finding(Kind.UNFINISHED, f"{label.title}: {message}")


def _records(messages: Iterator[str]) -> list[Finding]:
    return [Finding(Kind.RECORD, message) for message in messages]


def _sources(directory: RunDirectory, label: Label) -> dict[str, Sequence[str]]:
    """Unit -> the files that may commit it under a label; files that are named otherwise are strangers."""
    return {unit: names for unit, names in directory.sources(label).items() if re.fullmatch(UNIT, unit)}


def _orphans(
    storage: Storage,
    label: Label,
    sources: Mapping[str, Sequence[str]],
    expected: Mapping[str, None],
    listed: set[str],
) -> Iterator[Finding]:
    """Commits and tables of a label that are of no unit of the manifest, and tables that no commit names.

    Args:
        storage: the run.
        label: the label.
        sources: unit -> the files that may commit it.
        expected: the units of the manifest.
        listed: commits that are found already; more are added.
    """
    for unit in sorted(sources.keys() - expected.keys()):
        for name in sources[unit]:
            if name not in listed:
                listed.add(name)
                yield orphan(name)
    for table in label.tables:
        for entry in storage.list(table_folder(table, label.model, label.method)):
            unit = entry.name.rpartition("/")[2].removesuffix(TABLE_SUFFIX)
            if not entry.name.endswith(TABLE_SUFFIX) or not re.fullmatch(UNIT, unit):
                continue
            if unit not in sources:
                yield orphan(entry.name, label.commit_names(unit))
            elif unit not in expected:
                yield orphan(entry.name)


def _first_few(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (", …" if len(names) > 5 else "")
