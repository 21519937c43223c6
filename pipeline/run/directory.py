"""The run directory: the one object that reads what a run's records say, each file once.

Files are listed on first use, and many are read at a time. Answers stay the same until `refresh`. After it, everything
is listed again, and files that changed are read again.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Any, NamedTuple

from pipeline.run.beginning import Beginning, Object
from pipeline.run.commit import is_commit
from pipeline.run.committed import Brief, CommitFile, CommitFiles, by_place, counts, is_under, order, place_of
from pipeline.run.documents import Document
from pipeline.run.forms import result_digest
from pipeline.run.labels import Label, check_evaluation, evaluation_label, run_label
from pipeline.run.layout import (
    CONFIGS,
    EVALUATION_RECORDS,
    EVALUATIONS,
    QUARANTINE,
    RECORD_SUFFIX,
    RECORDS,
    RUN,
    batch_of_commit,
    home_of_commit,
    is_evaluation_config,
)
from pipeline.run.records import CommitRecord, RefusedError
from pipeline.run.stored_commits import CommitStore, StoredCommits
from pipeline.shards.samples import Unit
from pipeline.storage.base import Entry, Storage
from pipeline.storage.fields import SCHEMA_VERSION
from ssig.errors import SsigError


class Remaining(NamedTuple):
    """A unit that is not done, and the method labels that it is not done under."""

    unit: Unit
    methods: tuple[str, ...]


class RunDirectory(Beginning):
    """The records of a run directory; its tables are read elsewhere (`pipeline.run.rows`).

    Args:
        storage: the run.

    Every property and method may raise, unless it says otherwise:

    Raises:
        RefusedError: a record that it needs is damaged, or not one of a run; the message names file and field.
        OSError: the storage does not give a file.
    """

    def __init__(self, storage: Storage) -> None:
        super().__init__(storage)
        self._commit_files = CommitFiles(storage)

    @property
    def labels(self) -> list[Label]:
        """Every label of the run, in order of name."""
        return self._once("labels", lambda: self.read_labels(whole=True))

    def read_labels(self, *, whole: bool) -> list[Label]:
        """The same; without `whole`, fields that a reader does not need may be missing."""
        labels = []
        for document in self._objects_in(CONFIGS):
            config = document.value
            with self._naming(document.entry.name):
                labels.append(run_label(config, whole=whole))
        return labels

    @property
    def evaluations(self) -> list[Label]:
        """The labels of every evaluation of the run, in order of name: metrics that were added later."""
        return self._once("evaluations", lambda: list(self._read_evaluations()))

    def read_evaluations(self, *, whole: bool) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """Name and content of every configuration of an evaluation; `whole` as for `read_labels`."""
        for document in self._objects_in(EVALUATIONS, EVALUATION_RECORDS, chosen=is_evaluation_config):
            config = document.value
            with self._naming(document.entry.name):
                check_evaluation(config, whole=whole)
            yield document.entry.name, config

    def commits(self, label: Label) -> dict[str, CommitRecord]:
        """File name -> commit record, of every commit under a label, in order of name; they are not kept."""
        found = {}
        for entry, commits in zip(self._listed(label), self._commit_files.commits(self._listed(label)), strict=True):
            if isinstance(commits, SsigError):
                raise commits
            for commit in commits:
                if is_under(commit, label):
                    found[entry.name] = commit
        return found

    def counted(self, labels: Sequence[Label]) -> list[StoredCommits]:
        """The commits that count under each label, in order of unit. All commits of the run are read, and those that
        count are kept in a temporary file.

        Raises:
            RefusedError: one is damaged, even if it does not count.
        """
        store = CommitStore()
        labels_at: dict[tuple[str, str, str], list[int]] = {}
        for number, label in enumerate(labels):
            labels_at.setdefault(place_of(label), []).append(number)
        found: list[list[tuple[tuple[str, bool], int]]] = [[] for _ in labels]
        for commits in self._commit_files.commits(self._commit_entries()):
            if isinstance(commits, SsigError):
                raise commits
            for commit in commits:
                for number in labels_at.get((home_of_commit(commit.source), commit.model, commit.method), ()):
                    if counts(commit, labels[number]):
                        found[number].append((order(commit), store.add(commit)))
        by_unit = [{unit: number for (unit, _), number in sorted(commits)} for commits in found]
        return [StoredCommits(store, list(numbers), numbers.values()) for numbers in by_unit]

    def sources(self, label: Label) -> dict[str, tuple[str, ...]]:
        """Unit -> the files that may commit it under a label, by their names: that of a batch goes first."""
        found: dict[str, tuple[str, ...]] = {}
        for entry in self._listed(label):
            unit = PurePosixPath(entry.name).stem
            found[unit] = (*found.get(unit, ()), entry.name)
        return found

    def done(self, unit: str, label: Label) -> bool:
        """Whether a unit is done under a label: a commit of this configuration says so."""
        brief = self.briefs(label).get(unit)
        return brief is not None and brief.fingerprint == label.fingerprint

    def done_count(self, label: Label) -> int:
        """How many units are done under a label."""
        return sum(brief.fingerprint == label.fingerprint for brief in self.briefs(label).values())

    def briefs(self, label: Label) -> dict[str, Brief]:
        """Unit -> its commit under a label in short; where it has two, that of the batch."""
        return self._once(("briefs", label.commits, label.batch), lambda: dict(self._read_briefs(label)))

    def remaining(self, labels: Sequence[Label]) -> list[Remaining]:
        """Manifest minus commits: each unit with the method labels that it is not done under, in order.

        Raises:
            RefusedError: also, a commit is of another configuration than its label: no worker would do its unit again.
        """
        entries = {entry.name: entry for label in labels for entry in self._listed(label)}
        self._commit_files.files(list(entries.values()))  # all at once
        for label in labels:
            self._refuse_foreign_commits(label)
        briefs = {label.method: self.briefs(label) for label in labels}
        remaining = []
        for unit in self.manifest.units():
            methods = tuple(method for method, done in briefs.items() if unit.id not in done)
            if methods:
                remaining.append(Remaining(unit, methods))
        return remaining

    def statuses(self, labels: Iterable[Label]) -> dict[str, dict[str, int]]:
        """Committed rows by status under each method label."""
        return {label.method: self.counts(label) for label in labels}

    def counts(self, label: Label) -> dict[str, int]:
        """Committed rows by status under one label."""
        counts: Counter[str] = Counter()
        for statuses, units in Counter(brief.statuses for brief in self.briefs(label).values()).items():
            counts.update({status: rows * units for status, rows in statuses})
        return dict(counts)

    def proven(self, labels: Iterable[Label]) -> set[str]:
        """The method labels under which some unit is done."""
        return {label.method for label in labels if self._listed(label)}

    def batches(self, labels: Iterable[Label]) -> dict[str, tuple[str, ...]]:
        """Batch -> the method labels of all its labels, of those batches to which the given labels belong."""
        given = list(labels)
        recorded = self.evaluations if any(label.evaluation is not None for label in given) else self.labels
        wanted = {(label.batch, label.evaluation) for label in given}
        batches: dict[str, tuple[str, ...]] = {}
        for label in recorded:
            if label.batch is not None and (label.batch, label.evaluation) in wanted:
                batches[label.batch] = (*batches.get(label.batch, ()), label.method)
        return batches

    def batch_naming(self, label: Label) -> str | None:
        """The batch whose commits say that a unit is done under a label of this fingerprint; None without one."""
        home, model, method = place_of(label)
        entries = [entry for entry in self._listing(home) if batch_of_commit(entry.name) is not None]
        for file in self._commit_files.files(entries):
            brief = None if isinstance(file.content, SsigError) else file.under(model, method)
            if brief is not None and brief.fingerprint == label.fingerprint:
                return batch_of_commit(file.entry.name)
        return None

    @property
    def quarantine(self) -> list[Mapping[str, Any]]:
        """The quarantine records, in order of name."""
        return [document.value for document in self._objects_in(QUARANTINE)]

    @property
    def quarantined(self) -> int:
        """How many quarantine records there are; they are not read."""
        return len(self._listing(QUARANTINE))

    def digest(self) -> str:
        """A hash of all records: runs of equal digest hold equal results."""
        read: list[Document[Any] | CommitFile] = [*self._objects_in()]
        read += self._commit_files.files(self._commit_entries())
        if (run_document := self._document_of(RUN)) is not None:
            read.append(replace(run_document, digest=result_digest(run_document.value, run_document.digest)))
        digest = hashlib.sha256()
        for file in sorted(read, key=lambda file: file.entry.name):
            digest.update(file.entry.name.encode() + b"\0" + file.digest)
        return digest.hexdigest()

    def _read_evaluations(self) -> Iterator[Label]:
        bases = {(label.model, label.method): label for label in self.labels}
        for name, config in self.read_evaluations(whole=True):
            base = bases.get((config["model_label"], config["method_label"]))
            label = None if base is None else evaluation_label(base, config)
            if label is None or label.config_name != name:
                lacking = (
                    "name that ssig gives" if label else f"label {config['method_label']!r} of its model in the run"
                )
                raise RefusedError(f"{self.root}/{name}: no {lacking}; this is no evaluation of the run")
            yield label

    def _read_briefs(self, label: Label) -> Iterator[tuple[str, Brief]]:
        for own in (True, False):  # of a unit with two commits the last counts, that of the batch
            entries = [entry for entry in self._listed(label) if (batch_of_commit(entry.name) is None) is own]
            for file in self._commit_files.files(entries):
                brief = file.under(label.model, label.method)
                if brief is not None:
                    yield file.unit, brief

    def _refuse_foreign_commits(self, label: Label) -> None:
        for file in self._commit_files.files(self._listed(label)):
            brief = file.under(label.model, label.method)
            if brief is None or brief.fingerprint != label.fingerprint:
                found = f"fingerprint is {brief.fingerprint!r}" if brief else f"labels lack {label.key!r}"
                raise RefusedError(
                    f"{self.root}/{file.entry.name}: its {found}, that of its label {label.fingerprint!r}; "
                    "`ssig audit --repair` removes it, and then this command does its unit again"
                )

    def _commit_entries(self) -> list[Entry]:
        return [entry for entry in self._entries() if is_commit(entry.name)]

    def _objects_in(self, *tops: str, chosen: Callable[[str], bool] = lambda name: True) -> list[Document[Object]]:
        """The records below some folders, or all, that are no commits."""
        entries = [entry for entry in self._entries(*tops) if not is_commit(entry.name) and chosen(entry.name)]
        return self._objects.all(entries)

    def _entries(self, *tops: str) -> list[Entry]:
        return [entry for top in tops or RECORDS for entry in self._listing(top)]

    def _listing(self, top: str) -> list[Entry]:
        """The records below a folder."""
        if top == EVALUATIONS and self.document is not None and self.document.get("schema_version") == SCHEMA_VERSION:
            return []  # tables alone, which may be many
        return self._once(
            ("listing", top),
            lambda: [entry for entry in self.storage.list(top) if entry.name.endswith(RECORD_SUFFIX)],
        )

    def _listed(self, label: Label) -> list[Entry]:
        """The files that may hold commits of a label in order of name, however its names are encoded in their path."""
        home, model, method = place_of(label)
        top = home.partition("/")[0]
        places = self._once(("places", top), lambda: by_place(self._listing(top)))
        batched = [] if label.batch is None else places.get((home, label.batch), [])
        return [*batched, *places.get((home, model, method), [])]

    @contextmanager
    def _naming(self, name: str) -> Iterator[None]:
        """Puts the name of a file before the refusal of what it holds."""
        try:
            yield
        except RefusedError as error:
            raise RefusedError(f"{self.root}/{name}: {error}") from None
