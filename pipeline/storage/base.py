"""Where a run and its shards live: a few calls that mean the same on disks and in object stores.

`publish` and `create` are exclusive: of several attempts at one name, the first wins, and the others return False.
On disk a file is written beside its place, fsynced, hard-linked to its name and its folder fsynced; on an object
store the same calls are conditional puts (`If-None-Match: *`).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

from ssig.errors import UsageError

OBJECT_SCHEMES = ("s3://", "gs://", "memory://")
_ALIASES = {"s3a": "s3", "s3n": "s3", "gcs": "gs"}
_SCHEMES = ("s3", "s3a", "s3n", "gs", "gcs", "memory", "file", "http", "https", "ftp", "hdfs", "abfs", "abfss", "az")
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):(/{0,2})(.*)", re.DOTALL)
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True)
class Entry:
    """A stored file: its name below the root (with /), size in bytes and a version mark (mtime in ns, or ETag)."""

    name: str
    size: int
    version: str


class Storage(Protocol):
    """A folder of files, named by relative paths with /."""

    @property
    def root(self) -> str:
        """The path or URL of the folder."""

    def entry(self, name: str) -> Entry | None:
        """What is stored under `name`, or None."""

    def list(self, prefix: str = "") -> Iterator[Entry]:
        """Every file whose name starts with the folder `prefix`, in order of name."""

    def read(self, name: str) -> bytes: ...

    def read_range(self, name: str, offset: int, size: int) -> bytes:
        """`size` bytes from `offset`; fewer only at the end of the file."""

    def open(self, name: str) -> BinaryIO:
        """A seekable reader."""

    def create(self, name: str, data: bytes) -> bool:
        """Stores `data` under `name` unless there is such a file; whether it did."""

    def put(self, name: str, data: bytes) -> None:
        """Stores `data` under `name`, in place of what is there, never half."""

    def publish(self, staged: Path, name: str) -> bool:
        """Gives the whole, closed local file `staged` its final `name` unless there is such a file; whether it did."""

    def upload(self, staged: Path, name: str) -> None:
        """Gives the whole, closed local file `staged` its final `name`, in place of what is there; `staged` goes."""

    def copy(self, name: str, to: str) -> None:
        """Stores the file `name` under a second name too, in place of what is there; no byte is read here."""

    def delete(self, name: str) -> None: ...

    def staging(self) -> Path:
        """A local folder for files that are being written; on disk, of the same file system as the root."""


def is_url(text: str) -> bool:
    """Whether `text` is a URL, or meant to be one: ``s3:/bucket`` is no local path."""
    match = _URL.match(text)
    return "://" in text or (match is not None and match[1].lower() in _SCHEMES)


def check_url(field: str, url: str) -> None:
    """Refuses what is neither a local path nor a URL of a bucket, such as ``s3://``, ``s3:/bucket`` or ``file:///a``.

    Raises:
        UsageError: field `field`.
    """
    refuse_credentials(field, url)
    match = _URL.match(url) if is_url(url) else None
    if match is None:
        return
    scheme, slashes, rest = match[1].lower(), match[2], match[3]
    prefix = f"{_ALIASES.get(scheme, scheme)}://"
    if scheme == "file":
        raise UsageError(field, url, f"the path itself: /{rest.lstrip('/')}")
    if prefix not in OBJECT_SCHEMES:
        raise UsageError(field, url, "a local path, or a URL that begins with " + ", ".join(OBJECT_SCHEMES))
    is_bucket = _BUCKET.fullmatch(rest.partition("/")[0]) is not None
    if {".", ".."} & set(rest.split("/")):
        raise UsageError(field, url, "a URL without . and .. among its folders")
    if f"{match[1]}:{slashes}" != prefix or not is_bucket:
        raise UsageError(field, url, f"a URL with a bucket: {prefix}{rest if is_bucket else 'BUCKET/FOLDER'}")


def refuse_credentials(field: str, url: str) -> None:
    """Refuses a URL with a user, a password or a query: URLs are recorded with the run and printed.

    A question mark is a wildcard in the names of shards, unless `name=` follows: then it begins a query.

    Raises:
        UsageError: field `field`; the message does not repeat them.
    """
    scheme, separator, rest = url.partition("://")
    authority, _, path = rest.partition("/")
    query = re.search(r"\?[^/]*=", rest)
    if separator and (query or "@" in authority or ":" in authority):
        name = path.partition("?")[0].rpartition("/")[2]
        shown = f"{scheme}://…/{'' if '@' in name else name}"
        raise UsageError(
            field, shown, "a URL without user, password and query: credentials come from the environment (AWS_…)"
        )


def is_object_url(url: str) -> bool:
    """Whether `url` names something in an object store, not on a local disk."""
    return url.startswith(OBJECT_SCHEMES)


def sha256(file: BinaryIO) -> str:
    """SHA-256, in hexadecimal, of the rest of `file`, which is closed."""
    with file:
        return hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]  # no readinto in BinaryIO
