"""Storage on a local disk that answers as late as an object store, and counts what it is asked.

The thread that asks sleeps, so that requests overlap where several threads ask. A file that is opened is read in
ranges with the read-ahead of `pipeline.storage.ranges`.
"""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from pipeline.storage.base import Entry, Storage
from pipeline.storage.local import LocalStorage
from pipeline.storage.ranges import opened_in_ranges

BUCKET = "s3://ssig-bench-scale"
RUN, SHARDS, ASIDE, LISTED = "run", "large-shards", "aside", "listed"  # folders of the data
UNIT_SIZE = 64
_PAGE = 1000  # names in a reply to a listing


class Requests:
    """Delays and counts the requests of all threads.

    Attributes:
        delay: seconds of each request.
        counts: kind of request -> how many.
        read, written: bytes.
        waited: seconds in which some thread waited for a request.
    """

    def __init__(self, delay: float) -> None:
        self.delay = delay
        self.counts: Counter[str] = Counter()
        self.read = self.written = 0
        self.waited = 0.0
        self._in_flight = 0
        self._since = 0.0  # when the first of those in flight began
        self._lock = threading.Lock()

    @contextmanager
    def request(self, kind: str, written: int = 0) -> Iterator[None]:
        """One request: the body is what the disk does."""
        with self._lock:
            self.counts[kind] += 1
            self.written += written
            if not self._in_flight:
                self._since = time.perf_counter()
            self._in_flight += 1
        time.sleep(self.delay)
        with self._lock:
            self._in_flight -= 1
            if not self._in_flight:
                self.waited += time.perf_counter() - self._since
        yield

    def received(self, data: bytes) -> bytes:
        """Counts the bytes of a reply."""
        with self._lock:
            self.read += len(data)
        return data

    @property
    def record(self) -> dict[str, Any]:
        """What was counted."""
        return {
            "requests": self.counts.total(),
            "by_kind": dict(sorted(self.counts.items())),
            "bytes_read": self.read,
            "bytes_written": self.written,
            "waited_seconds": self.waited,
        }


class _Shard(threading.local):
    """The shard that a thread reads, kept open: each call of the system lets other threads go first, and a request to
    an object store is one.

    Args:
        folder: of the shards, which do not change.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._name: str | None = None

    def read(self, name: str, offset: int, size: int) -> bytes:
        if name != self._name:
            self._name, self._file = name, (self._folder / name).open("rb", buffering=0)
        return os.pread(self._file.fileno(), size, offset)


class DelayedStorage:
    """A local folder under a URL of an object store.

    Args:
        url: its root.
        folder: where its files are.
        requests: what delays and counts.
    """

    def __init__(self, url: str, folder: Path, requests: Requests) -> None:
        self._root, self._requests = url.rstrip("/"), requests
        self._disk, self._shard = LocalStorage(folder), _Shard(folder)

    @property
    def root(self) -> str:
        return self._root

    def entry(self, name: str) -> Entry | None:
        with self._requests.request("head"):
            return self._disk.entry(name)

    def list(self, prefix: str = "") -> Iterator[Entry]:
        for number, entry in enumerate(self._disk.list(prefix)):
            if number % _PAGE == 0:
                with self._requests.request("list"):
                    pass
            yield entry

    def read(self, name: str) -> bytes:
        with self._requests.request("get"):
            return self._requests.received(self._disk.read(name))

    def read_range(self, name: str, offset: int, size: int) -> bytes:
        with self._requests.request("get"):
            read = self._shard.read if self._root.endswith(SHARDS) else self._disk.read_range
            return self._requests.received(read(name, offset, size))

    def open(self, name: str) -> BinaryIO:
        entry = self.entry(name)
        if entry is None:
            raise FileNotFoundError(f"{self._root}/{name}: no such object")
        return opened_in_ranges(self, entry)

    def create(self, name: str, data: bytes) -> bool:
        with self._requests.request("put", len(data)):
            return self._disk.create(name, data)

    def put(self, name: str, data: bytes) -> None:
        with self._requests.request("put", len(data)):
            self._disk.put(name, data)

    def publish(self, staged: Path, name: str) -> bool:
        with self._requests.request("put", staged.stat().st_size):
            return self._disk.publish(staged, name)

    def upload(self, staged: Path, name: str) -> None:
        with self._requests.request("put", staged.stat().st_size):
            self._disk.upload(staged, name)

    def copy(self, name: str, to: str) -> None:
        with self._requests.request("copy"):
            self._disk.copy(name, to)

    def delete(self, name: str) -> None:
        with self._requests.request("delete"):
            self._disk.delete(name)

    def staging(self) -> Path:
        return self._disk.staging()


def opener(folder: Path, requests: Requests) -> Any:
    """Opens `BUCKET`/NAME and `folder`/NAME as delayed storage of `folder`/NAME, and nothing else."""

    def open_(url: str) -> Storage | None:
        for root in (BUCKET, str(folder)):
            if url == root or url.startswith(f"{root}/"):
                return DelayedStorage(url, folder / url.removeprefix(root).strip("/"), requests)
        return None

    return open_
