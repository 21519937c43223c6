"""Pictures: a photograph as the network saw it, its map in colour, and the steps of insertion and deletion."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageFilter

from ssig.display import coloured


def map_alone(values: np.ndarray, limit: float) -> Image.Image:
    """A map (H, W) in colour without its photograph; diverging colours if a value is negative.

    Args:
        limit: the magnitude of the strongest colour.
    """
    colours = coloured(np.clip(values / limit, -1, 1), bool((values < 0).any()))
    return Image.fromarray(np.round(255 * colours).astype(np.uint8))


def step_of(
    photograph: Image.Image, values: np.ndarray, other: Image.Image, count: int, *, insert: bool
) -> Image.Image:
    """A step of insertion or deletion.

    Args:
        photograph: of the size of the map.
        values: (H, W), what orders the pixels: the largest change first.
        other: what insertion starts from or deletion ends at, of the same size.
        count: how many pixels have changed.
        insert: whether pixels of the photograph come in, or go out.
    """
    order = np.argsort(-values, axis=None, kind="stable")
    changed = np.zeros(values.size, dtype=bool)
    changed[order[:count]] = True
    shown = changed.reshape(*values.shape, 1) == insert
    return Image.fromarray(np.where(shown, np.asarray(photograph), np.asarray(other)))


def reference_picture(photograph: Image.Image, kind: str, mean: Sequence[float], sigma: float) -> Image.Image:
    """What stands in for hidden pixels, as a metric's option names it: ``blur``, ``mean``, ``black``, …

    Args:
        photograph: RGB.
        mean: the network's mean colour in [0, 1].
        sigma: of ``blur``, in pixels.
    """
    if kind in ("blur", "rise-blur"):
        return photograph.filter(ImageFilter.GaussianBlur(sigma if kind == "blur" else 5.0))
    if kind == "mean":
        red, green, blue = (round(255 * value) for value in mean)
        colour = (red, green, blue)
    else:
        value = {"white": 255, "minimum": int(np.asarray(photograph).min())}.get(kind, 0)
        colour = (value, value, value)
    return Image.new("RGB", photograph.size, colour)


def encoded(picture: Image.Image, side: int | None = None, *, lossless: bool = False) -> bytes:
    """The picture as WebP, its longer side at most `side` pixels."""
    if side is not None and max(picture.size) > side:
        picture = picture.copy()
        picture.thumbnail((side, side), Image.Resampling.BILINEAR)
    target = io.BytesIO()
    picture.convert("RGB").save(target, format="WEBP", quality=85, method=2, lossless=lossless)
    return target.getvalue()
