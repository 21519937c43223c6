"""Repairs a damaged run so that its own command completes it: removes what is not proven, keeps what is sound.

A unit of which anything is damaged loses its commit first, so that at no time it looks done, and then its tables: with
the commit goes the only record of what their bytes were. Unreferenced files go too: those with names that ssig gives
and that no commit names.
Nothing else is touched: no unexpected file, no file that could not be read, no `run.json`, manifest or configuration.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pipeline.checks.audit import audit
from pipeline.checks.examination import Examine, examine_here
from pipeline.checks.findings import AuditResult, Finding, Kind
from pipeline.run.deletion import removed_file, uncommit
from pipeline.run.directory import RunDirectory
from pipeline.run.lease import Lease
from pipeline.run.records import RefusedError
from pipeline.storage import open_storage
from pipeline.storage.base import Storage


@dataclass(frozen=True)
class Repair:
    """What a repair did.

    Attributes:
        audit: the run as it was before.
        done: what was removed, one line each.
        left: what was left alone and why, one line each.
        sound: whether the run is sound and finished now.
    """

    audit: AuditResult
    done: Sequence[str]
    left: Sequence[str]
    sound: bool


def repair(run: str, examine: Examine = examine_here) -> Repair:
    """Repairs a run, under its lease.

    Args:
        run: its path or URL.
        examine: how its units are spread over threads or processes.

    Raises:
        UsageError: there is no run.
        RefusedError: a record that everything is judged by is damaged, or units of an earlier version's run would
            have to be done again; nothing was touched.
        LeaseHeldError: a driver works on the run, or has taken it over during the audit; nothing was touched.
        OSError: the storage does not answer; a repair that was cut off can be begun again.
    """
    storage = open_storage(run)
    directory = RunDirectory(storage)
    directory.opened()
    with Lease(storage) as lease:
        result = audit(run, examine)
        records = [finding.message for finding in result.findings if finding.kind is Kind.RECORD]
        if records:
            raise RefusedError(
                "\n".join(
                    [
                        f"{storage.root} cannot be repaired:",
                        *(f"  {line}" for line in records),
                        "  (restore the file from a copy; a configuration may also be removed, "
                        "then the command that made the run records it again)",
                    ]
                )
            )
        if any(finding.kind is Kind.DAMAGED for finding in result.findings):
            directory.refuse_earlier()
        lease.verify()  # the audit may have taken long, and this process may have stood still
        directory.refresh()
        removed = [*_uncommit(directory, result.findings), *_clear(storage, result.findings)]
    left_alone = [_why_left(finding) for finding in result.findings if finding.kind not in (Kind.DAMAGED, Kind.ORPHAN)]
    return Repair(result, removed, left_alone, sound=all(finding.kind is Kind.ORPHAN for finding in result.findings))


def _uncommit(directory: RunDirectory, findings: Sequence[Finding]) -> Iterator[str]:
    """Removes damaged units, and what evaluations made of them, commits first. Other labels of a batch stay done."""
    labels = {label.config_name: label for label in (*directory.labels, *directory.evaluations)}
    damaged: dict[str, dict[str, list[str]]] = {}
    for finding in findings:
        if finding.kind is Kind.DAMAGED and finding.unit is not None and finding.config is not None:
            damaged.setdefault(finding.unit, {}).setdefault(finding.config, []).append(finding.message)
    for unit, by_config in damaged.items():
        of_unit = [labels[config] for config in by_config]
        removed = uncommit(directory, unit, of_unit)
        for label in of_unit:
            names = label.table_names(unit).values()
            removed += [name for name in names if removed_file(directory.storage, name)]
        first, *more = [message for messages in by_config.values() for message in messages]
        yield f"removed {', '.join(removed)}: {first}{f' (and {len(more)} more)' if more else ''}"
    directory.refresh()


def _clear(storage: Storage, findings: Sequence[Finding]) -> Iterator[str]:
    """Removes unreferenced files."""
    for finding in findings:
        if finding.kind is not Kind.ORPHAN:
            continue
        # A worker of a driver that was killed may commit until it ends.
        written = _written(storage, finding.commits)
        if written:
            yield f"kept {finding.files[0]}: {written[0]} was written meanwhile"
            continue
        yield from (f"removed {name}: no commit names it" for name in finding.files if removed_file(storage, name))
        for commit in _written(storage, finding.commits):
            storage.delete(commit)
            yield f"removed {commit}: it was written while its files were removed"


def _written(storage: Storage, commits: Sequence[str]) -> list[str]:
    return [name for name in commits if storage.entry(name) is not None]


def _why_left(finding: Finding) -> str:
    if finding.kind is Kind.FOREIGN:
        return f"{finding.message}; left alone: it may be somebody's"
    if finding.kind in (Kind.OTHER_VERSION, Kind.UNREADABLE):
        return f"{finding.message}; left alone"
    return finding.message
