"""The log of a run as it grows: what its driver and actors do, read without Ray.

Only what was added since the last look is read. At the first look that is the end of each log.
"""

from __future__ import annotations

import json
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import PurePosixPath
from typing import Any

from pipeline.run.layout import LOGS
from pipeline.run.log import UNDER_WAY
from pipeline.storage.base import Entry, Storage

# Of each file of a log, so much of its end is read at the first look; of the segments of a log, so many.
FIRST_BYTES, FIRST_SEGMENTS = 2**20, 20
# Units of an actor are counted over so many seconds.
WINDOW_SECONDS = 600.0


@dataclass
class FollowedActor:
    """An actor that is ready.

    Attributes:
        where: its machine and device.
        under_way: maps that it has computed and not committed.
        in_flight: units that it has.
    """

    where: str = ""
    under_way: float = 0.0
    in_flight: int = 0


@dataclass
class FollowedDriver:
    """A start of a driver, as its log tells.

    Attributes:
        attempt: its id.
        last: when it wrote a line last, in seconds since 1970.
        has_ended: whether it said that it ends.
        state: the fields of its last line that says what is under way.
        actors: name -> actor that is ready.
        failures: units that failed, by kind, in what was read.
        done: times and actors of the last units.
    """

    attempt: str
    last: float = 0.0
    has_ended: bool = False
    state: dict[str, Any] = field(default_factory=dict)
    actors: dict[str, FollowedActor] = field(default_factory=dict)
    failures: Counter[str] = field(default_factory=Counter)
    done: deque[tuple[float, str]] = field(default_factory=deque)

    def take(self, line: dict[str, Any]) -> None:
        """Takes in a line."""
        event, actor = line.get("event"), str(line.get("actor", ""))
        self.last = max(self.last, _seconds(line.get("time")))
        self.has_ended = event == "ended"
        if event == "actor ready":
            device = line.get("gpu") or f"{line.get('device', '')} of {line.get('host', '')}"
            self.actors[actor] = FollowedActor(where=str(device))
        elif event in ("actor lost", "actor left"):
            self.actors.pop(actor, None)
        elif event == "unit failed":
            self.failures[str(line.get("kind"))] += 1
        elif event in ("unit done", "unit mapped"):
            self.done.append((self.last, actor))
        elif event == UNDER_WAY:
            self.state = line
            for name, (maps, in_flight) in dict(line.get("actors", {})).items():
                found = self.actors.setdefault(name, FollowedActor())
                found.under_way, found.in_flight = float(maps), int(in_flight)
        while self.done and self.done[0][0] < self.last - WINDOW_SECONDS:
            self.done.popleft()

    @property
    def units(self) -> Counter[str]:
        """Units that each actor has done, or made the maps of, in the last `WINDOW_SECONDS` before its last line."""
        return Counter(actor for _, actor in self.done)


class FollowedLog:
    """The logs of a run.

    Args:
        storage: the run.
    """

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._read: dict[str, int] = {}  # name -> bytes that were read
        self._drivers: dict[str, FollowedDriver] = {}
        self._is_first = True

    def look(self) -> FollowedDriver | None:
        """The driver that wrote last, with what was added since; None where there is no log."""
        entries = list(self._storage.list(LOGS))
        if self._is_first:
            self._skip_segments(entries)
        for entry in entries:
            attempt = PurePosixPath(entry.name).name.partition(".")[0].partition("-")[0]
            driver = self._drivers.setdefault(attempt, FollowedDriver(attempt))
            for line in self._added(entry):
                driver.take(line)
        self._is_first = False
        return max(self._drivers.values(), key=lambda driver: driver.last, default=None)

    def _skip_segments(self, entries: list[Entry]) -> None:
        """Leaves out all but the last segments of each log."""
        by_attempt: dict[str, list[Entry]] = {}
        for entry in entries:
            by_attempt.setdefault(entry.name.partition("-")[0], []).append(entry)
        for segments in by_attempt.values():
            self._read.update({entry.name: entry.size for entry in segments[:-FIRST_SEGMENTS]})

    def _added(self, entry: Entry) -> Iterator[dict[str, Any]]:
        """The whole lines that were added to a file."""
        start = self._read.get(entry.name, max(0, entry.size - FIRST_BYTES))
        if entry.size <= start:
            return
        text = self._storage.read_range(entry.name, start, entry.size - start)
        end = text.rfind(b"\n") + 1  # the rest is a line that is being written
        self._read[entry.name] = start + end
        for line in text[:end].splitlines():
            try:
                found = json.loads(line)
            except ValueError:  # the end of a line whose beginning was not read
                continue
            if isinstance(found, dict):
                yield found


def _seconds(time: object) -> float:
    """Seconds since 1970 of a time in ISO 8601; 0 where it is none."""
    try:
        return datetime.fromisoformat(str(time)).timestamp()
    except ValueError:
        return 0.0
