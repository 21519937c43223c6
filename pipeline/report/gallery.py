"""Photographs with their maps: the best, the median and the worst image of the reference method under one metric.

The photograph is read from its shard, through the manifest, and cropped as the network saw it. The page holds it once
in colour and once in pale grey. Each map lies on white, and is multiplied with the grey where both are shown.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.report.exhibits import Photograph, StoredMaps, photograph_of
from pipeline.report.measurements import Measurements
from pipeline.run.reader import Run
from ssig.display import SMALLEST, data_uri, faded, size_for, smoothed_map

QUALITY = 80  # of WebP
THUMBNAILS = 5  # maps on the first screen
_UNKNOWN = Photograph(None, "the run does not say where the photograph is")
RANKED_BY = ("insertion_deletion_gap", "insertion", "roc_auc")


@dataclass(frozen=True)
class Tile:
    """One method's map of an image on white, as a data URI; None with the reason where there is no map."""

    method: str
    value: float | None
    picture: str | None
    signed: bool
    missing: str = ""


@dataclass(frozen=True)
class Exhibit:
    """One image of the gallery.

    Attributes:
        rank: ``best``, ``median`` or ``worst``.
        photograph: as the network sees it, as a data URI; None with the reason in `missing`.
        backdrop: the same in pale grey.
        size: (width, height) of its pictures.
        boxes: (x, y, width, height) in its pictures.
        tiles: one for each method, in order.
    """

    rank: str
    shard: str
    index: int
    key: str
    label: str
    predicted: str
    target: str
    probability: float | None
    photograph: str | None
    backdrop: str | None
    missing: str
    size: tuple[int, int]
    boxes: tuple[tuple[float, float, float, float], ...]
    tiles: tuple[Tile, ...]

    @property
    def columns(self) -> int:
        """How many of its pictures stand side by side, so that no picture is alone in the last row if that can be."""
        pictures = 1 + len(self.tiles)
        return next((columns for columns in (4, 3) if pictures % columns != 1), 4)


@dataclass(frozen=True)
class Gallery:
    """The exhibits, and the column that ranked them."""

    column: str
    exhibits: tuple[Exhibit, ...]

    @property
    def typical(self) -> Exhibit:
        """The median image, or the only one."""
        return next((item for item in self.exhibits if item.rank == "median"), self.exhibits[0])

    def shown(self, controls: Sequence[str]) -> list[tuple[int, Tile]]:
        """The maps of the typical image that the first screen shows, with their numbers from 1; controls go last."""
        tiles = [(number, tile) for number, tile in enumerate(self.typical.tiles, 1) if tile.picture]
        return sorted(tiles, key=lambda pair: pair[1].method in controls)[:THUMBNAILS]


def gallery(run: Run, measurements: Measurements) -> Gallery | None:
    """Best, median and worst image of the reference method; None where no column can rank them."""
    names = [column.name for column in measurements.columns]
    reference = measurements.methods.index(measurements.reference)
    for name in RANKED_BY:
        if name in names and measurements.values.present[reference, names.index(name)]:
            column = names.index(name)
            values = measurements.values
            chosen = _chosen(values.of_method(reference, column) * measurements.columns[column].sign)
            numbers = values.images(column, [image for _, image in chosen])
            return Gallery(
                name,
                tuple(
                    _exhibit(run, measurements, of_image, image, rank)
                    for (rank, image), of_image in zip(chosen, numbers, strict=True)
                ),
            )
    return None


def _chosen(goodness: np.ndarray) -> list[tuple[str, int]]:
    order = np.argsort(-np.where(np.isfinite(goodness), goodness, -np.inf), kind="stable")
    order = order[: np.isfinite(goodness).sum()]
    picked: dict[int, str] = {}
    for rank, image in (("best", order[0]), ("worst", order[-1]), ("median", order[len(order) // 2])):
        picked.setdefault(int(image), rank)
    return sorted(((rank, image) for image, rank in picked.items()), key=lambda pair: "bmw".index(pair[0][0]))


def _exhibit(run: Run, measurements: Measurements, numbers: np.ndarray, image: int, rank: str) -> Exhibit:
    expected = run.expected.row(image)
    stored = [StoredMaps(run, measurements.model, method).read(expected) for method in measurements.methods]
    row: Mapping[str, Any] = next((each.about for each in stored if each.about), {})
    config = run.config[measurements.model, measurements.reference]
    size = size_for(config.get("model", {}).get("input_size", (SMALLEST, SMALLEST)))
    photograph = _UNKNOWN if row.get("crop") is None else photograph_of(run, expected, row["crop"], size)
    picture = photograph.picture
    categories = config.get("categories", [])
    return Exhibit(
        rank=rank,
        shard=expected["shard"],
        index=expected["index"],
        key=expected["key"],
        label=_name(categories, row.get("label")),
        predicted=_name(categories, row.get("predicted")),
        target=_name(categories, row.get("target")),
        probability=row.get("probability"),
        photograph=None if picture is None else data_uri(picture, "WEBP", QUALITY),
        backdrop=None if picture is None else data_uri(faded(picture), "WEBP", QUALITY),
        missing=photograph.missing,
        size=size,
        boxes=tuple(
            (size[0] * x, size[1] * y, size[0] * width, size[1] * height) for x, y, width, height in photograph.boxes
        ),
        tiles=tuple(
            _tile(method, float(value), each.values, size)
            for method, value, each in zip(measurements.methods, numbers, stored, strict=True)
        ),
    )


def _tile(method: str, value: float, values: np.ndarray | None, size: tuple[int, int]) -> Tile:
    number = value if np.isfinite(value) else None
    if values is None:
        return Tile(method, number, None, False, "no map stored")
    signed = bool((values < 0).any())
    return Tile(method, number, data_uri(smoothed_map(values, signed, size), "WEBP", QUALITY), signed)


def _name(categories: list[str], number: int | None) -> str:
    if number is None:
        return "unknown"
    return categories[number] if 0 <= number < len(categories) else f"class {number}"
