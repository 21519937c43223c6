"""Whole commit records in a temporary file, one of which is in memory at a time.

A record takes 2 kB of memory, and 1.28 million images under five labels have a hundred thousand of them.
"""

from __future__ import annotations

import bisect
import os
import pickle
from array import array
from collections.abc import Iterable, Iterator, Sequence
from typing import overload

from pipeline.run.records import CommitRecord
from pipeline.storage.scratch import naming_the_folder, scratch_file


class CommitStore:
    """Commit records by number, from 0 in the order in which they are added."""

    def __init__(self) -> None:
        self._file = scratch_file(self)
        self._starts = array("q", [0])

    def add(self, commit: CommitRecord) -> int:
        """Stores a record; its number.

        Raises:
            OSError: there is no room.
        """
        data = pickle.dumps(commit, pickle.HIGHEST_PROTOCOL)
        with naming_the_folder("the commit records of a run"):
            self._file.write(data)
        self._starts.append(self._starts[-1] + len(data))
        return len(self._starts) - 2

    def read(self, number: int) -> CommitRecord:
        """A record that was stored; threads may read at once."""
        start, stop = self._starts[number : number + 2]
        with naming_the_folder("the commit records of a run"):
            self._file.flush()
        commit: CommitRecord = pickle.loads(os.pread(self._file.fileno(), stop - start, start))
        return commit


class StoredCommits(Sequence[CommitRecord]):
    """Some commits of a run, in an order; each is read when it is asked for.

    Args:
        store: holds them.
        numbers: theirs in the store, in order.
    """

    def __init__(self, store: CommitStore, numbers: Iterable[int] = ()) -> None:
        self._store, self._numbers = store, array("q", numbers)

    def __len__(self) -> int:
        return len(self._numbers)

    @overload
    def __getitem__(self, place: int) -> CommitRecord: ...

    @overload
    def __getitem__(self, place: slice) -> StoredCommits: ...

    def __getitem__(self, place: int | slice) -> CommitRecord | StoredCommits:
        if isinstance(place, slice):
            return StoredCommits(self._store, self._numbers[place])
        return self._store.read(self._numbers[place])

    def __iter__(self) -> Iterator[CommitRecord]:
        return map(self._store.read, self._numbers)

    def of_unit(self, unit: str) -> CommitRecord | None:
        """The commit of a unit, of commits in order of unit; None without one."""
        place = bisect.bisect_left(self, unit, key=lambda commit: commit.unit)
        commit = self[place] if place < len(self) else None
        return commit if commit is not None and commit.unit == unit else None
