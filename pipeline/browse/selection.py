"""From a view to SQL: the samples that it shows, in order.

Conditions in SQL see one row per sample, named `sample`: its place and class, what the network said, each column of
the chosen method, and with a second method its columns behind `other_`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.browse.database import Database, QueryError
from pipeline.browse.index import quoted
from pipeline.browse.series import Collection, Series
from pipeline.browse.view import PER_PAGE, View, columns_of

NOT_DONE = "not done"
_OTHER = "other_"
_CHUNK = 2000


@dataclass(frozen=True)
class Selected:
    """A sample of a view.

    Attributes:
        id: in the index.
        value, other, difference: of the column that is sorted by, under the method and the one it is compared with.
    """

    id: int
    shard: str
    index: int
    key: str
    label: int | None
    status: str
    error: str | None
    predicted: int | None
    target: int | None
    probability: float | None
    value: float | None
    other: float | None

    @property
    def difference(self) -> float | None:
        return None if self.value is None or self.other is None else self.value - self.other

    @property
    def right(self) -> bool | None:
        """Whether the network predicts the class of the shard; None where either is unknown."""
        return None if self.predicted is None or self.label is None else self.predicted == self.label


class Selection:
    """The samples of one view.

    Args:
        database: the index.
        collection: the runs.
        view: what is asked for.
    """

    def __init__(self, database: Database, collection: Collection, view: View) -> None:
        self._database, self._view = database, view
        self._series = collection.by_name[view.method]
        self._other = collection.by_name.get(view.versus)
        self._columns = [name for name in columns_of(self._series) if name in self._stored(self._series)]
        self._others = self._stored(self._other) if self._other else []
        self._parameters: dict[str, Any] = {}
        self._where = " AND ".join(["true", *self._conditions()])

    def count(self) -> int:
        """How many samples the view has.

        Raises:
            QueryError: as all queries here, where the view's SQL is refused or fails.
        """
        return int(self._rows("count(*)")[0][0])

    def page(self, number: int, per_page: int = PER_PAGE) -> list[Selected]:
        """The samples of a page, numbered from 1."""
        return self._selected(f"LIMIT {per_page} OFFSET {(number - 1) * per_page}")

    def every(self) -> Iterator[Selected]:
        """All samples; a few thousand are in memory at a time."""
        start = 0
        while chunk := self._selected(f"LIMIT {_CHUNK} OFFSET {start}"):
            yield from chunk
            start += _CHUNK

    def around(self, sample: int) -> tuple[int | None, int | None, int | None]:
        """(place from 1, previous sample, next sample) of a sample in the view; None where there is none."""
        rows = self._database.rows(
            f"SELECT place, before, after FROM (SELECT id, row_number() OVER w AS place, lag(id) OVER w AS before, "
            f"lead(id) OVER w AS after FROM ({self._source()}) AS sample WHERE {self._where} "
            f"WINDOW w AS (ORDER BY {self._order()})) WHERE id = {int(sample)}",
            self._parameters,
        )
        return rows[0] if rows else (None, None, None)

    def _selected(self, limit: str) -> list[Selected]:
        value, other = self._values()
        names = 'id, shard, "index", key, label, status, error, predicted, target, probability'
        rows = self._rows(f"{names}, {value}, {other}", f"ORDER BY {self._order()} {limit}")
        return [Selected(*row) for row in rows]

    def _rows(self, columns: str, rest: str = "") -> list[tuple[Any, ...]]:
        sql = f"SELECT {columns} FROM ({self._source()}) AS sample WHERE {self._where} {rest}"
        return self._database.rows(sql, self._parameters)

    def _source(self) -> str:
        """One row for each sample that the run of the method expects; with a second method, both runs."""
        joins = [f"JOIN manifest_{self._series.run_number} USING (id) LEFT JOIN {self._series.table} AS a USING (id)"]
        extra = [f"a.{quoted(name)}" for name in self._columns if name != "probability"]
        if self._other is not None:
            if self._other.run_number != self._series.run_number:
                joins.append(f"SEMI JOIN manifest_{self._other.run_number} USING (id)")
            joins.append(f"LEFT JOIN {self._other.table} AS b USING (id)")
            extra += [f"b.{quoted(name)} AS {quoted(_OTHER + name)}" for name in self._others]
        about = (
            f'samples.id, samples.shard, samples."index", samples.key, samples.label, '
            f"coalesce(a.status, '{NOT_DONE}') AS status, a.error, a.predicted, a.target, a.probability, "
            'a.predicted = samples.label AS "right"'
        )
        return f"SELECT {', '.join([about, *extra])} FROM samples {' '.join(joins)}"

    def _stored(self, series: Series) -> list[str]:
        """The columns that a series has in the index."""
        columns = columns_of(series)
        return [name for name in self._database.columns(series.table) if name in columns]

    def _values(self) -> tuple[str, str]:
        """What the view is sorted by, under the method and the one that it is compared with."""
        sort = self._view.sort
        value = quoted(sort) if sort in self._columns else "CAST(NULL AS FLOAT)"
        other = quoted(_OTHER + sort) if sort in self._others else "CAST(NULL AS FLOAT)"
        return value, other

    def _order(self) -> str:
        if not self._view.sort:
            return "id"
        value, other = self._values()
        by = f"{value} - {other}" if self._other is not None else value
        by = f"CASE WHEN isnan({by}) THEN NULL ELSE {by} END"
        return f"{by} {self._view.order.upper()} NULLS LAST, id"

    def _conditions(self) -> Iterator[str]:
        view = self._view
        if view.label:
            yield f"list_contains({_numbers(self._series, view.label)}, coalesce(label, target))"
        if view.status:
            yield f"status = {self._given(view.status)}"
        if view.prediction:
            yield '"right"' if view.prediction == "right" else 'NOT "right"'
        for bounds in view.ranges:
            if bounds.column not in self._columns:
                yield "false"
                continue
            if bounds.low is not None:
                yield f"{quoted(bounds.column)} >= {self._given(bounds.low)}"
            if bounds.high is not None:
                yield f"{quoted(bounds.column)} <= {self._given(bounds.high)}"
        if view.sql:
            _check_condition(self._database, view.sql)
            yield f"(\n{view.sql}\n)"

    def _given(self, value: Any) -> str:
        name = f"given_{len(self._parameters)}"
        self._parameters[name] = value
        return f"${name}"


def _numbers(series: Series, text: str) -> str:
    """The classes that a text means, as a SQL list: its number, or all whose name has it in it."""
    if text.isdecimal() and len(text) < 9:
        return f"[{int(text)}]"
    wanted = text.casefold()
    found = [number for number, name in enumerate(series.categories) if wanted in str(name).casefold()]
    return f"CAST([{', '.join(map(str, found))}] AS INTEGER[])"


def _check_condition(database: Database, text: str) -> None:
    """Refuses a text that is no condition by itself, such as one that closes a bracket of ours.

    Raises:
        QueryError: it is none.
    """
    database.check(f"SELECT 1 WHERE (\n{text}\n)")
    if "$" in text and any(part[:1].isalnum() for part in text.split("$")[1:]):
        raise QueryError("No parameters such as $1 are allowed here.")


def statuses(database: Database, series: Sequence[Series]) -> list[str]:
    """Every status that a row of these series has, and what samples without a row are called."""
    parts = " UNION ".join(f"SELECT status FROM {one.table}" for one in series)
    return [*(row[0] for row in database.rows(f"SELECT DISTINCT status FROM ({parts}) ORDER BY 1")), NOT_DONE]
