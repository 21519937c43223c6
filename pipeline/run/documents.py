"""The JSON files of a run. Each is read once, and again only if a listing shows that it changed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from pipeline.storage.base import Entry, Storage
from pipeline.storage.many import in_order
from ssig.errors import SsigError

Content = TypeVar("Content")


@dataclass(frozen=True, slots=True)
class Document(Generic[Content]):
    """A file that was read.

    Attributes:
        entry: what a listing said of it.
        digest: SHA-256 of its bytes.
        content: what it holds, or why that is no record of a run.
    """

    entry: Entry
    digest: bytes
    content: Content | SsigError

    @property
    def value(self) -> Content:
        """What it holds.

        Raises:
            SsigError: it is no record of a run.
        """
        if isinstance(self.content, SsigError):
            raise self.content
        return self.content


class Documents(Generic[Content]):
    """The files of one kind.

    Args:
        storage: the run.
        parse: makes the content of a file's name and bytes; it may raise an `SsigError`, which is kept.
    """

    def __init__(self, storage: Storage, parse: Callable[[str, bytes], Content]) -> None:
        self._storage = storage
        self._parse = parse
        self._documents: dict[str, Document[Content]] = {}

    def read(self, entries: Sequence[Entry]) -> list[Document[Content] | OSError]:
        """The documents of listed files, in their order; new and changed files are read, many at a time.

        Where the storage fails to give a file, its error takes the place of the document; the next call tries again.
        """
        unread = [entry for entry in entries if not self._is_current(entry)]
        errors: dict[str, OSError] = {}
        for entry, document in zip(unread, in_order(self._read, unread), strict=True):
            if isinstance(document, OSError):
                self._documents.pop(entry.name, None)
                errors[entry.name] = document
            else:
                self._documents[entry.name] = document
        return [errors.get(entry.name) or self._documents[entry.name] for entry in entries]

    def all(self, entries: Sequence[Entry]) -> list[Document[Content]]:
        """The same.

        Raises:
            OSError: the storage does not give one of them.
        """
        documents = []
        for document in self.read(entries):
            if isinstance(document, OSError):
                raise document
            documents.append(document)
        return documents

    def _is_current(self, entry: Entry) -> bool:
        document = self._documents.get(entry.name)
        return document is not None and document.entry == entry

    def _read(self, entry: Entry) -> Document[Content] | OSError:
        try:
            data = self._storage.read(entry.name)
        except OSError as error:
            return error
        digest = hashlib.sha256(data).digest()
        try:
            return Document(entry, digest, self._parse(entry.name, data))
        except SsigError as error:
            return Document(entry, digest, error)
