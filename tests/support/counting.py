"""A storage that counts what is asked of it: no time is measured where requests and bytes can be counted."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

import pytest

from pipeline.storage.base import Entry
from pipeline.storage.object_store import ObjectStorage

_KINDS = ("entry", "read", "read_range", "open", "create", "put", "publish", "delete")


class Requests:
    """Requests to object stores, by kind and by (kind, name), and the bytes that were read; of all threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.clear()

    def clear(self) -> None:
        self.kinds: Counter[str] = Counter()
        self.names: Counter[tuple[str, str]] = Counter()
        self.bytes_read = 0

    def of(self, kind: str, ending: str) -> int:
        """How many requests of a kind were for files with names of this ending."""
        return sum(count for (of, name), count in self.names.items() if of == kind and name.endswith(ending))

    def add(self, kind: str, name: str, size: int) -> None:
        with self._lock:
            self.kinds[kind] += 1
            self.names[kind, name] += 1
            self.bytes_read += size


@contextmanager
def counted_requests() -> Iterator[Requests]:
    """Counts the requests to every object store of this process; the stores themselves are real."""
    requests = Requests()

    def counting(kind: str) -> Any:
        original = getattr(ObjectStorage, kind)

        def call(storage: ObjectStorage, name: Any, *arguments: Any) -> Any:
            result: bytes | Entry | BinaryIO | bool | None = original(storage, name, *arguments)
            target = str(arguments[0] if kind == "publish" else name)
            requests.add(kind, target, len(result) if isinstance(result, bytes) else 0)
            return result

        return call

    with pytest.MonkeyPatch.context() as patch:
        for kind in _KINDS:
            patch.setattr(ObjectStorage, kind, counting(kind))
        yield requests
