"""Where a run and its shards live: one interface over local disks and object stores."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.storage.base import Storage, check_url, is_object_url

# What makes a storage of a folder's path or URL; None for a folder that it leaves to others.
Opener = Callable[[str], Storage | None]
_openers: list[Opener] = []


@contextmanager
def opened_by(opener: Opener) -> Iterator[None]:
    """Meanwhile, `opener` is asked first for each storage that this process opens: for measurements."""
    _openers.append(opener)
    try:
        yield
    finally:
        _openers.remove(opener)


def open_storage(url: str | Path) -> Storage:
    """The storage of a folder: a local path, ``s3://``, ``gs://``, or ``memory://`` of this process.

    Raises:
        UsageError: field ``path``, for any other scheme or a URL that holds credentials.
    """
    check_url("path", str(url))
    for opener in reversed(_openers):
        if (storage := opener(str(url))) is not None:
            return storage
    # obstore is imported only where an object store is used.
    if is_object_url(str(url)):
        from pipeline.storage.object_store import ObjectStorage

        return ObjectStorage(str(url))
    from pipeline.storage.local import LocalStorage

    return LocalStorage(url)


def locate(url: str) -> tuple[Storage, str]:
    """The storage of the folder that holds the file `url`, and the file's name in it."""
    folder, slash, name = url.rpartition("/")
    return open_storage(folder or slash), name
