"""Storage on a disk: whole files only, and of several attempts at one name the first wins.

A new file is written in ``.attempts/`` below the root (so on the same file system), fsynced, hard-linked to its
name, and its folder fsynced. A hard link cannot replace a file, which makes it exclusive between processes and,
on the usual network file systems, between machines; and a name shows its whole content or is not there.

Somebody else's folder may hold links that lead out of it. Files are read through links wherever they lead. Nothing is
written or removed in a folder that lies outside the root when all links are followed. The root's own path may contain
links: the user named it so.
"""

from __future__ import annotations

import errno
import os
import uuid
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from pipeline.storage import fault_points
from pipeline.storage.base import Entry
from pipeline.storage.exchange import exchanged
from ssig.errors import UsageError

STAGING = ".attempts"
_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK}


class LocalStorage:
    """A folder on a disk; it is made when the first file is stored."""

    def __init__(self, folder: str | Path) -> None:
        self._root = Path(os.path.abspath(folder))

    @property
    def root(self) -> str:
        return str(self._root)

    def entry(self, name: str) -> Entry | None:
        path = self._root / name
        try:
            return _entry(name, path.stat()) if path.is_file() else None
        except FileNotFoundError:  # deleted between the two calls
            return None

    def list(self, prefix: str = "") -> Iterator[Entry]:
        prefix = prefix.strip("/")
        yield from _walk(self._root / prefix, f"{prefix}/" if prefix else "")

    def read(self, name: str) -> bytes:
        return (self._root / name).read_bytes()

    def read_range(self, name: str, offset: int, size: int) -> bytes:
        descriptor = os.open(f"{self._root}/{name}", os.O_RDONLY)
        try:
            data = os.pread(descriptor, size, offset)
            while len(data) < size and (more := os.pread(descriptor, size - len(data), offset + len(data))):
                data += more  # one call gives 2 GB at most
            return data
        finally:
            os.close(descriptor)

    def open(self, name: str) -> BinaryIO:
        return (self._root / name).open("rb")

    def create(self, name: str, data: bytes) -> bool:
        self._checked_path(name)  # before anything is staged
        return self.publish(self._stage(data), name)

    def put(self, name: str, data: bytes) -> None:
        path = self._checked_path(name)
        staged = self._stage(data)
        _sync(staged)
        _make_folder(path.parent)
        fault_points.point("before-replace", name)
        staged.replace(path)
        fault_points.point("after-replace", name)
        _sync(path.parent)

    def publish(self, staged: Path, name: str) -> bool:
        """Links `staged` to `name` and removes `staged`, also where another attempt won.

        Raises:
            UsageError: the file system has no hard links.
            PermissionError: the folder of `name` lies outside of the root.
        """
        path = self._checked_path(name)
        _sync(staged)
        _make_folder(path.parent)
        try:
            os.link(staged, path)
            fault_points.point("after-link", name)
            won = True
        except FileExistsError:
            # A network file system may have made the link and lost the reply: then the two are one file.
            won = os.path.samefile(staged, path)
        except OSError as error:
            if error.errno in _NO_LINKS:
                raise UsageError("path", self.root, f"a file system with hard links ({error.strerror})") from error
            raise
        _sync(path.parent)
        staged.unlink()
        return won

    def upload(self, staged: Path, name: str) -> None:
        path = self._checked_path(name)
        _sync(staged)
        _make_folder(path.parent)
        staged.replace(path)
        _sync(path.parent)

    def copy(self, name: str, to: str) -> None:
        """A hard link: one file of two names. The new name lasts once its folder is synced, as `exchange` does."""
        path = self._checked_path(to)
        _make_folder(path.parent)
        path.unlink(missing_ok=True)
        os.link(self._root / name, path)

    def make_folder(self, folder: str) -> None:
        """Makes a folder, with those above it."""
        _make_folder(self._checked_path(f"{folder}/any").parent)

    def exchange(self, one: str, other: str, former: str) -> None:
        """Swaps two folders; `one` counts as empty if it is not there.

        In one step where the system can, and then `former` stays unused. Elsewhere `one` is missing for an instant: a
        process that is killed then leaves it under the name `former`, and `recover` puts it back.

        Raises:
            FileNotFoundError: `other` is not there; nothing has changed.
        """
        first, second, third = (self._checked_path(f"{name}/any").parent for name in (one, other, former))
        _make_folder(first)
        _sync(first)
        _sync(second)
        if not exchanged(first, second):
            first.rename(third)
            fault_points.point("half-exchanged", one)
            try:
                second.rename(first)
            except OSError:
                third.rename(first)
                raise
            third.rename(second)
        for folder in {first.parent, second.parent}:
            _sync(folder)

    def recover(self, one: str, former: str) -> None:
        """Puts a folder back that an `exchange` was about to replace when it was cut off."""
        first, third = (self._checked_path(f"{name}/any").parent for name in (one, former))
        if third.is_dir() and not first.exists():
            third.rename(first)

    def remove_folder(self, folder: str) -> None:
        """Removes a folder that is empty, and those above it that become empty, up to the root."""
        path = self._checked_path(f"{folder}/any").parent
        with suppress(OSError):  # not empty, or not there
            while path != self._root:
                path.rmdir()
                path = path.parent

    def delete(self, name: str) -> None:
        self._checked_path(name).unlink(missing_ok=True)

    def append(self, name: str, data: bytes) -> None:
        """Appends all of `data`, or nothing, to a file that this process alone writes; it is not synced.

        Raises:
            OSError: nothing was appended.
        """
        path = self._checked_path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        # Unlike a file that is replaced, one that is appended to would be followed if it were a link.
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW, 0o666)
        with open(descriptor, "ab", buffering=0) as file:
            end = file.seek(0, os.SEEK_END)
            if file.write(data) != len(data):
                file.truncate(end)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    def staging(self) -> Path:
        folder = self._checked_path(f"{STAGING}/any").parent
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def _checked_path(self, name: str) -> Path:
        """The path of a file that is to be written or removed. Looked up each time: links may have come meanwhile.

        Raises:
            PermissionError: its folder lies outside of the root. It is an `OSError`, so no sample is blamed.
        """
        path = self._root / name
        root, folder = os.path.realpath(self._root), os.path.realpath(path.parent)
        if not Path(folder).is_relative_to(root):
            raise PermissionError(
                f"{path.parent}: a link leads out of {self._root}, to {folder}; nothing is written or removed there"
            )
        return path

    def _stage(self, data: bytes) -> Path:
        staged = self.staging() / uuid.uuid4().hex
        staged.write_bytes(data)
        return staged


def _entry(name: str, stat: os.stat_result) -> Entry:
    return Entry(name, stat.st_size, str(stat.st_mtime_ns))


def _walk(folder: Path, prefix: str) -> Iterator[Entry]:
    """The files below `folder` in order of their whole name, which is the order of siblings if folders end in /."""
    try:
        with os.scandir(folder) as entries:
            siblings = sorted((f"{entry.name}/" if entry.is_dir() else entry.name, entry) for entry in entries)
    except (FileNotFoundError, NotADirectoryError):
        return
    for name, entry in siblings:
        if name == f"{STAGING}/":
            continue
        if name.endswith("/"):
            yield from _walk(Path(entry.path), prefix + name)
        else:
            with suppress(FileNotFoundError):  # deleted since the folder was read
                yield _entry(prefix + name, entry.stat())


def _make_folder(folder: Path) -> None:
    """Makes `folder` and its parents, each made to last by a sync of the folder that holds it."""
    if folder.is_dir():
        return
    _make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    _sync(folder.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
