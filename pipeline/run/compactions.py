"""The compacted tables of a run, as their records say."""

from __future__ import annotations

import threading

from pipeline.run.compaction_record import Compaction, stored_compaction
from pipeline.run.layout import COMPACTIONS, EXCHANGED, STAGED, compaction_name, table_of_compaction
from pipeline.run.records import RefusedError, parsed
from pipeline.storage.base import Entry, Storage


class Compactions:
    """The records of a run's compacted tables, each read once.

    They are listed on first use; after `refresh` they are listed again, and those that changed are read again.

    Args:
        storage: the run.
    """

    def __init__(self, storage: Storage) -> None:
        self.storage = storage
        self._lock = threading.Lock()
        self._listed: dict[str, Entry] | None = None
        self._read: dict[str, tuple[Entry, Compaction]] = {}

    def refresh(self) -> None:
        """Lists the records again from now on."""
        with self._lock:
            self._listed = None

    def tables(self) -> list[str]:
        """The tables that have a record, in order of name.

        Raises:
            OSError: the storage cannot be listed.
        """
        return [table for name in self._entries() if (table := table_of_compaction(name)) is not None]

    def leftovers(self) -> list[str]:
        """Files that are on their way into a table, or out of it: a compaction goes on, or was cut off.

        Raises:
            OSError: the storage cannot be listed.
        """
        folders = tuple(f"{COMPACTIONS}/{folder}/" for folder in (STAGED, EXCHANGED))
        return [name for name in self._entries() if name.startswith(folders)]

    def of(self, table: str) -> Compaction | None:
        """The record of a table; None where it has none.

        Raises:
            RefusedError: the record is damaged; the message names the file.
            OSError: the storage does not give it.
        """
        entry = self._entries().get(compaction_name(table))
        return None if entry is None else self._compaction(entry, table)

    def _entries(self) -> dict[str, Entry]:
        with self._lock:
            if self._listed is None:
                self._listed = {entry.name: entry for entry in self.storage.list(COMPACTIONS)}
            return self._listed

    def _compaction(self, entry: Entry, table: str) -> Compaction:
        name = entry.name
        with self._lock:
            known = self._read.get(name)
        if known is not None and known[0] == entry:
            return known[1]
        record = parsed(self.storage.read(name))
        try:
            if isinstance(record, str):
                raise RefusedError(record)
            compaction = stored_compaction(table, record)
        except RefusedError as error:
            raise RefusedError(f"{self.storage.root}/{name}: {error}") from None
        with self._lock:
            self._read[name] = entry, compaction
        return compaction
