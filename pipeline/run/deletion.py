"""Removes what is to be done again from a run: failed samples, given-up units, and what was measured from them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence, Set
from contextlib import suppress
from pathlib import PurePosixPath

from pipeline.run.commit import own_commit_name, parse_commits
from pipeline.run.directory import RunDirectory
from pipeline.run.labels import Label
from pipeline.run.layout import (
    ATTRIBUTIONS,
    QUARANTINE,
    batch_of_commit,
    given_up_name,
    poison_prefix,
    table_folder,
)
from pipeline.run.publishing import DamagedTableError, read_table
from pipeline.run.records import CommitRecord, RefusedError
from pipeline.shards.samples import Status
from pipeline.storage import fault_points
from pipeline.storage.base import Storage
from pipeline.storage.jsontext import to_json


def forget_failed(directory: RunDirectory, labels: Sequence[Label]) -> int:
    """Un-commits every unit under each label of which it holds a failed row, so that it is done again; how many.

    A new attempt would reuse attributions without a commit, so these are checked too: an earlier call may have been
    cut off.
    """
    failed: dict[str, list[Label]] = {}
    for label in labels:
        for unit, brief in directory.briefs(label).items():
            if {status for status, _ in brief.statuses} - {Status.OK}:
                failed.setdefault(unit, []).append(label)
    for unit, failed_labels in failed.items():
        uncommit(directory, unit, failed_labels)
        for label in failed_labels:
            _forget_tables(directory.storage, label, unit)
    for label in labels:
        for unit in _uncommitted_failures(directory.storage, label, directory.briefs(label).keys()):
            _forget_tables(directory.storage, label, unit)
    directory.refresh()
    return sum(map(len, failed.values()))


def uncommit(directory: RunDirectory, unit: str, labels: Sequence[Label]) -> list[str]:
    """Takes the commits of a unit under some labels back, and all that evaluations made of these; what was removed.

    The commit goes before its files: a unit without its files must not look done. Evaluations go before what they
    measured. Other labels of a batch stay done: each gets a commit of its own before that of the batch goes.
    """
    names = {(label.model, label.method) for label in labels if label.evaluation is None}
    measured = [label for label in directory.evaluations if (label.model, label.method) in names]
    removed = _take_back(directory, unit, measured)
    for label in measured:
        removed += [name for name in label.table_names(unit).values() if removed_file(directory.storage, name)]
    return removed + _take_back(directory, unit, labels)


def removed_file(storage: Storage, name: str) -> bool:
    """Removes a file; whether there was one."""
    existed = storage.entry(name) is not None
    storage.delete(name)
    return existed


def _take_back(directory: RunDirectory, unit: str, labels: Sequence[Label]) -> list[str]:
    """Removes the commits of a unit under some labels; what was removed."""
    storage = directory.storage
    gone = {(label.model, label.method) for label in labels}
    names = dict.fromkeys(name for label in labels for name in directory.sources(label).get(unit, ()))
    removed = []
    for name in names:
        if batch_of_commit(name) is not None:
            for commit in _whole_commits(storage, name):
                if (commit.model, commit.method) not in gone:
                    storage.put(own_commit_name(commit), to_json(commit.record).encode())
            fault_points.point("before-take-back", name)
        removed += [name] * removed_file(storage, name)
        fault_points.point("after-take-back", name)
    return removed


def _whole_commits(storage: Storage, name: str) -> list[CommitRecord]:
    """The commits of a file, as far as they can be trusted."""
    try:
        return [commit for commit in parse_commits(storage.root, name, storage.read(name)) if commit.is_whole]
    except (RefusedError, FileNotFoundError):
        return []


def _forget_tables(storage: Storage, label: Label, unit: str) -> None:
    """Removes the tables and poison records of an uncommitted unit; last the attributions, which show failures."""
    attributions, *later_tables = label.table_names(unit).values()
    for name in later_tables:
        storage.delete(name)
    for entry in list(storage.list(QUARANTINE)):
        if entry.name.startswith(poison_prefix(unit)):
            storage.delete(entry.name)
    storage.delete(attributions)


def _uncommitted_failures(storage: Storage, label: Label, committed: Set[str]) -> list[str]:
    """Units beyond those that are done whose attributions hold a failed row."""
    failed = []
    for entry in storage.list(table_folder(ATTRIBUTIONS, label.model, label.method)):
        unit = PurePosixPath(entry.name).stem
        if unit not in committed:
            with suppress(DamagedTableError):  # made anew in any case
                table = read_table(storage.read(entry.name), entry.name)
                if set(table["status"].to_pylist()) - {Status.OK}:
                    failed.append(unit)
    return failed


def forget_given_up(storage: Storage, units: Iterable[str]) -> None:
    """Drops the records of units that were left undone and are about to be tried again."""
    recorded = {entry.name for entry in storage.list(QUARANTINE)}
    for name in recorded & set(map(given_up_name, units)):
        storage.delete(name)
