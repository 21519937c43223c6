"""How many commits there are, from their names alone: asked again and again while a run is under way."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Generic, NamedTuple, TypeVar

from pipeline.run.layout import COMMITS, EVALUATION_RECORDS, EVALUATIONS, RECORD_SUFFIX
from pipeline.storage.base import Storage, is_object_url

# A folder that changed so short a time ago may change again under the same time of change.
FRESH_NS = 2 * 10**9
# What is read again takes at most this share of the time.
SHARE = 0.1

Value = TypeVar("Value")


class Paced(Generic[Value]):
    """A value that is made anew now and then: the longer that takes, the less often.

    Args:
        make: makes it.
        least: seconds between two times.
    """

    def __init__(self, make: Callable[[], Value], least: float = 0.0) -> None:
        self._make = make
        self._least = least
        self._made: tuple[Value, float] | None = None

    def value(self) -> Value:
        """The value, made now or before."""
        started = time.monotonic()
        if self._made is None or started >= self._made[1]:
            value = self._make()
            ended = time.monotonic()
            self._made = (value, ended + max(self._least, (ended - started) / SHARE))
        return self._made[0]


class _Folder(NamedTuple):
    """A folder as it was read: when it had changed, the units committed in it, and its folders."""

    changed: int
    units: frozenset[str]
    folders: tuple[str, ...]


class CommitNames:
    """Folder of commits -> the units that have a commit in it.

    On a disk only folders that changed are read, and no file is. On an object store all names are listed, less often.

    Args:
        storage: the run.
    """

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._folders: dict[str, _Folder] = {}
        self._listed = Paced(self._list)

    def look(self) -> dict[str, frozenset[str]]:
        """The names as they are now, or were not long ago."""
        if is_object_url(self._storage.root):
            return self._listed.value()
        root = Path(self._storage.root)
        tops = (COMMITS, EVALUATION_RECORDS, EVALUATIONS)  # the last in runs of schema 1
        return {name: folder.units for top in tops for name, folder in self._walk(root, top)}

    def _list(self) -> dict[str, frozenset[str]]:
        units: dict[str, set[str]] = {}
        for top in (COMMITS, EVALUATION_RECORDS):
            for entry in self._storage.list(top):
                if entry.name.endswith(RECORD_SUFFIX):
                    name = PurePosixPath(entry.name)
                    units.setdefault(str(name.parent), set()).add(name.stem)
        return {folder: frozenset(names) for folder, names in units.items()}

    def _walk(self, root: Path, name: str) -> Iterator[tuple[str, _Folder]]:
        folder = self._folder(root, name)
        if folder is not None:
            yield name, folder
            for inner in folder.folders:
                yield from self._walk(root, f"{name}/{inner}")

    def _folder(self, root: Path, name: str) -> _Folder | None:
        """A folder as it is now; None where there is none."""
        try:
            changed = (root / name).stat().st_mtime_ns
            known = self._folders.get(name)
            if known is not None and known.changed == changed:
                return known
            units, folders = set(), []
            with os.scandir(root / name) as found:
                for entry in found:
                    if entry.name.endswith(RECORD_SUFFIX):
                        units.add(entry.name.removesuffix(RECORD_SUFFIX))
                    elif entry.is_dir():
                        folders.append(entry.name)
        except FileNotFoundError:
            return None
        # One that has just changed is read again next time.
        mark = changed if time.time_ns() - changed > FRESH_NS else -1
        self._folders[name] = _Folder(mark, frozenset(units), tuple(sorted(folders)))
        return self._folders[name]
