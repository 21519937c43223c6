"""The part of a photograph, and of the boxes in it, that the network sees."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image

Box = tuple[float, float, float, float]


def cropped(picture: Image.Image, crop: Sequence[float] | None, size: tuple[int, int]) -> Image.Image:
    """The part of a picture that the network sees, in `size` (width, height); all of it, fitted, without a crop."""
    if crop is None:
        fitted = picture.copy()
        fitted.thumbnail(size)
        return fitted
    bounds = (*picture.size, *picture.size)
    x0, y0, x1, y1 = (min(max(value, 0.0), float(bound)) for value, bound in zip(crop, bounds, strict=True))
    return picture.resize(size, Image.Resampling.BICUBIC, box=(x0, y0, x1, y1))


def cropped_box(box: Sequence[float], crop: Sequence[float]) -> Box:
    """(x, y, width, height) of the part of a box inside the crop, as shares of the crop in [0, 1]."""
    left, top, right, bottom = crop
    x0, x1 = ((min(max(x, left), right) - left) / (right - left) for x in (box[0], box[2]))
    y0, y1 = ((min(max(y, top), bottom) - top) / (bottom - top) for y in (box[1], box[3]))
    return x0, y0, x1 - x0, y1 - y0
