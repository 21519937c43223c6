"""The stored map and the photograph of single samples, read when they are asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from pipeline.report.cropping import Box, cropped, cropped_box
from pipeline.run.layout import ATTRIBUTIONS
from pipeline.run.maps import decode_maps
from pipeline.run.reader import Run
from pipeline.run.stored import manifest_row, sample_of, stored_row

_ABOUT = ("label", "predicted", "target", "probability", "status", "crop")


@dataclass(frozen=True)
class StoredMap:
    """What is stored of a sample under a model and method.

    Attributes:
        values: (H, W) float32; None where no map is stored.
        about: its classes, status and crop; empty where it is not done.
    """

    values: np.ndarray | None
    about: Mapping[str, Any]


class StoredMaps:
    """The stored maps of a model and method, a row group at a time."""

    def __init__(self, run: Run, model: str, method: str) -> None:
        self._run = run
        self._commits = run.committed(model, method)

    def read(self, expected: Mapping[str, Any]) -> StoredMap:
        """The map of a sample.

        Args:
            expected: its row of the manifest.

        Raises:
            OSError, DamagedTableError: the file cannot be read.
        """
        commit = self._commits.of_unit(expected["unit"])
        name = None if commit is None else commit.file(ATTRIBUTIONS)
        if name is None:
            return StoredMap(None, {})
        wanted = [*_ABOUT, "map", "map_scale"]
        row = stored_row(self._run, name, expected["shard"], expected["index"], wanted)
        if row.num_rows != 1:
            return StoredMap(None, {})
        (about,) = row.select([column for column in _ABOUT if column in row.column_names]).to_pylist()
        has_map = "map" in row.column_names and row["map_scale"].null_count == 0
        return StoredMap(np.nan_to_num(decode_maps(row)[0]) if has_map else None, about)


@dataclass(frozen=True)
class Photograph:
    """A photograph as the network saw it.

    Attributes:
        picture: None where it cannot be had; `missing` then says why.
        boxes: the parts of its boxes that the network saw, as shares of the picture.
    """

    picture: Image.Image | None
    missing: str = ""
    boxes: tuple[Box, ...] = ()


def photograph_of(
    run: Run, expected: Mapping[str, Any], crop: Sequence[float] | None, size: tuple[int, int]
) -> Photograph:
    """The photograph of a sample, in `size` (width, height).

    Args:
        expected: its row of the manifest.
        crop: the part that the network saw, in pixels of the original image; None for all of it, without boxes.
    """
    try:
        sample = sample_of(run, manifest_row(expected, as_ok=True))
    except (OSError, ValueError) as error:
        return Photograph(None, f"the shard cannot be read: {error}")
    if sample.image is None:
        return Photograph(None, str(sample.error))
    boxes = () if crop is None else tuple(cropped_box(box, crop) for box in sample.boxes or ())
    visible = tuple(box for box in boxes if box[2] > 0 and box[3] > 0)
    return Photograph(cropped(sample.image, crop, size), boxes=visible)
