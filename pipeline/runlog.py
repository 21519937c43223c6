"""The run's JSON line log, `logs/<attempt>.jsonl`: one object a line, with a time and an event.

On disk lines are appended as they come; on an object store, which cannot append, the file is put anew every
`PUT_SECONDS` and at the end.
"""

from __future__ import annotations

import json
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
        line = json.dumps(
            {"time": datetime.now(UTC).isoformat(timespec="milliseconds"), "event": event, **fields}, default=str
        )
        if self._path is not None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("a", encoding="utf-8") as file:
                file.write(line + "\n")
            return
        self._lines.append(line)
        if time.monotonic() - self._put_at > PUT_SECONDS:
            self._put_at = time.monotonic()
            with suppress(OSError):  # the lines are kept, and stored with those that follow
                self.close()

    def close(self) -> None:
        """Stores what is not stored yet."""
        if self._lines:
            self._storage.put(self._name, ("\n".join(self._lines) + "\n").encode())
            self._put_at = time.monotonic()
