"""Lists the samples of a run's shards while its first units are already being done.

    shard -> survey -> part in the run -> its units, minus those that are done -> the schedule

Shards are surveyed many at a time, on the cluster or by threads of this process, and taken in order. One thread takes
them: it stores the part of each, and its faults, before any unit of it is handed out. At the end it seals the
manifest. A driver that was killed meanwhile goes on behind the last part.
"""

from __future__ import annotations

import math
import queue
import threading
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import asdict, replace
from typing import Any

from pipeline.driver.executor import RunError
from pipeline.driver.schedule import Work
from pipeline.run.directory import RunDirectory
from pipeline.run.labels import Label
from pipeline.run.layout import shard_fault_name
from pipeline.run.lease import Lease
from pipeline.run.manifest_parts import GrowingManifest, part_name, publish_part, read_parts, remove_parts, seal
from pipeline.shards.manifest import Manifest, assemble
from pipeline.shards.samples import Unit
from pipeline.shards.survey import QuarantineRecord, ShardRecord, Survey
from pipeline.shards.surveying import at_once, look_up, survey_all
from pipeline.storage.base import Storage
from pipeline.storage.jsontext import to_json

# Surveys shards, in order.
Surveys = Callable[[Sequence[ShardRecord]], Generator[Survey, None, None]]
_MOST_NOTES = 3
# How long the shard that is being taken in may take when the command ends; the thread ends with the process.
STOP_SECONDS = 10.0


def by_threads(shards: Sequence[ShardRecord]) -> Generator[Survey, None, None]:
    """Surveys shards by threads of this process, in order."""
    return survey_all(shards, at_once([shard.url for shard in shards]))


