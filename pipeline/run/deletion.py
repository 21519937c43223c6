"""Removes what is to be done again from a run: failed samples, given-up units, and what was measured from them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Set
from contextlib import suppress
from pathlib import PurePosixPath

from pipeline.run.directory import RunDirectory
from pipeline.run.labels import Label
from pipeline.run.layout import ATTRIBUTIONS, QUARANTINE, commit_name, given_up_name, poison_prefix, table_folder
from pipeline.run.publishing import DamagedTableError, read_table
from pipeline.shards.samples import Status
from pipeline.storage.base import Storage


def measured_from(commit: str, evaluations: Iterable[Label]) -> Iterator[str]:
    """The commits and tables of evaluations that measured the unit of a commit, commits first."""
    unit = PurePosixPath(commit).stem
    for evaluation in evaluations:
        if commit_name(evaluation.model, evaluation.method, unit) == commit:
            yield evaluation.commit_name(unit)
            yield from evaluation.table_names(unit).values()


def forget_failed(directory: RunDirectory, labels: Iterable[Label]) -> int:
    """Un-commits every unit that holds a failed row, so that it is done again; how many.

    The commit goes first: a unit without its files must not look done. A new attempt would reuse attributions without
    a commit, so these are checked too: an earlier call may have been cut off.
    """
    storage, evaluations = directory.storage, directory.evaluations
    forgotten: set[tuple[str, str]] = set()
    for label in labels:
        committed = set()
        for name, commit in directory.commits(label).items():
            committed.add(commit.unit)
            if set(commit.statuses) - {Status.OK}:
                for file in (*measured_from(name, evaluations), name):
                    storage.delete(file)
                forgotten.add((label.method, commit.unit))
                _forget_tables(storage, label, commit.unit)
        for unit in _uncommitted_failures(storage, label, committed):
            _forget_tables(storage, label, unit)
    directory.refresh()
    return len(forgotten)


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
