"""The rows of committed tables, with the labels that stand in the path as columns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.run.compaction_reading import StoredTables
from pipeline.run.layout import ATTRIBUTIONS
from pipeline.run.maps import MAPS_WANTED
from pipeline.run.publishing import DamagedTableError
from pipeline.run.records import CommitRecord, RefusedError
from pipeline.run.schema import KEYS, LABELLED
from pipeline.shards.samples import Status
from ssig.errors import UsageError

SOUND = "a run that passes `ssig audit`"


def rows_of(stored: StoredTables, name: str, columns: Sequence[str] | None = None) -> pa.Table:
    """The rows of a table of a run, wherever they lie; of `columns`, those that it has.

    Raises:
        UsageError: they are not there or cannot be read.
    """
    with unreadable(stored.storage.root, name):
        return stored.read(name, columns)


@contextmanager
def unreadable(root: str, name: str) -> Iterator[None]:
    """Turns what reading a table raises into a `UsageError`: for a reader, the run is a wrong argument."""
    try:
        yield
    except OSError as error:
        raise UsageError("run", f"{root}: {name}: {error}", SOUND) from error
    except (DamagedTableError, RefusedError) as error:
        raise UsageError("run", f"{root}: {error}", SOUND) from error


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
