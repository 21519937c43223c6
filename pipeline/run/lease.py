"""One driver per run: a lease with generations, on any storage that can create a file exclusively.

The driver that created the highest generation `.lease/NNNNNN.json` holds the lease. A lease of this host (the same
host, boot and space of process ids) is stale when its process is gone. Any other lease is stale when its heartbeat is
older than `STALE_SECONDS` by this host's clock and does not change while it is watched. So clocks that disagree or
jump neither end the lease of a living driver nor keep the lease of a dead one. To take over, a driver creates the
next generation; only one driver can.

Generations start again at 1 after a driver left the run, so the number alone does not identify a lease: each record
holds the identity of the lease that wrote it. A driver goes on only while it reads its own identity. It may stand
still between this check and its next step, and then replace or remove another driver's record. The other driver no
longer reads its own identity and stops, so one of two drivers goes on, whichever it is.
"""

from __future__ import annotations

import json
import os
import re
import socket
import threading
import time
import uuid
from pathlib import Path
from types import TracebackType
from typing import Any

from pipeline.run.layout import LEASES, lease_name
from pipeline.storage.base import Storage
from pipeline.storage.jsontext import to_json
from ssig.errors import SsigError

HEARTBEAT_SECONDS = 10.0
STALE_SECONDS = 60.0
# How long a lease with a late or future heartbeat is watched for a new one.
WATCH_SECONDS = 2.5 * HEARTBEAT_SECONDS
# Fields that are equal for two processes that can see each other. The host's name is not enough: containers may share
# it.
_PLACE = ("host", "boot", "space")


class LeaseHeldError(SsigError):
    """Another driver works on this run."""


class Lease:
    """Held from `with` to the end of its body; `lost` turns true if another driver took over."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._generation = 0
        self._identity = uuid.uuid4().hex
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
        if not self._storage.create(lease_name(self._generation), self._record()):
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
            self._release()

    def verify(self) -> None:
        """Checks that this lease still holds: the process and its heartbeat may have stood still for long.

        Raises:
            LeaseHeldError: another driver has taken over.
        """
        newest = _newest(self._storage)
        if newest is None or newest[0] != self._generation or newest[1].get("identity") != self._identity:
            self.lost = True
            raise LeaseHeldError(f"{self._storage.root}: another driver has taken this run over")

    def _release(self) -> None:
        """Removes this lease and those that it took over, unless another driver has taken over.

        The oldest goes first: if the process ends in between, its own lease is left, not one of a dead process.
        """
        lease_file = lease_name(self._generation)
        for name in _names(self._storage):
            if name <= lease_file and _read_record(self._storage, lease_file).get("identity") == self._identity:
                self._storage.delete(name)

    def _beats(self, lease: tuple[int, dict[str, Any]]) -> bool:
        """Whether a lease of another host, stale by the clock, changes while it is watched."""
        if _is_on_this_host(lease[1]) or "beat" not in lease[1]:
            return False
        until = time.monotonic() + WATCH_SECONDS
        while time.monotonic() < until:
            time.sleep(min(1.0, WATCH_SECONDS / 10))
            if _newest(self._storage) != lease:
                return True
        return False

    def _record(self) -> bytes:
        return to_json({**_this_process(), "identity": self._identity, "beat": time.time()}).encode()

    def _keep(self) -> None:
        while not self._stop.wait(HEARTBEAT_SECONDS):
            try:
                self.verify()
                self._storage.put(lease_name(self._generation), self._record())
            except LeaseHeldError:
                return
            except OSError:
                continue  # while the storage fails, the heartbeat is late, as it should be


def _names(storage: Storage) -> list[str]:
    """The records, by generation; other files are ignored."""
    return [entry.name for entry in storage.list(LEASES) if re.fullmatch(rf"{LEASES}/\d{{6}}\.json", entry.name)]


def _newest(storage: Storage) -> tuple[int, dict[str, Any]] | None:
    names = _names(storage)
    if not names:
        return None
    newest = names[-1]
    return int(Path(newest).stem), _read_record(storage, newest)


def _read_record(storage: Storage, name: str) -> dict[str, Any]:
    """A record, empty if there is none or it is damaged."""
    try:
        record = json.loads(storage.read(name))
    except (FileNotFoundError, ValueError):  # a storage that does not answer is no reason to take over
        return {}
    is_lease = isinstance(record, dict) and isinstance(record.get("beat", 0), (int, float))
    return record if is_lease else {}


def _is_stale(record: dict[str, Any]) -> bool:
    if _is_on_this_host(record):
        return _started(record.get("pid", 0)) != record.get("started")
    return abs(time.time() - float(record.get("beat", 0))) > STALE_SECONDS


def _is_on_this_host(record: dict[str, Any]) -> bool:
    """Whether a lease was taken on this host, whose processes can be looked up; False if unknown."""
    this_process = _this_process()
    can_ask = this_process["started"] is not None  # by /proc, which not every system has
    return can_ask and all(record.get(field) == this_process[field] for field in _PLACE)


def _this_process() -> dict[str, Any]:
    place = {"host": socket.gethostname(), "boot": _boot(), "space": _space()}
    return {**place, "pid": os.getpid(), "started": _started(os.getpid())}


def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return "unknown"


def _space() -> str:
    """The namespace of process ids: in another one, even of this machine, a number means another process."""
    try:
        return os.readlink("/proc/self/ns/pid")
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
    """The process that works on a run now, or None."""
    newest = _newest(storage)
    if newest is None or _is_stale(newest[1]):
        return None
    return f"process {newest[1].get('pid')} on {newest[1].get('host')}"
