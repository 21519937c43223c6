"""Takes units out of the parts of compacted tables again: those whose commit was taken back.

A unit without a commit is not done. Its part is written again without it, and the new part takes the place of the old
one in one step, so that the rows of all other units are there once at every instant.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import replace

from pipeline.run.compaction_content import content_hash
from pipeline.run.compaction_parts import UnitTable, stage_part
from pipeline.run.compaction_reading import StoredTables
from pipeline.run.compaction_record import Compaction, Part
from pipeline.run.compaction_switch import discard_staged, settle
from pipeline.run.layout import TABLE_SUFFIX, compaction_name
from pipeline.run.publishing import DamagedTableError
from pipeline.run.records import RefusedError
from pipeline.storage import fault_points
from pipeline.storage.base import Storage


def release(
    storage: Storage,
    compaction: Compaction,
    units: Collection[str],
    anew: Collection[str] = (),
    check: Callable[[], None] = lambda: None,
) -> Compaction:
    """Takes units out of the parts of a table; the table's record afterwards.

    Args:
        storage: the run, whose lease the caller holds.
        compaction: the table's record; its switch is finished.
        units: those to take out; they have no commit.
        anew: parts, by their names in the run, that are written again in any case.
        check: is called right before the record and the table change; it raises if the lease was lost.

    Raises:
        RefusedError: a part is damaged in a unit that stays in it; nothing has changed.
        OSError: the storage fails; the next call begins again.
    """
    gone = set(units)
    affected = [
        part
        for part in compaction.parts
        if compaction.name(part) in anew or any(unit.unit in gone for unit in part.units)
    ]
    if not affected:
        return compaction
    discard_staged(storage, compaction.table)
    stored = StoredTables(storage)
    parts = [part for part in compaction.parts if part not in affected]
    number = compaction.next_part
    for part in affected:
        remaining = _remaining(storage, stored, compaction, part, gone)
        first = next(remaining, None)
        if first is not None:
            parts.append(stage_part(storage, compaction.table, number, _with_first(first, remaining)))
            number += 1
    parts.sort(key=lambda part: part.units[0].unit)
    after = replace(compaction, parts=tuple(parts), next_part=number)
    check()
    record(storage, after)
    settle(storage, after, check)
    return after


def record(storage: Storage, compaction: Compaction) -> None:
    """Stores the record of a table whose parts are staged, in place of the one before."""
    name = compaction_name(compaction.table)
    fault_points.point("before-compaction-record", name)
    if storage.entry(name) is None:
        storage.create(name, compaction.content)
    else:
        storage.put(name, compaction.content)
    fault_points.point("after-compaction-record", name)


def _with_first(first: UnitTable, later: Iterator[UnitTable]) -> Iterator[UnitTable]:
    yield first
    yield from later


def _remaining(
    storage: Storage, stored: StoredTables, compaction: Compaction, part: Part, gone: set[str]
) -> Iterator[UnitTable]:
    """The units that stay in a part."""
    for unit in part.units:
        if unit.unit in gone:
            continue
        try:
            rows = stored.read(f"{compaction.table}/{unit.unit}{TABLE_SUFFIX}")
            is_whole = content_hash(rows) == unit.content
        except (DamagedTableError, FileNotFoundError):
            is_whole = False
        if not is_whole:
            raise RefusedError(
                f"{storage.root}/{compaction.name(part)}: unit {unit.unit} in it is damaged; `ssig audit --repair` "
                "takes it out, and then the command that made the run does it again"
            )
        yield UnitTable(unit.unit, unit.table, rows)
