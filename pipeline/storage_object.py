"""Storage in an object store (S3, Google Cloud Storage, or this process's memory), through obstore.

Exclusive calls are conditional puts (`If-None-Match: *`), versions are ETags, and files being written stay in a
local temporary folder. Credentials, regions and endpoints come from the environment, as obstore documents them.
A conditional put whose reply was lost is retried and then finds its own object: such a winner is told that it
lost, which is safe because an existing file is verified before it is kept.
"""

from __future__ import annotations

import functools
import io
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError, PermissionDeniedError, UnauthenticatedError
from obstore.store import MemoryStore, from_url

from pipeline.storage import Entry

if TYPE_CHECKING:
    from obstore import ObjectMeta
    from obstore.store import ObjectStore

_READ_AHEAD = 4 * 2**20  # bytes: some ten requests for a shard, against 100 ms for the first byte of each


class ObjectStorage:
    """The objects below ``scheme://bucket/prefix``."""

    def __init__(self, url: str) -> None:
        self._root = url.rstrip("/")
        scheme, _, path = self._root.partition("://")
        bucket, _, prefix = path.partition("/")
        self._prefix = f"{prefix}/" if prefix else ""
        self._store = _store(scheme, bucket)

    def __reduce__(self) -> tuple[type[ObjectStorage], tuple[str]]:
        return type(self), (self._root,)

    @property
    def root(self) -> str:
        return self._root

    def entry(self, name: str) -> Entry | None:
        try:
            with _os_errors(self._root):
                return self._entry(obstore.head(self._store, self._prefix + name))
        except FileNotFoundError:
            return None

    def list(self, prefix: str = "") -> Iterator[Entry]:
        with _os_errors(self._root):
            batches = obstore.list(self._store, (self._prefix + prefix).rstrip("/") or None, chunk_size=1000)
            entries = [self._entry(meta) for batch in batches for meta in batch]
        yield from sorted(entries, key=lambda entry: entry.name)

    def read(self, name: str) -> bytes:
        with _os_errors(self._root):
            return bytes(obstore.get(self._store, self._prefix + name).bytes())

    def read_range(self, name: str, offset: int, size: int) -> bytes:
        if size <= 0:
            return b""
        try:
            with _os_errors(self._root):
                return bytes(obstore.get_range(self._store, self._prefix + name, start=offset, length=size))
        except OSError:
            # A range that only ends past the end is clipped; one that begins there is refused.
            entry = self.entry(name)
            if entry is not None and offset >= entry.size:
                return b""
            raise

    def open(self, name: str) -> BinaryIO:
        entry = self.entry(name)
        if entry is None:
            raise FileNotFoundError(f"{self._root}/{name}: no such object")
        return cast(BinaryIO, io.BufferedReader(_RangeReader(self, entry), _READ_AHEAD))

    def create(self, name: str, data: bytes | Path) -> bool:
        try:
            with _os_errors(self._root):
                obstore.put(self._store, self._prefix + name, data, mode="create")
        except FileExistsError:
            return False
        return True

    def put(self, name: str, data: bytes) -> None:
        with _os_errors(self._root):
            obstore.put(self._store, self._prefix + name, data)

    def publish(self, staged: Path, name: str) -> bool:
        """Puts `staged` under `name` unless there is such an object, and removes `staged`, whoever won."""
        won = self.create(name, staged)
        staged.unlink()
        return won

    def delete(self, name: str) -> None:
        try:
            with _os_errors(self._root):
                obstore.delete(self._store, self._prefix + name)
        except FileNotFoundError:
            return

    def staging(self) -> Path:
        return Path(self._temporary.name)

    @functools.cached_property
    def _temporary(self) -> tempfile.TemporaryDirectory[str]:
        return tempfile.TemporaryDirectory(prefix="ssig-")

    def _entry(self, meta: ObjectMeta) -> Entry:
        version = meta["e_tag"] or meta["last_modified"].isoformat()
        return Entry(meta["path"].removeprefix(self._prefix), meta["size"], version)


class _RangeReader(io.RawIOBase):
    """A seekable raw file over range requests; `io.BufferedReader` gives it the rest of a file's manners."""

    def __init__(self, storage: ObjectStorage, entry: Entry) -> None:
        self._storage, self._entry, self._position = storage, entry, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._entry.size}[whence]
        self._position = max(0, start + offset)
        return self._position

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        size = min(len(buffer), self._entry.size - self._position)
        if size <= 0:
            return 0
        data = self._storage.read_range(self._entry.name, self._position, size)
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)


@functools.cache
def _store(scheme: str, bucket: str) -> ObjectStore:
    """The one client of a bucket in this process: connections and credentials are shared, as is memory."""
    return MemoryStore() if scheme == "memory" else from_url(f"{scheme}://{bucket}")


@contextmanager
def _os_errors(root: str) -> Iterator[None]:
    """Turns obstore's errors into the `OSError`s that a disk would raise (`FileNotFoundError` already is one)."""
    try:
        yield
    except AlreadyExistsError as error:
        raise FileExistsError(f"{root}: {_first_line(error)}") from error
    except (PermissionDeniedError, UnauthenticatedError) as error:
        raise PermissionError(f"{root}: {_first_line(error)}") from error
    except BaseError as error:
        raise OSError(f"{root}: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
