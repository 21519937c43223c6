"""What an audit finds: each thing that is wrong, of which kind, and which files would have to go."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum


class Kind(StrEnum):
    """What sort of thing is wrong, which is what can be done about it.

    unfinished: units are still to be done; the command that made the run does them.
    damaged: a committed unit whose commit or tables are not what they should be.
    orphan: an unreferenced file: ssig gives such names, and no commit names this one.
    foreign: an unexpected file: it lies in a folder of the run, and ssig gives no such name.
    unconfigured: commits of a label whose configuration is gone; the command that made the run records it again.
    other version: a unit that is whole, in columns that this version does not write.
    unreadable: the storage did not give a file.
    record: `run.json`, the manifest or a configuration has changed; everything else is judged by them.
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


def orphan(name: str, commit: str | None = None) -> Finding:
    """An unreferenced file; `commit`: the commit that would name it."""
    return Finding(Kind.ORPHAN, f"{name}: unreferenced file: no commit names it", (name,), commit)


def foreign(name: str) -> Finding:
    """An unexpected file in the run's folders."""
    return Finding(Kind.FOREIGN, f"{name}: unexpected file: ssig gives no file of a run such a name")
