"""The pictures of samples, made when they are asked for; the last ones stay in memory."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
from PIL import Image

from pipeline.browse.database import Database
from pipeline.browse.drawing import map_alone, reference_picture, step_of
from pipeline.browse.series import Collection, Series
from pipeline.report.columns import Source, parsed, sources
from pipeline.report.cropping import Box
from pipeline.report.exhibits import photograph_of
from pipeline.run.layout import ATTRIBUTIONS
from pipeline.run.maps import decode_maps
from pipeline.run.publishing import DamagedTableError
from pipeline.run.stored import manifest_row, stored_row
from pipeline.shards.samples import ManifestRow
from ssig.display import limit_of, overlay
from ssig.errors import SsigError

_SMALLEST = 224  # pixels of the shorter side of pictures; smaller maps are enlarged without smoothing
_KEPT = 64
_AT_ONCE = 4
Made = TypeVar("Made")
PLAYED = {"insertion": "start", "deletion": "fill"}  # metric -> the option that names what it starts from or ends at


class MissingError(SsigError):
    """There is no such picture; the message says why."""


@dataclass(frozen=True)
class Photograph:
    """A photograph as the network saw it, and its boxes as shares of it."""

    picture: Image.Image
    boxes: tuple[Box, ...]


@dataclass(frozen=True)
class Playing:
    """How a metric changes pixels step by step.

    Attributes:
        counts: how many pixels have changed at each point of its curve.
        kind: what stands in for hidden pixels.
        sigma: of its blur, in pixels.
        column: of the curve.
        absolute: whether pixels are ordered by magnitude.
    """

    counts: tuple[int, ...]
    kind: str
    sigma: float
    column: str
    absolute: bool


class Pictures:
    """The pictures of all runs.

    Every method may raise:

    Raises:
        MissingError: there is no such picture.
    """

    def __init__(self, database: Database, collection: Collection) -> None:
        self._database, self._collection = database, collection
        self._kept: OrderedDict[Hashable, Any] = OrderedDict()
        self._lock = threading.Lock()
        self._turns = threading.BoundedSemaphore(_AT_ONCE)  # decoded photographs are large

    def photograph(self, series: Series, sample: int) -> Photograph:
        """The photograph of a sample, cropped as the network of a series sees it."""
        return self._once(("photograph", series.number, sample), lambda: self._photograph(series, sample))

    def values(self, series: Series, sample: int) -> np.ndarray:
        """The (H, W) float32 map of a sample."""
        return self._once(("map", series.number, sample), lambda: self._values(series, sample))

    def has_map(self, series: Series, sample: int) -> bool:
        """Whether a map is expected for a sample, as far as records say; its table is not opened."""
        record = self._record(series.run_number, sample) if series.has_maps else None
        commit = None if record is None else series.commits.of_unit(record["unit"])
        return commit is not None and commit.file(ATTRIBUTIONS) is not None

    def overlay(self, series: Series, sample: int, *, same_scale: bool, alone: bool) -> Image.Image:
        """A map over its photograph, or alone; `same_scale`: scaled as the sample's strongest map in any series."""
        values = self.values(series, sample)
        limit = limit_of(values)
        if same_scale:
            limit = max(limit, self._once(("limit", sample), lambda: self._limit(sample)))
        size = picture_size(series)
        if alone:
            return map_alone(values, limit).resize(size, Image.Resampling.NEAREST)
        try:
            photograph = self.photograph(series, sample).picture
        except MissingError:
            photograph = None
        return overlay(values, photograph, bool((values < 0).any()), size, limit)

    def step(self, series: Series, sample: int, metric: str, step: int) -> Image.Image:
        """A step of insertion or deletion of the pixels of a sample in the order of a map."""
        playing = playing_of(series, metric)
        if playing is None:
            raise MissingError(f"{series.name} has no {metric}")
        values = self.values(series, sample)
        height, width = values.shape
        photograph = self.photograph(series, sample).picture.resize((width, height), Image.Resampling.BILINEAR)
        mean = series.run.config[series.model, series.method].get("model", {}).get("mean", (0.5, 0.5, 0.5))
        other = reference_picture(photograph, playing.kind, mean, playing.sigma)
        count = playing.counts[min(max(step, 0), len(playing.counts) - 1)]
        ordered = np.abs(values) if playing.absolute else values
        picture = step_of(photograph, ordered, other, count, insert=metric == "insertion")
        return picture.resize(picture_size(series), Image.Resampling.NEAREST)

    def expected(self, run_number: int, sample: int) -> ManifestRow | None:
        """The manifest's row of a sample in a run, None where it has none; members are there whatever its status."""
        record = self._record(run_number, sample)
        return None if record is None else manifest_row(record, as_ok=True)

    def curves(self, series: Series, sample: int, columns: Sequence[str]) -> dict[str, list[float]]:
        """The curves of a sample by column, those that it has."""
        row, record = self._row(series, sample, "metrics", columns)
        values = row.to_pylist()[0] if record and row.num_rows else {}
        return {name: values[name] for name in columns if values.get(name)}

    def _once(self, key: Hashable, make: Callable[[], Made]) -> Made:
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                kept: Made = self._kept[key]
                return kept
        with self._turns:
            made = make()
        with self._lock:
            self._kept[key] = made
            while len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        return made

    def _record(self, run_number: int, sample: int) -> Mapping[str, Any] | None:
        records = self._database.records(
            'SELECT unit, shard, "index", key, label, status, error, members '
            f"FROM manifest_{run_number} JOIN samples USING (id) WHERE id = $id",
            {"id": sample},
        )
        return records[0] if records else None

    def _row(
        self, series: Series, sample: int, kind: str, columns: Sequence[str]
    ) -> tuple[pa.Table, Mapping[str, Any] | None]:
        record = self._record(series.run_number, sample)
        commit = None if record is None else series.commits.of_unit(record["unit"])
        name = None if commit is None else commit.file(kind)
        if record is None or name is None:
            return pa.table({}), None
        try:
            return stored_row(series.run, name, record["shard"], record["index"], columns), record
        except (OSError, DamagedTableError) as error:
            raise MissingError(f"{name} cannot be read: {error}") from error

    def _values(self, series: Series, sample: int) -> np.ndarray:
        row, _ = self._row(series, sample, ATTRIBUTIONS, ["map", "map_scale"])
        if row.num_rows != 1 or "map" not in row.column_names or row["map_scale"].null_count:
            raise MissingError("no map stored")
        values: np.ndarray = np.nan_to_num(decode_maps(row)[0])
        return values

    def _limit(self, sample: int) -> float:
        """The largest limit of the maps of a sample."""
        limits = [0.0]
        for series in self._collection.series:
            if series.has_maps:
                try:
                    limits.append(limit_of(self._values(series, sample)))
                except MissingError:
                    continue
        return max(limits)

    def _photograph(self, series: Series, sample: int) -> Photograph:
        record = self._record(series.run_number, sample)
        if record is None:
            raise MissingError("the run does not expect this sample")
        crops = self._database.rows(f"SELECT crop FROM {series.table} WHERE id = $id", {"id": sample})
        shown = photograph_of(series.run, record, crops[0][0] if crops else None, picture_size(series))
        if shown.picture is None:
            raise MissingError(shown.missing)
        return Photograph(shown.picture, shown.boxes)


def picture_size(series: Series) -> tuple[int, int]:
    """(width, height) of the pictures of a series: a whole multiple of its maps, so that pixels stay square."""
    width, height = series.size
    factor = -(-_SMALLEST // min(width, height))
    return width * factor, height * factor


def playing_of(series: Series, metric: str) -> Playing | None:
    """How the run's own insertion or deletion changes pixels; None where the series does not have it."""
    options = sources(series.run, series.model).get(Source(metric))
    if metric not in PLAYED or options is None:
        return None
    parsed_options = parsed(series.run, series.model, Source(metric), options)
    if parsed_options is None or parsed_options[1] is None:
        return None
    settings, (width, height) = parsed_options[1], series.size
    absolute = getattr(settings, "orders", "") == "absolute"
    return Playing(
        counts=tuple(settings.counts(width * height)),
        kind=str(getattr(settings, PLAYED[metric])),
        sigma=float(settings.blur_sigma),
        column=f"{metric}_abs_curve" if absolute else f"{metric}_curve",
        absolute=absolute,
    )
