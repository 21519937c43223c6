"""The commits of a run in short: which units are done under which labels, and with which statuses of rows.

Each file is read once, many at a time, and again only if a listing shows that it changed. What stays in memory of a
file is a few hundred bytes, however many labels and tables it names. So a driver can hold what it needs of a run of
any size; whoever needs the whole records gets them one after another.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from pipeline.run.commit import parse_commits
from pipeline.run.labels import Label
from pipeline.run.layout import batch_of_commit, commits_folder, home_of_commit, labels_of_commit
from pipeline.run.records import CommitRecord
from pipeline.storage.base import Entry, Storage
from pipeline.storage.many import in_order
from ssig.errors import SsigError

# Files whose whole records are kept, so that a small run is read once by a command that needs these in the end.
KEPT_FILES = 1000

# The records of a file, or why it holds none.
Commits = tuple[CommitRecord, ...] | SsigError


class Brief(NamedTuple):
    """A commit in short; equal ones are one object.

    Attributes:
        model, method: its labels.
        fingerprint: of the label.
        statuses: rows of each status that occurs.
    """

    model: str
    method: str
    fingerprint: str
    statuses: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class CommitFile:
    """A file of commits that was read.

    Attributes:
        entry: what a listing said of it.
        digest: SHA-256 of its bytes.
        unit: the unit's id.
        content: its commits in short, or why it holds none.
    """

    entry: Entry
    digest: bytes
    unit: str
    content: tuple[Brief, ...] | SsigError

    def under(self, model: str, method: str) -> Brief | None:
        """Its commit of a label in short; None without one.

        Raises:
            SsigError: it holds none at all.
        """
        return next((brief for brief in self.briefs if (brief.model, brief.method) == (model, method)), None)

    @property
    def briefs(self) -> tuple[Brief, ...]:
        """Its commits in short.

        Raises:
            SsigError: it holds none.
        """
        if isinstance(self.content, SsigError):
            raise self.content
        return self.content


class CommitFiles:
    """The files of commits of a run.

    Args:
        storage: the run.
    """

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._files: dict[str, CommitFile] = {}
        self._kept: dict[str, Commits] = {}
        self._equal: dict[tuple[Brief, ...], tuple[Brief, ...]] = {}
        self._briefs: dict[Brief, Brief] = {}

    def files(self, entries: Sequence[Entry]) -> list[CommitFile]:
        """Listed files in short, in their order; new and changed ones are read.

        Raises:
            OSError: the storage does not give one of them.
        """
        unread = [entry for entry in entries if not self._is_current(entry)]
        for entry, data in zip(unread, in_order(self._data, unread), strict=True):
            if isinstance(data, OSError):
                raise data
            self._taken_in(entry, *data)
        return [self._files[entry.name] for entry in entries]

    def commits(self, entries: Sequence[Entry]) -> Iterator[Commits]:
        """The whole records of listed files, in their order; each is read, unless it is kept.

        Raises:
            OSError: the storage does not give one of them.
        """
        for entry, data in zip(entries, in_order(self._kept_or_data, entries), strict=True):
            if isinstance(data, OSError):
                raise data
            yield self._kept[entry.name] if data is None else self._taken_in(entry, *data)

    def _is_current(self, entry: Entry) -> bool:
        file = self._files.get(entry.name)
        return file is not None and file.entry == entry

    def _kept_or_data(self, entry: Entry) -> tuple[bytes, Commits] | OSError | None:
        return None if entry.name in self._kept and self._is_current(entry) else self._data(entry)

    def _data(self, entry: Entry) -> tuple[bytes, Commits] | OSError:
        """Digest and commits of a file."""
        try:
            data = self._storage.read(entry.name)
        except OSError as error:
            return error
        digest = hashlib.sha256(data).digest()
        try:
            return digest, parse_commits(self._storage.root, entry.name, data)
        except SsigError as error:
            return digest, error

    def _taken_in(self, entry: Entry, digest: bytes, commits: Commits) -> Commits:
        """Keeps what a file says in short."""
        if isinstance(commits, SsigError):
            file = CommitFile(entry, digest, "", commits)
        else:
            briefs = tuple(self._brief(commit) for commit in commits)
            unit = commits[0].unit if commits else ""
            file = CommitFile(entry, digest, unit, self._equal.setdefault(briefs, briefs))
        self._files[entry.name] = file
        self._kept.pop(entry.name, None)
        if len(self._kept) < KEPT_FILES:
            self._kept[entry.name] = commits
        return commits

    def _brief(self, commit: CommitRecord) -> Brief:
        statuses = tuple(commit.statuses.items())
        brief = Brief(commit.model, commit.method, commit.fingerprint, statuses)
        return self._briefs.setdefault(brief, brief)


def place_of(label: Label) -> tuple[str, str, str]:
    """The folder of commits, model and method of a label."""
    return commits_folder(label.evaluation, label.version), label.model, label.method


def by_place(entries: Iterable[Entry]) -> dict[tuple[str, ...], list[Entry]]:
    """The folder of commits, with the model and method label or with the batch -> the commits there."""
    commits: dict[tuple[str, ...], list[Entry]] = {}
    for entry in entries:
        labels, batch = labels_of_commit(entry.name), batch_of_commit(entry.name)
        place = labels if batch is None else (batch,)
        if place is not None:
            commits.setdefault((home_of_commit(entry.name), *place), []).append(entry)
    return commits


def is_under(commit: CommitRecord, label: Label) -> bool:
    """Whether a commit is of a label: one of a batch, only if it is the label's own batch."""
    batch = batch_of_commit(commit.source)
    return (commit.model, commit.method) == (label.model, label.method) and batch in (None, label.batch)


def counts(commit: CommitRecord, label: Label) -> bool:
    """Whether a commit is of a label's configuration."""
    return is_under(commit, label) and label.matches(commit)


def order(commit: CommitRecord) -> tuple[str, bool]:
    """The order of the commits of a label, by unit; of two of a unit, the last counts, which is that of the batch."""
    return commit.unit, batch_of_commit(commit.source) is not None
