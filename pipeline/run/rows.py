"""The rows of committed tables, with the labels that stand in the path as columns."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.run.layout import ATTRIBUTIONS
from pipeline.run.maps import MAPS_WANTED
from pipeline.run.publishing import DamagedTableError, read_table
from pipeline.run.records import CommitRecord
from pipeline.run.schema import KEYS, LABELLED
from pipeline.shards.samples import Status
from pipeline.storage.base import Storage
from pipeline.storage.many import in_order
from ssig.errors import UsageError

SOUND = "a run that passes `ssig audit`"
# An object store answers in tens of milliseconds, and a table of numbers is decoded in a few.
READERS = 16
# Bytes of a file that is read by one request; of a larger one, only the wanted columns are.
_WHOLE = 4 * 2**20


def tables_of(
    storage: Storage, files: Iterable[tuple[str, int | None]], columns: Sequence[str] | None, readers: int = READERS
) -> Iterator[pa.Table]:
    """The tables of many files, in their order; `readers` of them are read at a time.

    Args:
        storage: the run.
        files: the name of each, and its size in bytes, None where that is not known.
        columns: as for `table_of`.

    Raises:
        UsageError: a file is not there or cannot be read.
    """
    return in_order(lambda file: table_of(storage, file[0], columns, file[1]), files, readers)


def table_of(storage: Storage, name: str, columns: Sequence[str] | None = None, size: int | None = None) -> pa.Table:
    """A table of a run; of `columns`, those that it has. A file whose `size` in bytes is small is read at once.

    Raises:
        UsageError: the file is not there or cannot be read.
    """
    try:
        if size is not None and size <= _WHOLE:
            return read_table(storage.read(name), name, columns)
        with storage.open(name) as stream:
            return read_table(stream, name, columns)
    except OSError as error:
        raise UsageError("run", f"{storage.root}: {name}: {error}", SOUND) from error
    except DamagedTableError as error:
        raise UsageError("run", f"{storage.root}: {error}", SOUND) from error


def labelled(table: pa.Table, commit: CommitRecord, columns: Sequence[str] | None = None) -> pa.Table:
    """A table of a unit with its labels, where `columns` asks for them; None asks for all."""
    return with_keys(table, commit.model, commit.method, KEYS if columns is None else columns)


def with_keys(table: pa.Table, model: str, method: str, columns: Sequence[str] = KEYS) -> pa.Table:
    """A table with the labels as columns; one of schema 1 has them."""
    for name, value in zip(KEYS, (model, method), strict=True):
        if name in columns and name not in table.column_names:
            indices = pa.array(np.zeros(len(table), dtype=np.int32))
            column = pa.DictionaryArray.from_arrays(indices, pa.array([value], pa.string()))
            table = table.append_column(pa.field(name, LABELLED, nullable=False), column)
    return table


def attributed(table: pa.Table) -> pa.Table:
    """The rows of the samples that have a map."""
    return table.filter(pc.equal(table["status"], Status.OK.value))


def maps_file(root: str, commit: CommitRecord) -> str:
    """The attributions of a committed unit.

    Raises:
        UsageError: it has none.
    """
    name = commit.file(ATTRIBUTIONS)
    if name is None:
        raise UsageError("output.maps", f"no attributions of unit {commit.unit} in {root}", MAPS_WANTED)
    return name
