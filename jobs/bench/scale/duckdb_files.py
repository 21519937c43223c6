"""A storage as DuckDB reads it: one request for the size of a file, and ranges of it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, BinaryIO

from fsspec import AbstractFileSystem  # type: ignore[import-untyped]

from pipeline.storage.base import Entry, Storage

SCHEME = "ssigbench"


class Files(AbstractFileSystem):  # type: ignore[misc]  # fsspec has no types
    """The files of a storage, as ``ssigbench://NAME``."""

    protocol = SCHEME
    cachable = False

    def __init__(self, storage: Storage) -> None:
        super().__init__()
        self._storage = storage
        self._listed: dict[str, Entry] = {}

    def glob(self, path: str, **_: Any) -> list[str]:
        """The names below the folder before the first star, with the ending after the last."""
        folder, ending = _name(path).partition("*")[0], path.rpartition("*")[2]
        entries = [entry for entry in self._storage.list(folder.rstrip("/")) if entry.name.endswith(ending)]
        self._listed |= {entry.name: entry for entry in entries}
        return [entry.name for entry in entries]

    def open(self, path: str, mode: str = "rb", **_: Any) -> SharedFile:
        return SharedFile(lambda: self._storage.open(_name(path)))

    def size(self, path: str) -> int:
        """From the listing: opening the file has asked for it already."""
        return self._listed[_name(path)].size

    def modified(self, path: str) -> datetime:
        return datetime(2026, 1, 1, tzinfo=UTC)

    def exists(self, path: str, **_: Any) -> bool:
        return _name(path) in self._listed


class SharedFile:
    """A file in which each thread has its own place.

    DuckDB's threads share a file: each seeks and then reads, and another thread may do so in between.

    Args:
        open_: opens the file; called once for each thread that reads.
    """

    def __init__(self, open_: Callable[[], BinaryIO]) -> None:
        self._open, self._own = open_, threading.local()
        self._opened: list[BinaryIO] = []
        self._file()

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file().seek(offset, whence)

    def tell(self) -> int:
        return self._file().tell()

    def read(self, size: int = -1) -> bytes:
        return self._file().read(size)

    def close(self) -> None:
        for file in self._opened:
            file.close()

    def _file(self) -> BinaryIO:
        if not hasattr(self._own, "file"):
            self._own.file = self._open()
            self._opened.append(self._own.file)
        file: BinaryIO = self._own.file
        return file


def _name(path: str) -> str:
    return path.removeprefix(f"{SCHEME}://")
