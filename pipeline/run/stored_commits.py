"""Whole commit records in a temporary file, one of which is in memory at a time.

A record takes 2 kB of memory, and 1.28 million images under five labels have a hundred thousand of them.
"""

from __future__ import annotations

import bisect
import json
import os
from array import array
from collections.abc import Iterable, Iterator, Sequence
from typing import BinaryIO, overload

from pipeline.run.records import CommitRecord
from pipeline.storage.jsontext import to_json
from pipeline.storage.scratch import naming_the_folder, scratch_file

_CONTENT = "the commit records of a run"


class CommitStore:
    """Commit records by number, from 0 in the order in which they are added."""

    def __init__(self) -> None:
        self._file: BinaryIO | None = None
        self._starts = array("q", [0])

    def add(self, commit: CommitRecord) -> int:
        """Stores a record; its number.

        Raises:
            OSError: there is no room.
        """
        data = to_json({name: getattr(commit, name) for name in commit.__slots__}).encode()
        self._file = self._file or scratch_file(self, _CONTENT)
        with naming_the_folder(_CONTENT):
            self._file.write(data)
            self._file.flush()  # here, where a full disk is not taken for a file that cannot be read
        self._starts.append(self._starts[-1] + len(data))
        return len(self._starts) - 2

    def read(self, number: int) -> CommitRecord:
        """A record that was stored; threads may read at once."""
        assert self._file is not None
        start, stop = self._starts[number : number + 2]
        return CommitRecord(**json.loads(os.pread(self._file.fileno(), stop - start, start)))


class StoredCommits(Sequence[CommitRecord]):
    """Some commits of a label, in order of unit; each is read when it is asked for.

    Args:
        store: holds them.
        units: of the commits, ascending.
        numbers: of the commits in the store.

    Attributes:
        units: as given.
    """

    def __init__(self, store: CommitStore, units: Sequence[str], numbers: Iterable[int]) -> None:
        self.units = units
        self._store, self._numbers = store, array("q", numbers)

    def __len__(self) -> int:
        return len(self._numbers)

    @overload
    def __getitem__(self, place: int) -> CommitRecord: ...

    @overload
    def __getitem__(self, place: slice) -> StoredCommits: ...

    def __getitem__(self, place: int | slice) -> CommitRecord | StoredCommits:
        if isinstance(place, slice):
            return StoredCommits(self._store, self.units[place], self._numbers[place])
        return self._store.read(self._numbers[place])

    def __iter__(self) -> Iterator[CommitRecord]:
        return map(self._store.read, self._numbers)

    def of_unit(self, unit: str) -> CommitRecord | None:
        """The commit of a unit; None without one."""
        place = bisect.bisect_left(self.units, unit)
        return self[place] if self.units[place : place + 1] == [unit] else None
