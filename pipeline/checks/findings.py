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
        commits: of an orphan, the commits whose absence makes it one: any of them would name it.
        unit, config: of a damaged unit, its id and the configuration of its label.
    """

    kind: Kind
    message: str
    files: tuple[str, ...] = ()
    commits: tuple[str, ...] = ()
    unit: str | None = None
    config: str | None = None


@dataclass(frozen=True)
class SampleBound:
    """What a sample says.

    Attributes:
        units: how many were examined.
        of: how many are committed.
        damaged: how many of the examined ones are damaged.
        seed: of the choice.
        bound: upper bound of the share of damaged units, in [0, 1], at a confidence of 95 %.
    """

    units: int
    of: int
    damaged: int
    seed: int
    bound: float

    @property
    def sentence(self) -> str:
        """The same for a person."""
        found = f"{self.damaged:,} of {self.units:,} examined units {'is' if self.damaged == 1 else 'are'} damaged"
        if self.units == self.of:
            return f"{found}; these are all committed units"
        chosen = f"chosen at random of {self.of:,} (seed {self.seed})"
        return f"{found}, {chosen}: with 95 % confidence at most {self.bound:.2%} of all committed units are"


@dataclass(frozen=True)
class AuditResult:
    """What an audit found.

    Attributes:
        run: the run.
        expected: samples of the manifest.
        units: units of the manifest.
        statuses: rows by status under each `model / method` label.
        findings: everything that is wrong; empty for a sound and finished run.
        sample: what a sample says of all units; None where all were examined.
    """

    run: str
    expected: int
    units: int
    statuses: Mapping[str, Mapping[str, int]]
    findings: Sequence[Finding] = field(default_factory=list)
    sample: SampleBound | None = None

    @property
    def problems(self) -> list[str]:
        """The findings in words, one line each."""
        return [finding.message for finding in self.findings]

    @property
    def ok(self) -> bool:
        return not self.findings


def orphan(name: str, commits: tuple[str, ...] = ()) -> Finding:
    """An unreferenced file; `commits`: those of which any would name it."""
    return Finding(Kind.ORPHAN, f"{name}: unreferenced file: no commit names it", (name,), commits)


def foreign(name: str) -> Finding:
    """An unexpected file in the run's folders."""
    return Finding(Kind.FOREIGN, f"{name}: unexpected file: ssig gives no file of a run such a name")
