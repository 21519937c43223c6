"""Brings the folder of a table into the state that its record says: parts in, the unit files that they replace out.

What the folder should hold follows from the record and from what lies there. So the same step that makes a switch
finishes one that was cut off, and a second time it does nothing.

On a disk the new content is collected in a second folder as hard links, and then the two folders swap their names: at
every instant a reader sees the one or the other. In an object store the unit files are deleted first and then the
parts are copied into place: a reader may see rows missing for a while, and never twice. `ssig.open_run` misses none in
either: it reads the parts where they are staged.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Mapping

from pipeline.run.compaction_record import Compaction
from pipeline.run.layout import TABLE_SUFFIX, exchange_folder, former_folder, is_part, staged_folder
from pipeline.storage import fault_points
from pipeline.storage.base import Storage
from pipeline.storage.local import LocalStorage
from pipeline.storage.many import in_order


def settle(storage: Storage, compaction: Compaction, check: Callable[[], None] = lambda: None) -> bool:
    """Finishes the switch of a table; whether there was anything to do.

    Files that are neither a part nor a unit of the record stay where they are.

    Args:
        storage: the run, whose lease the caller holds.
        compaction: the table's record.
        check: is called right before anything changes; it raises if the lease was lost.

    Raises:
        OSError: the storage does not do it; the switch goes on when this is called again.
    """
    table = compaction.table
    if isinstance(storage, LocalStorage):
        storage.recover(table, former_folder(table))
    present, staged = _files(storage, table), _files(storage, staged_folder(table))
    wanted = _wanted(compaction, present, staged)
    switched = set(wanted) != set(present)
    if switched and isinstance(storage, LocalStorage):
        # A folder of this call alone: a driver that stood still in this place finds its own one gone.
        folder = f"{exchange_folder(table)}/{uuid.uuid4().hex[:12]}"
        storage.make_folder(folder)
        for file, source in wanted.items():
            storage.copy(source, f"{folder}/{file}")
        fault_points.point("before-exchange", table)
        check()
        storage.exchange(table, folder, former_folder(table))
        fault_points.point("after-exchange", table)
    elif switched:
        check()
        _delete(storage, [name for file, name in present.items() if file not in wanted])
        fault_points.point("after-unit-files", table)
        for file, source in wanted.items():
            if file not in present:
                storage.copy(source, f"{table}/{file}")
    fault_points.point("after-switch", table)
    if isinstance(storage, LocalStorage):
        switched |= _clear_exchanged(storage, compaction)
    _delete(storage, staged.values())
    if isinstance(storage, LocalStorage):
        storage.remove_folder(staged_folder(table))
    return switched or bool(staged)


def discard_staged(storage: Storage, table: str) -> None:
    """Removes what is staged for a table whose record does not name it: a compaction was cut off before its record."""
    _delete(storage, _files(storage, staged_folder(table)).values())
    if isinstance(storage, LocalStorage):
        storage.remove_folder(staged_folder(table))


def unit_of(file: str) -> str:
    """The unit that a file is named after; of a part, nothing that is a unit."""
    return file.rpartition("/")[2].removesuffix(TABLE_SUFFIX)


def _files(storage: Storage, folder: str) -> dict[str, str]:
    """File name -> name in the run, of the files in a folder."""
    return {entry.name.removeprefix(f"{folder}/"): entry.name for entry in storage.list(folder)}


def _wanted(compaction: Compaction, present: Mapping[str, str], staged: Mapping[str, str]) -> dict[str, str]:
    """What the table's folder should hold: file name -> the file that is to be there under this name."""
    wanted = {}
    replaced: set[str] = set()
    for part in compaction.parts:
        source = present.get(part.name) or staged.get(part.name)
        if source is not None:  # a part that is lost replaces nothing
            wanted[part.name] = source
            replaced.update(unit.unit for unit in part.units)
    for file, name in present.items():
        if not is_part(file) and unit_of(file) not in replaced:
            wanted[file] = name
    return wanted


def _clear_exchanged(storage: LocalStorage, compaction: Compaction) -> bool:
    """Empties the folders that were exchanged with that of a table; whether they held anything.

    They hold links to files of the table, or what it held before. Of the latter, only what the record replaces goes;
    anything else is put back.
    """
    table, area = compaction.table, exchange_folder(compaction.table)
    recorded = {part.name for part in compaction.parts}
    files = _files(storage, area)
    for path, name in files.items():
        file = path.rpartition("/")[2]
        is_replaced = file not in recorded if is_part(file) else unit_of(file) in compaction.units
        if not is_replaced and storage.entry(f"{table}/{file}") is None:
            storage.copy(name, f"{table}/{file}")
        storage.delete(name)
    for folder in {name.rpartition("/")[0] for name in files.values()}:
        storage.remove_folder(folder)
    return bool(files)


def _delete(storage: Storage, names: Iterable[str]) -> None:
    """Removes files, many at a time."""
    for _ in in_order(storage.delete, names):
        pass