class Listing:
    """The shards of a run that are not listed yet.

    Args:
        directory: the run, with the parts that are there.
        labels: under which the units are to be done.
        lease: of the run, held; None where nobody else can be at work on it.
        tell: tells a person something.
        trusted: whether shards of equal size are taken for those that were recorded.

    Attributes:
        manifest: the rows of the units that are known.
    """

    def __init__(
        self,
        directory: RunDirectory,
        labels: Sequence[Label] = (),
        lease: Lease | None = None,
        tell: Callable[[str], None] = lambda note: None,
        *,
        trusted: bool = False,
    ) -> None:
        self._storage: Storage = directory.storage
        record, listed = directory.required_record(), directory.manifest
        self._unit_size, self._limit = record.unit_size, record.dataset.limit
        self._shards = directory.shards
        self._next, self._samples = len(listed.shards), len(listed)
        self._known_faults, self._faults = listed.quarantine, 0
        self._is_done = directory.done
        self._labels = list(labels)
        self._lease, self._tell, self._trusted = lease, tell, trusted
        self._notes = 0
        self._found: queue.SimpleQueue[list[Work] | BaseException] = queue.SimpleQueue()
        self._stopping, self._ended = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None
        self._is_over = False
        self.manifest = GrowingManifest(self._storage, self._shards)
        for label in self._labels:  # read here, on the thread that the directory belongs to
            self._is_done("", label)

    @property
    def listed(self) -> tuple[int, int] | None:
        """Shards listed so far, and how many there are; None where all units have been taken."""
        return None if self._is_over else (self._next, len(self._shards))

    @property
    def is_over(self) -> bool:
        """Whether all units that there will be have been taken."""
        return self._is_over

    def start(self, surveys: Surveys) -> None:
        """Lists the shards from now on, in a thread of its own."""
        self._thread = threading.Thread(target=self._run, args=(surveys,), name="listing", daemon=True)
        self._thread.start()

    def wait(self, seconds: float) -> None:
        """Waits until all shards are listed, or for so many seconds."""
        self._ended.wait(seconds)

    def take(self) -> list[Work]:
        """The units that were found since the last call.

        Raises:
            Exception: what listing raised.
        """
        ended = self._ended.is_set()
        works: list[Work] = []
        while not self._found.empty():
            found = self._found.get()
            if isinstance(found, BaseException):
                self._is_over = True
                raise found
            works += found
        self._is_over = ended
        return works

    def stop(self) -> None:
        """Ends the listing after the shard that is being taken in."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(STOP_SECONDS)

    def run(self, surveys: Surveys = by_threads) -> Manifest:
        """Lists all shards now, and seals the manifest.

        Raises:
            UsageError: no shard has a readable sample.
            OSError: a storage does not answer, or a shard is another now.
        """
        for _ in self._listed(surveys):
            pass
        return self._seal()

    def _run(self, surveys: Surveys) -> None:
        try:
            with closing(self._listed(surveys)) as found:
                for works in found:
                    self._found.put(works)
                    if self._stopping.is_set():
                        return
            manifest = self._seal()
            if self._lease is not None:  # this process may have stood still meanwhile
                self._lease.verify()
            self.manifest.sealed = manifest
            remove_parts(self._storage)
        except BaseException as error:  # it is raised where the units are taken
            self._found.put(error)
        finally:
            self._ended.set()

    def _listed(self, surveys: Surveys) -> Generator[list[Work], None, None]:
        """Takes shards in until all are listed, or the limit is reached; the units of each."""
        self._record_faults(self._known_faults)  # a driver may have been killed between a part and its faults
        while self._next < len(self._shards) and not self._is_full():
            part = self._shards[self._next :][: self._needed()]
            with closing(surveys(look_up([shard.url for shard in part]) if self._trusted else part)) as found:
                for survey in found:
                    yield self._taken(survey)
                    if self._is_full():
                        return

    def _is_full(self) -> bool:
        return self._limit is not None and self._samples >= self._limit

    def _needed(self) -> int:
        """How many more shards a limit needs, if they are as large as those that are listed."""
        if self._limit is None:
            return len(self._shards)
        mean = max(1.0, self._samples / max(1, self._next))
        return math.ceil((self._limit - self._samples) / mean)

    def _taken(self, survey: Survey) -> list[Work]:
        """Stores what was found in the next shard; its units that are not done."""
        ordinal = self._next
        record = replace(survey.record, version=self._shards[ordinal].version)
        publish_part(self._storage, ordinal, replace(survey, record=record))
        self._record_faults(survey.quarantine)
        if survey.note is not None:
            self._notes += 1
            if self._notes <= _MOST_NOTES:
                self._tell(survey.note)
            elif self._notes == _MOST_NOTES + 1:
                self._tell("and so on: further indexes are passed over in silence")
        count = survey.samples.num_rows
        count = count if self._limit is None else min(count, self._limit - self._samples)
        self._next, self._samples = ordinal + 1, self._samples + count
        works = []
        for start in range(0, count, self._unit_size):
            unit = Unit(ordinal, "", start, min(start + self._unit_size, count))
            methods = tuple(label.method for label in self._labels if not self._is_done(unit.id, label))
            if methods:
                works.append(Work(unit.id, methods, unit.stop - unit.start))
        return works

    def _record_faults(self, faults: Sequence[QuarantineRecord]) -> None:
        for fault in faults:
            record: dict[str, Any] = {**asdict(fault), "attempts": 1}
            self._storage.put(shard_fault_name(self._faults), to_json(record).encode())
            self._faults += 1

    def _seal(self) -> Manifest:
        """The whole manifest, stored and sealed.

        Raises:
            LeaseHeldError: another driver has taken the run over.
            RunError: a part is gone.
        """
        if self._lease is not None:
            self._lease.verify()
        needed = self._shards[: self._next]
        manifest = assemble(read_parts(self._storage, needed), self._unit_size, self._limit)
        if len(manifest.shards) < len(needed):
            name = part_name(len(manifest.shards))
            raise RunError(f"{self._storage.root}/{name}: gone or damaged; type the same command to list it again")
        seal(self._storage, manifest)
        return manifest


def what_is_left(
    directory: RunDirectory,
    labels: Sequence[Label],
    lease: Lease,
    tell: Callable[[str], None],
    *,
    trusted: bool = False,
) -> Listing | None:
    """What is left to be listed of a run, with the arguments of `Listing`; None where its manifest is sealed."""
    if not directory.is_sealed:
        return Listing(directory, labels, lease, tell, trusted=trusted)
    remove_parts(directory.storage)  # which a driver may have left that was killed behind the seal
    return None


def list_all(directory: RunDirectory) -> Manifest:
    """Lists all shards of a run now, and seals its manifest."""
    manifest = Listing(directory).run()
    remove_parts(directory.storage)
    directory.keep(manifest)
    return manifest
