"""The run's JSON line log: one object a line, with a time and an event.

On disk lines are appended to `logs/<attempt>.jsonl` as they come. An object store cannot append: there the lines of
every `PUT_SECONDS`, and those at the end, are put as one more segment, `logs/<attempt>-000001.jsonl` and so on, and
forgotten. Lines that cannot be stored are kept and written with the next ones, up to `MOST_KEPT` characters; then the
oldest are dropped, and a line says how many. Logging never fails a run.
"""

from __future__ import annotations

import time
from collections import deque
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from pipeline.run.layout import log_name
from pipeline.storage.base import Storage, is_object_url
from pipeline.storage.jsontext import to_json
from pipeline.storage.local import LocalStorage

PUT_SECONDS = 30.0
MOST_KEPT = 4 * 2**20
DROPPED = "lines dropped"
UNDER_WAY = "under way"


class RunLog:
    """The log of one driver, which alone writes it.

    Args:
        storage: the run.
        attempt: id of the driver's attempt, part of the names.
    """

    def __init__(self, storage: Storage, attempt: str) -> None:
        self._storage = storage
        self._disk = None if is_object_url(storage.root) else LocalStorage(storage.root)
        self._attempt = attempt
        self._segment = 1
        self._lines: deque[str] = deque()
        self._characters = 0  # characters of the lines
        self._dropped = 0
        self._put_at = time.monotonic()

    def write(self, event: str, **fields: Any) -> None:
        """Adds a line. Lines that cannot be stored now are stored later."""
        self._keep(_line(event, **fields))
        if self._disk is not None or time.monotonic() - self._put_at > PUT_SECONDS:
            with suppress(OSError):
                self.close()
            self._put_at = time.monotonic()  # after the put: one that fails may take longer than the pause

    def close(self) -> None:
        """Stores the lines that are not stored yet.

        Raises:
            OSError: they could not be stored; they are kept.
        """
        if not self._lines:
            return
        notice = [_line(DROPPED, lines=self._dropped)] if self._dropped else []
        data = ("\n".join([*notice, *self._lines]) + "\n").encode()
        if self._disk is not None:
            self._disk.append(log_name(self._attempt), data)
        else:
            # A put whose reply was lost may have been done: under the same name, a second put changes nothing.
            self._storage.put(log_name(self._attempt, self._segment), data)
            self._segment += 1
        self._lines.clear()
        self._characters = self._dropped = 0

    def _keep(self, line: str) -> None:
        """Keeps a line, in place of the oldest where there is no room."""
        self._lines.append(line)
        self._characters += len(line)
        while self._characters > MOST_KEPT and len(self._lines) > 1:
            self._characters -= len(self._lines.popleft())
            self._dropped += 1


def _line(event: str, **fields: Any) -> str:
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    return to_json({"time": now, "event": event, **fields}, default=str)
