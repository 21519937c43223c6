"""The units of a run, each examined under all labels at once: its commits are read once, then its tables.

Many units are examined at a time, by threads here or by processes elsewhere. What comes back of a unit is small.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from pipeline.checks.compacted import AuditedParts
from pipeline.checks.findings import Finding, Kind, orphan
from pipeline.checks.units import Examined, audit_unit, damaged
from pipeline.run.commit import parse_commits
from pipeline.run.compaction_reading import StoredTables
from pipeline.run.labels import Label
from pipeline.run.layout import batch_of_commit
from pipeline.run.records import CommitRecord, RefusedError
from pipeline.shards.samples import ManifestRow
from pipeline.storage.base import Storage
from pipeline.storage.many import in_order
from ssig.errors import SsigError

# Units examined at a time in one process. Each has a table in memory, or on the disk if that is large.
AT_ONCE = 32

Commits = tuple[CommitRecord, ...] | SsigError | OSError


@dataclass(frozen=True)
class UnitFiles:
    """A unit to examine.

    Attributes:
        unit: its id.
        rows: its manifest rows.
        sources: number of a label -> the files that may commit the unit under it, that of a batch first.
        doubted: parts of compacted tables whose bytes are not what they were; None: no part was looked at.
    """

    unit: str
    rows: Sequence[ManifestRow]
    sources: Mapping[int, Sequence[str]]
    doubted: frozenset[str] | None = frozenset()


@dataclass(frozen=True)
class UnitResult:
    """What was found of a unit.

    Attributes:
        unit: its id.
        counts: number of a label -> rows by status.
        findings: number of a label -> what is wrong.
        unconfigured: tables that commits name under labels without a configuration, by the labels.
    """

    unit: str
    counts: Mapping[int, Mapping[str, int]] = field(default_factory=dict)
    findings: Mapping[int, Sequence[Finding]] = field(default_factory=dict)
    unconfigured: Mapping[tuple[str, str], Sequence[str]] = field(default_factory=dict)


# Examines units of labels of a run, and gives the results in order.
Examine = Callable[[Storage, Sequence[Label], Iterable[UnitFiles]], Iterator[UnitResult]]


def examine_here(storage: Storage, labels: Sequence[Label], units: Iterable[UnitFiles]) -> Iterator[UnitResult]:
    """Examines units by threads of this process."""
    return examine_tables(StoredTables(storage), labels, units)


def examine_tables(stored: StoredTables, labels: Sequence[Label], units: Iterable[UnitFiles]) -> Iterator[UnitResult]:
    """The same of tables whose records and parts may be known from other units."""
    return in_order(partial(examined, stored, labels), units, AT_ONCE)


def examined(stored: StoredTables, labels: Sequence[Label], files: UnitFiles) -> UnitResult:
    """Examines one unit under all labels.

    Args:
        stored: the tables of the run.
        labels: all of the run, then those of its evaluations.
        files: the unit.
    """
    parts = AuditedParts(stored, files.doubted)
    named = dict.fromkeys(name for names in files.sources.values() for name in names)  # labels of a batch share one
    sources = {name: _read(stored.storage, name) for name in named}
    bases = {(label.model, label.method): number for number, label in enumerate(labels) if label.evaluation is None}
    commits = {number: _commit(labels[number], names, sources) for number, names in files.sources.items()}
    counts: dict[int, Mapping[str, int]] = {}
    findings: dict[int, list[Finding]] = {}
    for number, commit in commits.items():
        label = labels[number]
        base = None if label.evaluation is None else commits.get(bases[label.model, label.method])
        counts[number], findings[number] = audit_unit(parts, label, files.unit, files.rows, commit, base)
        findings[number] += _batch_problems(label, files.unit, commit, labels, sources)
        findings[number] += _superseded(label, commit, files.sources[number], sources)
    return UnitResult(files.unit, counts, findings, _unconfigured(labels, sources))


def _read(storage: Storage, name: str) -> Commits:
    try:
        return parse_commits(storage.root, name, storage.read(name))
    except (SsigError, OSError) as error:
        return error


def _commit(label: Label, names: Sequence[str], sources: Mapping[str, Commits]) -> Examined:
    """The commit of a label: in the first of its files."""
    commits = sources[names[0]]
    if isinstance(commits, Exception):
        return commits
    own = [commit for commit in commits if (commit.model, commit.method) == (label.model, label.method)]
    return own[0] if own else RefusedError(f"{names[0]}: its labels lack {label.key!r}")


def _batch_problems(
    label: Label, unit: str, commit: Examined, labels: Sequence[Label], sources: Mapping[str, Commits]
) -> Iterator[Finding]:
    """Labels of other batches that a commit names beside its own."""
    if isinstance(commit, Exception) or batch_of_commit(commit.source) is None:
        return
    commits = sources[commit.source]
    named = set() if isinstance(commits, Exception) else {(other.model, other.method) for other in commits}
    for other in labels:
        if (
            other.evaluation == label.evaluation
            and other.batch != label.batch
            and (other.model, other.method) in named
        ):
            yield damaged(label, unit, commit.source, f"{commit.source}: names {other.title}, which has another batch")


def _superseded(
    label: Label, commit: Examined, names: Sequence[str], sources: Mapping[str, Commits]
) -> Iterator[Finding]:
    """A commit of a label's own beside that of its batch, if it says anything else."""
    for name in names[1:]:
        own = _commit(label, [name], sources)
        if isinstance(own, OSError) or isinstance(commit, Exception):
            continue
        if isinstance(own, SsigError) or (own.fingerprint, own.files) != (commit.fingerprint, commit.files):
            yield orphan(name)


def _unconfigured(labels: Sequence[Label], sources: Mapping[str, Commits]) -> dict[tuple[str, str], Sequence[str]]:
    """The tables that commits of the run name under labels without a configuration."""
    known = {(label.model, label.method) for label in labels}
    found: dict[tuple[str, str], Sequence[str]] = {}
    for commits in sources.values():
        for commit in () if isinstance(commits, Exception) else commits:
            if (commit.model, commit.method) not in known:
                found[commit.model, commit.method] = [*commit.files]
    return found


class Tally:
    """What is found of the units of a run, added up.

    Args:
        labels: how many there are.

    Attributes:
        counts: rows by status of each label.
        findings: of each label.
        unconfigured: tables that commits name under labels without a configuration, by the labels.
        units, damaged: how many units were examined, and how many of them are damaged under some label.
    """

    def __init__(self, labels: int) -> None:
        self.counts: list[Counter[str]] = [Counter() for _ in range(labels)]
        self.findings: list[list[Finding]] = [[] for _ in range(labels)]
        self.unconfigured: dict[tuple[str, str], list[str]] = {}
        self.units = self.damaged = 0

    def add(self, result: UnitResult) -> None:
        """Adds what was found of a unit."""
        self.units += 1
        for number, statuses in result.counts.items():
            self.counts[number].update(statuses)
        for number, found in result.findings.items():
            self.findings[number] += found
        self.damaged += any(f.kind is Kind.DAMAGED for found in result.findings.values() for f in found)
        for label, names in result.unconfigured.items():
            self.unconfigured.setdefault(label, []).extend(names)
