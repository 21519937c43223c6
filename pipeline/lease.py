"""One driver per run: a lease with generations, on any storage that can create a file exclusively.

The holder is who created the highest generation `.lease/NNNNNN.json`. A lease is stale when its process is gone (same
host and boot), or its heartbeat (another host) is older than `STALE_SECONDS` by this host's clock and does not come
while it is watched: clocks that disagree or jump neither end a living driver's lease nor keep a dead one's. Taking
over is creating the next generation, which one contender alone can do.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from pipeline.storage import Storage
from ssig.errors import SsigError

HEARTBEAT_SECONDS = 10.0
STALE_SECONDS = 60.0
# How long a heartbeat is awaited that the clock calls late, or ahead of its time.
WATCH_SECONDS = 2.5 * HEARTBEAT_SECONDS
FOLDER = ".lease"


class LeaseHeldError(SsigError):
    """Another driver works on this run."""


class Lease:
    """Held from `with` to the end of its body; `lost` turns true if somebody else took over."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._generation = 0
        self._stop = threading.Event()
        self._beat: threading.Thread | None = None
        self.lost = False

    def __enter__(self) -> Lease:
        current = _newest(self._storage)
        if current is not None:
            generation, record = current
            if not _is_stale(record) or self._beats(current):
                raise LeaseHeldError(
                    f"{self._storage.root}: another driver works on this run (host {record.get('host')}, process "
                    f"{record.get('pid')}); wait for it or stop it: its lease ends {STALE_SECONDS:.0f} s later at most"
                )
            self._generation = generation
        self._generation += 1
        if not self._storage.create(_name(self._generation), self._record()):
            raise LeaseHeldError(f"{self._storage.root}: another driver started on this run at the same time")
        self._beat = threading.Thread(target=self._keep, name="lease", daemon=True)
        self._beat.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        if self._beat is not None:
            self._beat.join()
        if not self.lost:
            for entry in list(self._storage.list(FOLDER)):
                if entry.name <= _name(self._generation):  # a later one is another driver's
                    self._storage.delete(entry.name)

    def verify(self) -> None:
        """Looks whether the lease is still ours: this process may have stood still for long, its heartbeat too.

        Raises:
            LeaseHeldError: another driver has taken over.
        """
        newest = _newest(self._storage)
        if newest is None or newest[0] != self._generation:
            self.lost = True
            raise LeaseHeldError(f"{self._storage.root}: another driver has taken this run over")

    def _beats(self, seen: tuple[int, dict[str, Any]]) -> bool:
        """Whether a lease of another host, stale by the clock, changes while it is watched."""
        if _is_here(seen[1]) or "beat" not in seen[1]:
            return False
        until = time.monotonic() + WATCH_SECONDS
        while time.monotonic() < until:
            time.sleep(min(1.0, WATCH_SECONDS / 10))
            if _newest(self._storage) != seen:
                return True
        return False

    def _record(self) -> bytes:
        return json.dumps({**_here(), "beat": time.time()}).encode()

    def _keep(self) -> None:
        while not self._stop.wait(HEARTBEAT_SECONDS):
            try:
                self.verify()
                self._storage.put(_name(self._generation), self._record())
            except LeaseHeldError:
                return
            except OSError:
                continue  # a storage that is away for a while makes the heartbeat late, which is what it means


def _name(generation: int) -> str:
    return f"{FOLDER}/{generation:06d}.json"


def _newest(storage: Storage) -> tuple[int, dict[str, Any]] | None:
    names = [entry.name for entry in storage.list(FOLDER)]
    if not names:
        return None
    newest = max(names)
    try:
        record = json.loads(storage.read(newest))
    except (FileNotFoundError, ValueError):  # a storage that does not answer is no reason to take over
        record = {}
    return int(Path(newest).stem), record


def _is_stale(record: dict[str, Any]) -> bool:
    if _is_here(record):
        return _started(record.get("pid", 0)) != record.get("started")
    return abs(time.time() - float(record.get("beat", 0))) > STALE_SECONDS


def _is_here(record: dict[str, Any]) -> bool:
    """Whether a lease is of this host, whose processes can be asked for."""
    here = _here()
    return bool(record.get("host") == here["host"] and record.get("boot") == here["boot"])


def _here() -> dict[str, Any]:
    return {"host": socket.gethostname(), "boot": _boot(), "pid": os.getpid(), "started": _started(os.getpid())}


def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return "unknown"


def _started(pid: int) -> str | None:
    """When a process of this host began, in clock ticks since boot; None if it is gone or a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else fields[19]


def holder(storage: Storage) -> str | None:
    """Who works on a run now, or None."""
    newest = _newest(storage)
    if newest is None or _is_stale(newest[1]):
        return None
    return f"process {newest[1].get('pid')} on {newest[1].get('host')}"
