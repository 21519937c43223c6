"""What the two pages show, as data for their templates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined

from pipeline.browse import view as views
from pipeline.browse.database import Database, QueryError
from pipeline.browse.pictures import PLAYED, MissingError, Pictures, playing_of
from pipeline.browse.selection import Selected, Selection, statuses
from pipeline.browse.series import Collection, Series
from pipeline.browse.view import PER_PAGE, View, columns_of
from pipeline.report import numbers
from pipeline.shards.samples import Status

_THUMBNAIL = 160


@dataclass(frozen=True)
class Tile:
    """The map of one series of a sample; `picture` is its address, None with the reason where there is none."""

    series: Series
    status: str
    picture: str | None
    missing: str
    numbers: dict[str, float | None]


@dataclass(frozen=True)
class Line:
    """A curve in a plot 300 wide and 160 high."""

    series: Series
    points: str


@dataclass(frozen=True)
class Plot:
    """The curves of one metric of a sample."""

    metric: str
    lowest: float
    highest: float
    lines: list[Line]


@dataclass(frozen=True)
class Player:
    """Insertion or deletion under the chosen method, step by step."""

    metric: str
    address: str
    steps: int
    scores: list[float]


class Pages:
    """Makes the pages.

    Args:
        database: the index.
        collection: the runs.
        pictures: of their samples.
    """

    def __init__(self, database: Database, collection: Collection, pictures: Pictures) -> None:
        self._database, self._collection, self._pictures = database, collection, pictures
        self._statuses = statuses(database, collection.series)
        names = {str(name) for series in collection.series for name in series.categories}
        self._classes = sorted(names)
        self._environment = Environment(
            loader=PackageLoader("pipeline.browse"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._environment.filters |= {
            "number": numbers.number,
            "signed": numbers.signed,
            "integer": numbers.integer,
        }
        self._environment.globals |= {
            "collection": collection,
            "predictions": views.PREDICTIONS,
            "orders": views.ORDERS,
            "scales": views.SCALES,
            "layers": views.LAYERS,
            "per_page": PER_PAGE,
            "columns_of": columns_of,
            "sample_address": sample_address,
            "picture_address": picture_address,
            "thumbnail": _THUMBNAIL,
            "ok": Status.OK.value,
        }

    def grid(self, view: View) -> str:
        """The page of samples."""
        problems, selected, count = list(view.problems), list[Selected](), 0
        try:
            selection = Selection(self._database, self._collection, view)
            count = selection.count()
            selected = selection.page(view.page)
        except QueryError as error:
            if not view.sql:
                raise
            problems.append(f"SQL: {error}")
        series = self._collection.by_name[view.method]
        return self._environment.get_template("grid.html").render(
            view=view,
            series=series,
            other=self._collection.by_name.get(view.versus),
            problems=problems,
            selected=selected,
            count=count,
            pages=max(1, -(-count // PER_PAGE)),
            statuses=self._statuses,
            classes=self._classes,
        )

    def sample(self, view: View, shard: str, index: int) -> str | None:
        """The page of one sample; None where there is no such sample."""
        rows = self._database.records(
            'SELECT * FROM samples WHERE shard = $shard AND "index" = $index ORDER BY id LIMIT 1',
            {"shard": shard, "index": index},
        )
        if not rows:
            return None
        sample, problems = rows[0], list(view.problems)
        series = self._collection.by_name[view.method]
        place, before, after = None, None, None
        count = 0
        try:
            selection = Selection(self._database, self._collection, view)
            place, before, after = selection.around(sample["id"])
            count = selection.count()
        except QueryError as error:
            problems.append(f"SQL: {error}")
        row = self._numbers(series, sample["id"])
        tiles = [self._tile(view, one, sample["id"]) for one in self._collection.series]
        try:
            boxes: Sequence[Any] = self._pictures.photograph(series, sample["id"]).boxes
            missing = ""
        except MissingError as error:
            boxes, missing = (), str(error)
        curves = {one.number: self._curves(one, sample["id"]) for one in self._collection.series}
        return self._environment.get_template("sample.html").render(
            view=view,
            series=series,
            sample=sample,
            row=row,
            tiles=tiles,
            boxes=boxes if view.boxes == "on" else (),
            has_boxes=bool(boxes),
            missing=missing,
            table=self._table(tiles),
            plots=[plot for metric in PLAYED if (plot := self._plot(metric, curves)) is not None],
            players=self._players(series, sample["id"], curves[series.number]),
            neighbours=self._addresses(view, before, after),
            place=place,
            count=count,
            problems=problems,
        )

    def _numbers(self, series: Series, sample: int) -> dict[str, Any]:
        """The row of a sample in a series; empty where it has none."""
        rows = self._database.records(f"SELECT * FROM {series.table} WHERE id = $id", {"id": sample})
        return rows[0] if rows else {}

    def _tile(self, view: View, series: Series, sample: int) -> Tile:
        row = self._numbers(series, sample)
        status = str(row.get("status") or "not done")
        address = picture_address("map", series, sample, scale=view.scale, layer=view.layer)
        missing = "" if self._pictures.has_map(series, sample) else "no map stored"
        if status != Status.OK:
            missing = f"{status}: {row.get('error') or 'no map'}"
        shown = {name: row.get(name) for name in columns_of(series) if name in row}
        return Tile(series, status, None if missing else address, missing, shown)

    def _table(self, tiles: Sequence[Tile]) -> list[tuple[str, list[float | None]]]:
        """Column -> its number in each series, of the columns in which one has a number."""
        names = dict.fromkeys(name for tile in tiles for name in tile.numbers)
        rows = [(name, [_finite(tile.numbers.get(name)) for tile in tiles]) for name in names]
        return [(name, values) for name, values in rows if any(value is not None for value in values)]

    def _curves(self, series: Series, sample: int) -> dict[str, tuple[list[float], list[float]]]:
        """Metric -> (fractions of pixels changed, scores) of a sample."""
        playings = {metric: playing for metric in PLAYED if (playing := playing_of(series, metric)) is not None}
        try:
            stored = self._pictures.curves(series, sample, [playing.column for playing in playings.values()])
        except MissingError:
            return {}
        curves = {}
        for metric, playing in playings.items():
            scores = stored.get(playing.column)
            if scores and np.isfinite(np.array(scores, dtype=float)).all():
                complete = len(playing.counts) == len(scores)
                fractions = [count / playing.counts[-1] for count in playing.counts] if complete else None
                curves[metric] = (fractions or np.linspace(0, 1, len(scores)).tolist(), list(scores))
        return curves

    def _plot(self, metric: str, curves: dict[int, dict[str, tuple[list[float], list[float]]]]) -> Plot | None:
        drawn = {number: found[metric] for number, found in curves.items() if metric in found}
        if not drawn:
            return None
        every = [score for _, scores in drawn.values() for score in scores]
        lowest, highest = min(0.0, *every), max(1.0, *every)
        lines = [
            Line(
                self._collection.series[number],
                " ".join(
                    f"{300 * x:.1f},{160 - 160 * (y - lowest) / (highest - lowest):.1f}"
                    for x, y in zip(fractions, scores, strict=True)
                ),
            )
            for number, (fractions, scores) in drawn.items()
        ]
        return Plot(metric, lowest, highest, lines)

    def _players(
        self, series: Series, sample: int, curves: dict[str, tuple[list[float], list[float]]]
    ) -> list[Player]:
        players = []
        try:
            self._pictures.photograph(series, sample)
        except MissingError:
            return []
        if not self._pictures.has_map(series, sample):
            return []
        for metric in PLAYED:
            playing = playing_of(series, metric)
            if playing is not None:
                scores = curves.get(metric, ([], []))[1]
                shown = scores if len(scores) == len(playing.counts) else []
                address = picture_address("step", series, sample, metric=metric)
                players.append(Player(metric, address, len(playing.counts) - 1, shown))
        return players

    def _addresses(self, view: View, *samples: int | None) -> list[str | None]:
        """The addresses of the pages of samples by id."""
        wanted = [sample for sample in samples if sample is not None]
        found = self._database.rows(
            'SELECT id, shard, "index" FROM samples WHERE list_contains($wanted, id)', {"wanted": wanted}
        )
        places = {row[0]: (row[1], row[2]) for row in found}
        return [None if sample is None else sample_address(view, *places[sample]) for sample in samples]


def sample_address(view: View, shard: str, index: int) -> str:
    """The address of the page of a sample, within a view."""
    return f"/sample?{urlencode({'shard': shard, 'index': index})}&{view.stay()}"


def picture_address(kind: str, series: Series, sample: int, **more: str | int) -> str:
    """The address of a picture; it changes when the run does, so that a browser may keep it."""
    about = {"series": series.number, "sample": sample, **more, "of": series.run.digest[:12]}
    return f"/{kind}?{urlencode(about)}"


def _finite(value: float | None) -> float | None:
    return value if value is not None and np.isfinite(value) else None
