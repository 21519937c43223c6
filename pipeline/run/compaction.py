"""Compaction: the many small tables of finished labels become few large ones.

    parts staged in compactions/  ->  record  ->  switch of the table's folder  ->  what was staged is removed

A part is written whole and proved against the unit files before anything is recorded (`compaction_parts`). The record
decides where the rows of a unit lie (`compaction_record`, `compaction_reading`). The switch follows from the record
(`compaction_switch`), so whatever is cut off is finished by `settle_all`, which every driver calls when it begins.
Commits stay as they are: they say what is done, and whose bytes a part replaced.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace

import pyarrow as pa

from pipeline.run.compaction_content import content_hash
from pipeline.run.compaction_parts import UnitTable, stage_part
from pipeline.run.compaction_plan import PartPlan, Source, TablePlan, plan_tables
from pipeline.run.compaction_reading import StoredTables
from pipeline.run.compaction_record import Compaction, Part
from pipeline.run.compaction_release import record, release
from pipeline.run.compaction_switch import discard_staged, settle
from pipeline.run.compactions import Compactions
from pipeline.run.directory import RunDirectory
from pipeline.run.forms import COMPACTED, has_form, name_form
from pipeline.run.labels import Label
from pipeline.run.layout import STAGED, table_folder
from pipeline.run.lease import Lease
from pipeline.run.publishing import DamagedTableError, check_table, identity_of, read_table
from pipeline.storage import fault_points
from pipeline.storage.many import in_order

WORKERS = min(4, os.cpu_count() or 1)  # parts that are made at a time
# Bytes of parts that are staged at a time, so that a large run needs little room beside itself.
ROUND_BYTES = 8 << 30
_AHEAD_BYTES = 64 << 20  # of unit files that are read ahead for one part
_MOST_AHEAD = 16


@dataclass(frozen=True)
class Compacted:
    """A table that was compacted.

    Attributes:
        table: its folder in the run.
        files: how many it had.
        parts: how many it has now.
        rows, bytes: of the parts that were made.
    """

    table: str
    files: int
    parts: int
    rows: int
    bytes: int


@dataclass(frozen=True)
class CompactionResult:
    """What a compaction did, or would do.

    Attributes:
        run: the run.
        tables: those that it compacted.
        skipped: title of a label, or table -> why it stays as it is.
        failed: table -> why it could not be compacted; it stays as it is.
        settled: tables whose compaction had been cut off before and is finished now.
    """

    run: str
    tables: list[Compacted] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    settled: list[str] = field(default_factory=list)


def is_pending(directory: RunDirectory) -> bool:
    """Whether a compaction of the run was cut off, or a unit of it awaits to be taken out of its part.

    Raises:
        RefusedError: the record of a compacted table is damaged.
        OSError: the storage does not answer.
    """
    compactions = Compactions(directory.storage)
    return bool(compactions.leftovers()) or any(
        _uncommitted(directory, label, compaction) for label, compaction in _compacted(directory, compactions)
    )


def settle_all(directory: RunDirectory, lease: Lease) -> list[str]:
    """Finishes what was cut off, and takes units without a commit out of their parts; the tables concerned.

    Raises:
        RefusedError: the record of a compacted table is damaged, or a part is.
        LeaseHeldError: another driver has taken the run over.
        OSError: the storage does not answer.
    """
    return [*settle_switches(directory, lease), *release_uncommitted(directory, lease)]


def settle_switches(directory: RunDirectory, lease: Lease) -> list[str]:
    """Finishes compactions that were cut off; the tables concerned. It raises what `settle_all` does."""
    storage = directory.storage
    compactions = Compactions(storage)
    settled = []
    if compactions.leftovers():
        lease.verify()
        for table in sorted({*compactions.tables(), *_staged_tables(compactions)}):
            compaction = compactions.of(table)
            if compaction is None:
                discard_staged(storage, table)
            elif settle(storage, compaction, lease.verify):
                settled.append(table)
    return settled


def release_uncommitted(directory: RunDirectory, lease: Lease | None = None, anew: Collection[str] = ()) -> list[str]:
    """Takes units without a commit out of the parts of compacted tables; the tables concerned.

    Args:
        directory: the run; commits were taken back, and nothing is cut off.
        lease: of the run; it is looked at before each table.
        anew: parts, by their names in the run, that are written again in any case.

    It raises what `settle_all` does.
    """
    released = []
    for label, compaction in _compacted(directory, Compactions(directory.storage)):
        gone = _uncommitted(directory, label, compaction)
        if gone or any(compaction.name(part) in anew for part in compaction.parts):
            check = _nothing if lease is None else lease.verify
            check()
            release(directory.storage, compaction, gone, anew, check)
            released.append(compaction.table)
    return released


def compact(
    directory: RunDirectory,
    lease: Lease,
    *,
    maps: bool = True,
    more_than: int = 1,
    begin: Callable[[], None] = lambda: None,
) -> CompactionResult:
    """Compacts the tables of all finished labels of a run.

    Args:
        directory: the run; it is refreshed.
        lease: of the run, so that no driver writes meanwhile.
        maps: whether attributions are compacted too.
        more_than: only labels with more units than this.
        begin: is called if there is something to compact.

    Raises:
        RefusedError: a record of the run is damaged.
        LeaseHeldError: another driver has taken the run over.
        OSError: the storage fails; the same call goes on later.
    """
    directory.refuse_earlier()
    directory.refresh()
    settled = settle_all(directory, lease)
    plans, skipped = plan_tables(directory, maps=maps, more_than=more_than)
    result = CompactionResult(directory.root, skipped=skipped, settled=settled)
    if plans:
        begin()
        _announce(directory, lease)
        work = _Work(directory, lease, plans)
        try:
            for batch in rounds(plans):
                work.do(batch)
        except OSError:
            with suppress(OSError):  # the disk may be full of what is staged
                settle_switches(directory, lease)
            raise
        result.tables.extend(work.done())
        result.failed.update(work.failed)
    directory.refresh()
    return result


def planned(directory: RunDirectory, *, maps: bool = True, more_than: int = 1) -> CompactionResult:
    """What `compact` would do; writes nothing."""
    directory.refuse_earlier()
    plans, skipped = plan_tables(directory, maps=maps, more_than=more_than)
    tables = [
        Compacted(
            plan.table,
            plan.files,
            len(plan.kept) + len(plan.parts),
            sum(source.rows for part in plan.parts for source in part.sources),
            sum(part.bytes for part in plan.parts),
        )
        for plan in plans
    ]
    return CompactionResult(directory.root, tables, skipped)


def rounds(plans: Sequence[TablePlan]) -> Iterator[list[tuple[TablePlan, PartPlan]]]:
    """Parts that are staged together: about `ROUND_BYTES`, and all of a table whose parts are written anew."""
    waiting: list[tuple[TablePlan, PartPlan]] = []
    size = 0
    for plan in plans:
        for group in [plan.parts] if plan.is_anew else [[part] for part in plan.parts]:
            amount = sum(part.bytes for part in group)
            if waiting and size + amount > ROUND_BYTES:
                yield waiting
                waiting, size = [], 0
            waiting += [(plan, part) for part in group]
            size += amount
    if waiting:
        yield waiting


class _Work:
    """The tables that are being compacted, with the records that they have by now."""

    def __init__(self, directory: RunDirectory, lease: Lease, plans: Sequence[TablePlan]) -> None:
        self._directory, self._lease, self._plans = directory, lease, plans
        self._storage = directory.storage
        self._stored = StoredTables(self._storage)
        self._records = {plan.table: plan.compaction for plan in plans}
        self._made: dict[str, list[Part]] = {plan.table: [] for plan in plans}
        self.failed: dict[str, str] = {}
        self._manifest_lock = threading.Lock()
        self._stopped = threading.Event()

    def do(self, batch: Sequence[tuple[TablePlan, PartPlan]]) -> None:
        """Stages parts, many at a time, and then switches their tables one after another."""
        plans = {plan.table: plan for plan, _ in batch}
        staged: dict[str, list[Part]] = {}
        with ThreadPoolExecutor(WORKERS) as pool:
            try:
                for (plan, _), part in zip(batch, pool.map(self._stage, batch), strict=True):
                    if isinstance(part, str):
                        self.failed[plan.table] = part
                    elif part is not None:
                        staged.setdefault(plan.table, []).append(part)
            except BaseException:  # the other threads are to end soon
                self._stopped.set()
                raise
        for plan in plans.values():
            if plan.table in self.failed:
                discard_staged(self._storage, plan.table)
            else:
                self._switch(plan, staged[plan.table])

    def done(self) -> list[Compacted]:
        """What became of the tables."""
        return [
            Compacted(
                plan.table,
                plan.files,
                len(self._records[plan.table].parts),
                sum(part.rows for part in made),
                sum(part.bytes for part in made),
            )
            for plan in self._plans
            if (made := self._made[plan.table])
        ]

    def _switch(self, plan: TablePlan, parts: Sequence[Part]) -> None:
        before = self._records[plan.table]
        kept = () if plan.is_anew else before.parts
        together = sorted((*kept, *parts), key=lambda part: part.units[0].unit)
        after = replace(before, parts=tuple(together), next_part=plan.next_part)
        self._lease.verify()  # this process may have stood still
        record(self._storage, after)
        settle(self._storage, after, self._lease.verify)
        self._records[plan.table] = after
        self._made[plan.table] += parts

    def _stage(self, work: tuple[TablePlan, PartPlan]) -> Part | str | None:
        """A staged part; what is wrong with a unit of it; or None where another part of its table failed."""
        plan, part = work
        if plan.table in self.failed:
            return None
        try:
            return stage_part(self._storage, plan.table, part.number, self._tables(part.sources))
        except (DamagedTableError, FileNotFoundError) as error:
            return f"{error}; `ssig audit {self._storage.root}` says more"

    def _tables(self, sources: Sequence[Source]) -> Iterator[UnitTable]:
        """The rows of units, in order; unit files are read ahead, many at a time."""
        largest = max(source.bytes for source in sources)
        ahead = max(2, min(_MOST_AHEAD, _AHEAD_BYTES // max(1, largest)))
        for source, loose in zip(sources, in_order(self._loose, sources, ahead, 1), strict=True):
            if self._stopped.is_set():
                raise InterruptedError("another part could not be written")
            rows = loose if loose is not None else self._from_part(source)
            with self._manifest_lock:
                expected = self._directory.manifest.rows(source.unit)
            check_table(rows, rows.schema, expected, source.name)
            yield UnitTable(source.unit, source.sha256, rows)

    def _loose(self, source: Source) -> pa.Table | None:
        """The rows of a unit in a file of its own, which must be the committed one; None where a part holds them."""
        if source.content is not None:
            return None
        data = self._storage.read(source.name)
        if identity_of(data)["sha256"] != source.sha256:
            raise DamagedTableError(f"{source.name}: its bytes are not the committed ones")
        return read_table(data, source.name)

    def _from_part(self, source: Source) -> pa.Table:
        rows = self._stored.read(source.name)
        if content_hash(rows) != source.content:
            raise DamagedTableError(f"{source.name}: its rows in a part are not what the part's record says")
        return rows


def _announce(directory: RunDirectory, lease: Lease) -> None:
    """Has `run.json` say that readers must know compacted tables, before there is one."""
    document = directory.opened()
    if not has_form(document, COMPACTED):
        fault_points.point("before-layout", directory.root)
        lease.verify()
        name_form(directory.storage, document, COMPACTED)
        fault_points.point("after-layout", directory.root)
        directory.refresh()


def _compacted(directory: RunDirectory, compactions: Compactions) -> Iterator[tuple[Label, Compaction]]:
    """The compacted tables of labels whose configuration is there, with their records."""
    recorded = set(compactions.tables())
    if not recorded:
        return
    for label in (*directory.labels, *directory.evaluations):
        for kind in label.tables:
            table = table_folder(kind, label.model, label.method)
            if table in recorded and (compaction := compactions.of(table)) is not None:
                yield label, compaction


def _uncommitted(directory: RunDirectory, label: Label, compaction: Compaction) -> set[str]:
    """The units in parts of a table that no commit calls done."""
    return set(compaction.units) - directory.sources(label).keys()


def _nothing() -> None:
    pass


def _staged_tables(compactions: Compactions) -> set[str]:
    """The tables that leftovers of a compaction belong to."""
    tables = set()
    for name in compactions.leftovers():
        _, area, path = name.split("/", 2)
        folder = path.rpartition("/")[0]
        tables.add(folder if area == STAGED else folder.rpartition("/")[0])
    return tables
