"""Records of units that failed, in the quarantine folder and the log of a run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from pipeline.driver.schedule import Order, Work
from pipeline.run.layout import given_up_name, poison_name
from pipeline.run.log import RunLog
from pipeline.shards.samples import ManifestRow
from pipeline.storage.base import Storage
from pipeline.storage.jsontext import to_json


class Outcomes:
    """Records samples and units that cannot be done.

    Args:
        storage: the run.
        rows_of: unit -> its samples.
        log: of the run.
        tell: tells a person.
    """

    def __init__(
        self,
        storage: Storage,
        rows_of: Callable[[str], Sequence[ManifestRow]],
        log: RunLog,
        tell: Callable[[str], None],
    ) -> None:
        self._storage = storage
        self._rows_of = rows_of
        self._log = log
        self._tell = tell

    def quarantined(self, work: Work, position: int) -> None:
        """Records a sample that was found to kill, break or hold up its worker, by its position in the unit."""
        row = self._rows_of(work.unit)[position]
        record = {
            "shard": row.shard,
            "kind": "poison",
            "key": row.key,
            "offset": row.members[0].offset if row.members else None,
            "reason": work.poison[position].reason,
            "attempts": work.failures,
        }
        self._log.write("sample quarantined", **record)
        self._record(poison_name(work.unit, row.index), record)

    def given_up(self, order: Order, why: str) -> None:
        """Records a unit that stays undone; the summary says so too."""
        work = order.work
        record = {
            "shard": self._rows_of(work.unit)[0].shard,
            "kind": "exhausted",
            "key": None,
            "offset": None,
            "reason": f"unit {work.unit}: {why}",
            "attempts": work.failures,
        }
        self._log.write("unit given up", **record)
        self._record(given_up_name(work.unit), record)

    def _record(self, name: str, record: Mapping[str, object]) -> None:
        """Stores a record; if the storage fails, tells a person what it says."""
        try:
            self._storage.put(name, to_json(record).encode())
        except OSError as error:
            self._tell(f"{name} could not be written: {error}; it says {record['reason']}")
