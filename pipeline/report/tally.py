"""Rows of tables, many at a time, as arrays and counts: no object is made of a single row that has its numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.report.columns import Column, Source
from pipeline.report.running import RunningMeans
from pipeline.shards.samples import Status

_TOGETHER = 8192  # rows: a unit has 64, of which an operation would cost as much


def together(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """The same rows in fewer tables."""
    waiting: list[pa.Table] = []
    rows = 0
    for table in tables:
        waiting.append(table)
        rows += table.num_rows
        if rows >= _TOGETHER:
            yield pa.concat_tables(waiting, promote_options="permissive")
            waiting, rows = [], 0
    if waiting:
        yield pa.concat_tables(waiting, promote_options="permissive")


def floats(column: pa.ChunkedArray) -> np.ndarray:
    """(n,) float32, NaN for null."""
    values: np.ndarray = pc.cast(column, pa.float32(), safe=False).to_numpy()
    return values


def is_ok(table: pa.Table) -> np.ndarray:
    """(n,) bool, the rows of samples that have a map."""
    mask: np.ndarray = pc.equal(table["status"], Status.OK.value).to_numpy()
    return mask


def counted(column: pa.ChunkedArray) -> Counter[str]:
    """How often each text occurs."""
    values, counts = pc.value_counts(column).flatten()
    return Counter(dict(zip(values.to_pylist(), counts.to_pylist(), strict=True)))


class Tally:
    """Collects the numbers of one method from the run's own metrics, or from one evaluation's.

    Args:
        columns: the scalar columns that are there, each with its place.
        write: takes images (n,), the place of a column, and its numbers (n,).
        curves: column of curves -> what collects their mean.

    Attributes:
        excluded: column, by its shown name -> reason -> number of rows.
    """

    def __init__(
        self,
        columns: Sequence[tuple[int, Column]],
        write: Callable[[np.ndarray, int, np.ndarray], None],
        curves: Mapping[str, RunningMeans],
    ) -> None:
        self.excluded: dict[str, Counter[str]] = {}
        self._columns, self._write, self._curves = columns, write, curves
        self._names = {column.stored: column.name for _, column in columns}
        sources = dict.fromkeys(column.source for _, column in columns)
        self._timed = {f"seconds_{source.metric}": source for source in sources}
        self._spent = dict.fromkeys(sources, (0.0, 0))  # seconds, and rows that have them

    @property
    def column_names(self) -> list[str]:
        """The names of the columns to read, the identity and status of rows aside."""
        return [*self._names, *self._timed, *self._curves]

    @property
    def seconds(self) -> dict[Source, float]:
        """Mean seconds of computing per row, of the metrics that have them."""
        return {source: seconds / rows for source, (seconds, rows) in self._spent.items() if rows}

    def add(self, table: pa.Table, where: np.ndarray, ok: np.ndarray | None = None) -> None:
        """Adds a table, whose rows are images `where`; `ok`: (N,) bool, those that have a map."""
        present = set(table.column_names)
        for position, column in self._columns:
            if column.stored in present:
                self._write(where, position, floats(table[column.stored]))
        for name, source in self._timed.items():
            if name in present:
                seconds, rows = self._spent[source]
                spent = floats(table[name])
                finite = spent[np.isfinite(spent)]
                self._spent[source] = seconds + float(finite.sum(dtype=np.float64)), rows + len(finite)
        for name, means in self._curves.items():
            if name in present:
                means.add(table[name])
        measured = is_ok(table)
        self._add_reasons(table["excluded"].filter(pa.array(measured)))
        if ok is not None:
            failed = counted(table["status"].filter(pa.array(ok[where] & ~measured)))
            for status, count in failed.items():
                self.exclude_all(f"sample {status} when evaluated", count)

    def exclude_all(self, reason: str, count: int) -> None:
        """Counts rows that lack the numbers of every column."""
        for name in self._names.values():
            self._counter(name)[reason] += count

    def _add_reasons(self, excluded: pa.ChunkedArray) -> None:
        """Counts column -> reason of rows that have a map."""
        maps = excluded.combine_chunks()
        pairs = pa.table({"column": maps.keys, "reason": maps.items})
        for group in pairs.group_by(["column", "reason"]).aggregate([([], "count_all")]).to_pylist():
            if group["column"] in self._names:
                self._counter(self._names[group["column"]])[group["reason"]] += group["count_all"]

    def _counter(self, name: str) -> Counter[str]:
        return self.excluded.setdefault(name, Counter())
