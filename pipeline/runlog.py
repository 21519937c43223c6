"""The run's JSON line log, `logs/<attempt>.jsonl`: one object a line, with a time and an event.

On disk lines are appended as they come; on an object store, which cannot append, the file is put anew every
`PUT_SECONDS` and at the end. Lines that the storage does not take are kept, and written with those that follow: a log
ends no run.
"""

from __future__ import annotations

import errno
import json
import os
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pipeline.storage import Storage, is_object_url

PUT_SECONDS = 30.0


class RunLog:
    def __init__(self, storage: Storage, attempt: str) -> None:
        self._storage = storage
        self._name = f"logs/{attempt}.jsonl"
        self._lines: list[str] = []
        self._put_at = time.monotonic()
        self._path = None if is_object_url(storage.root) else Path(storage.root) / self._name

    def write(self, event: str, **fields: Any) -> None:
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        self._lines.append(json.dumps({"time": now, "event": event, **fields}, default=str))
        if self._path is not None or time.monotonic() - self._put_at > PUT_SECONDS:
            self._put_at = time.monotonic()
            with suppress(OSError):
                self.close()

    def close(self) -> None:
        """Stores what is not stored yet.

        Raises:
            OSError: the storage does not take it; nothing is forgotten.
        """
        if not self._lines:
            return
        data = ("\n".join(self._lines) + "\n").encode()
        if self._path is None:
            self._storage.put(self._name, data)
        else:
            _append(self._path, data)
            self._lines.clear()


def _append(path: Path, data: bytes) -> None:
    """Appends all of the data, or nothing: half a line would spoil the next."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab", buffering=0) as file:
        end = file.seek(0, os.SEEK_END)
        if file.write(data) != len(data):
            file.truncate(end)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
