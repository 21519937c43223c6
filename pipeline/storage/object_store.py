"""Storage in an object store (S3, Google Cloud Storage, or this process's memory), through obstore.

Exclusive calls are conditional puts (`If-None-Match: *`), versions are ETags, and files being written stay in a
local temporary folder, one for each URL and user, so that a later process finds what a killed one left. How long a
store is waited for is in `pipeline.storage.object_client`.

A conditional put whose reply was lost may have been done. So each put stores a mark of its own in the metadata of the
object. A caller that gets no reply, or hears that the object exists, reads the mark: if it is its own, its put won. A
reply that was cut short shows in the size of the object, and is requested again.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import stat
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import obstore

from pipeline.storage.base import Entry
from pipeline.storage.listing import keys
from pipeline.storage.object_client import InvalidKeyError, Patience, client, os_errors
from pipeline.storage.ranges import opened_in_ranges

if TYPE_CHECKING:
    from obstore import ObjectMeta

_MARK = "ssig-put"  # metadata of an object that was stored exclusively: which call did it


class ObjectStorage:
    """The objects below ``scheme://bucket/prefix``."""

    def __init__(self, url: str) -> None:
        scheme, _, path = url.partition("://")
        bucket, *folders = (part for part in path.split("/") if part)
        self._root = f"{scheme}://{'/'.join([bucket, *folders])}"
        self._prefix = "".join(f"{folder}/" for folder in folders)
        self._scheme, self._bucket = scheme, bucket
        self._is_memory = scheme == "memory"
        self._patience = Patience.from_environment()
        self._store = client(scheme, bucket, self._patience)
        # For calls that are tried again here: the client's own tries would multiply with these.
        self._store_once = client(scheme, bucket, replace(self._patience, retries=0))

    def __reduce__(self) -> tuple[type[ObjectStorage], tuple[str]]:
        return type(self), (self._root,)

    @property
    def root(self) -> str:
        return self._root

    def entry(self, name: str) -> Entry | None:
        meta = self._head(self._prefix + name)
        return None if meta is None else self._entry(meta)

    def list(self, prefix: str = "") -> Iterator[Entry]:
        """Every file whose key starts with the folder `prefix`, in order of name.

        Markers of folders (an empty object ``folder/``) and keys with empty parts (``folder//a``) are no files.
        """
        below, last = (self._prefix + prefix).rstrip("/") or None, None
        pauses: Iterator[float] | None = None  # of this page
        has_false_names = below is None and self._has_leading_slashes()
        while True:
            try:
                with os_errors(self._url(prefix)):
                    for meta in self._metas(below, last):
                        last, pauses = meta["path"], None
                        # The client drops a slash at either end, so a name may be that of no object.
                        may_be_false = meta["size"] == 0 or has_false_names
                        if last != below and not (may_be_false and self._head(last) is None):
                            yield self._entry(meta)
                return
            except PermissionError:
                raise
            except InvalidKeyError:
                yield from self._list_by_key(below, last)
                return
            except OSError:  # a page did not come, or was cut short: on from where the list was
                pauses = pauses or self._patience.pauses()
                pause = next(pauses, None)
                if pause is None:
                    raise
            time.sleep(pause)

    def read(self, name: str) -> bytes:
        with os_errors(self._url(name)):
            reply = obstore.get(self._store, self._prefix + name)
            size, data = reply.meta["size"], bytes(reply.bytes())
        return data if len(data) == size else self.read_range(name, 0, size)

    def read_range(self, name: str, offset: int, size: int) -> bytes:
        if size <= 0:
            return b""
        received = 0
        for pause in (0.0, *self._patience.pauses()):
            time.sleep(pause)
            data = self._range(name, offset, size)
            if len(data) == size:
                return data
            entry = self.entry(name)
            if entry is not None and len(data) == max(0, entry.size - offset):
                return data  # the range ends past the end of the object
            received = len(data)
        raise OSError(f"{self._url(name)}: received {received} of {size} bytes from {offset} after all retries")

    def open(self, name: str) -> BinaryIO:
        entry = self.entry(name)
        if entry is None:
            raise FileNotFoundError(f"{self._url(name)}: no such object")
        return opened_in_ranges(self, entry)

    def create(self, name: str, data: bytes | Path) -> bool:
        mark = uuid.uuid4().hex
        pauses = self._patience.pauses()
        while True:
            try:
                with os_errors(self._url(name)):
                    obstore.put(self._store_once, self._prefix + name, data, mode="create", attributes={_MARK: mark})
                return True
            except PermissionError:
                raise
            except OSError:  # the object exists, or the reply was lost
                pause = next(pauses, None)
                with suppress(OSError):
                    stored_mark = self._mark(name)
                    if stored_mark is not None:
                        return stored_mark == mark
                if pause is None:
                    raise
            time.sleep(pause)

    def put(self, name: str, data: bytes) -> None:
        with os_errors(self._url(name)):
            obstore.put(self._store, self._prefix + name, data, use_multipart=False)

    def publish(self, staged: Path, name: str) -> bool:
        """Puts `staged` under `name` unless there is such an object, and removes `staged` in any case."""
        won = self.create(name, staged)
        staged.unlink()
        return won

    def upload(self, staged: Path, name: str) -> None:
        with os_errors(self._url(name)):
            obstore.put(self._store, self._prefix + name, staged)  # a large file in parts
        staged.unlink()

    def copy(self, name: str, to: str) -> None:
        pauses = self._patience.pauses()
        while True:
            try:
                with os_errors(self._url(name)):
                    obstore.copy(self._store_once, self._prefix + name, self._prefix + to)
                return
            except (FileNotFoundError, PermissionError):
                raise
            except OSError:  # a copy may be made twice
                pause = next(pauses, None)
                if pause is None:
                    raise
            time.sleep(pause)

    def delete(self, name: str) -> None:
        pauses = self._patience.pauses()
        while True:
            try:
                with os_errors(self._url(name)):
                    obstore.delete(self._store_once, self._prefix + name)
                return
            except FileNotFoundError:
                return
            except PermissionError:
                raise
            except OSError:
                pause = next(pauses, None)
                if pause is None:
                    raise
            time.sleep(pause)

    def staging(self) -> Path:
        name = hashlib.sha256(self._root.encode()).hexdigest()[:16]
        return _private_folder(Path(tempfile.gettempdir()) / f"ssig-{os.getuid()}-{name}")

    def _list_by_key(self, below: str | None, after: str | None) -> Iterator[Entry]:
        """The rest of a listing that the client gave up because of a key that it cannot hold."""
        for key in keys(self._scheme, self._bucket, below or "", self._patience):
            if (after is None or key > after) and (meta := self._head(key)) is not None:
                yield self._entry(meta)

    def _has_leading_slashes(self) -> bool:
        """Whether the bucket has keys that begin with a slash."""
        if self._is_memory:
            return False
        with suppress(OSError), os_errors(self._root):
            return "" in obstore.list_with_delimiter(self._store)["common_prefixes"]
        return False

    def _head(self, key: str) -> ObjectMeta | None:
        try:
            with os_errors(f"{self._scheme}://{self._bucket}/{key}"):
                return obstore.head(self._store, key)
        except FileNotFoundError:
            return None

    def _url(self, name: str) -> str:
        return f"{self._root}/{name}" if name else self._root

    def _entry(self, meta: ObjectMeta) -> Entry:
        version = meta["e_tag"] or meta["last_modified"].isoformat()
        return Entry(meta["path"].removeprefix(self._prefix), meta["size"], version)

    def _metas(self, below: str | None, after: str | None) -> Iterator[ObjectMeta]:
        """Objects in order of name, those up to `after` left out."""
        batches = obstore.list(self._store_once, below, offset=after, chunk_size=1000)
        metas = itertools.chain.from_iterable(batches)
        # Object stores list in order of name; memory does not.
        return iter(sorted(metas, key=lambda meta: meta["path"])) if self._is_memory else metas

    def _range(self, name: str, offset: int, size: int) -> bytes:
        """The reply to one request; empty beyond the end."""
        try:
            with os_errors(self._url(name)):
                return bytes(obstore.get_range(self._store, self._prefix + name, start=offset, length=size))
        except OSError:
            # A range that only ends past the end is clipped; one that begins there is refused.
            with suppress(OSError):
                entry = self.entry(name)
                if entry is not None and offset >= entry.size:
                    return b""
            raise

    def _mark(self, name: str) -> str | None:
        """The mark of an object, empty if it has none; None if there is no such object."""
        try:
            with os_errors(self._url(name)):
                reply = obstore.get(self._store_once, self._prefix + name, options={"head": True})
                return reply.attributes.get(_MARK, "")
        except FileNotFoundError:
            return None


def _private_folder(folder: Path) -> Path:
    """Makes `folder`, unless it is there, one that its owner alone may read and write.

    Other users can write beside it and know its name, so it may be another user's folder or a link.

    Raises:
        PermissionError: it is a link, no folder, or another user's.
    """
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid():
        raise PermissionError(
            f"{folder}: a link, or another user's; files are staged in your own folder (set TMPDIR to another one)"
        )
    if stat.S_IMODE(status.st_mode) & 0o077:
        folder.chmod(0o700)
    return folder
