"""A map over the photograph that it explains."""

from __future__ import annotations

import base64
import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ssig.display.palettes import coloured

# Of |map|: few pixels beyond it keep the strongest colour, so that a single pixel does not make all others pale.
PERCENTILE = 99.5
_QUALITY = 90
# Opacity is |map| to this power. Signed maps are scattered points, which would fade; magnitudes would flood all.
_POWERS = {True: 0.5, False: 0.8}


def limit_of(values: NDArray[np.floating]) -> float:
    """The magnitude that gets the strongest colour: the 99.5 percentile of |map|, or 1 for a map of zeros."""
    return float(np.percentile(np.abs(values), PERCENTILE)) or 1.0


def overlay(
    values: NDArray[np.floating],
    photograph: Image.Image | None,
    signed: bool,
    size: tuple[int, int],
    limit: float | None = None,
) -> Image.Image:
    """A map over the faded grey photograph: the stronger, the more opaque.

    Args:
        values: (H, W) map, finite.
        photograph: what lies beneath, or None for white.
        signed: diverging colours, symmetric about 0, instead of sequential ones.
        size: (width, height) of the picture.
        limit: the magnitude that gets the strongest colour; by default `limit_of` the map.
    """
    scaled = np.clip(values / (limit_of(values) if limit is None else limit), -1 if signed else 0, 1)
    grey = np.ones(values.shape)
    if photograph is not None:
        grey = np.asarray(photograph.convert("L").resize(values.shape[::-1]), dtype=np.float64) / 255
    opacity = (np.abs(scaled) ** _POWERS[signed])[..., None]
    blended = opacity * coloured(scaled, signed) + (1 - opacity) * (0.6 + 0.4 * grey)[..., None]
    return Image.fromarray(np.round(255 * blended).astype(np.uint8)).resize(size, Image.Resampling.NEAREST)


def photograph(image: NDArray[np.floating], size: tuple[int, int]) -> Image.Image:
    """An image (C, H, W) as a picture of `size` (width, height).

    Three channels are red, green and blue; of any other number the mean is shown in grey. Values in [0, 1] are shown
    as they are; others are stretched from the least to the largest.
    """
    pixels = np.asarray(image, dtype=np.float64)
    low, high = float(pixels.min()), float(pixels.max())
    if low < 0 or high > 1:
        pixels = (pixels - low) / ((high - low) or 1.0)
    pixels = pixels if len(pixels) == 3 else np.repeat(pixels.mean(axis=0, keepdims=True), 3, axis=0)
    picture = Image.fromarray(np.round(255 * pixels).astype(np.uint8).transpose(1, 2, 0))
    return picture if picture.size == size else picture.resize(size, Image.Resampling.NEAREST)


def data_uri(picture: Image.Image, kind: str = "PNG") -> str:
    """The picture in a data URI, as PNG, or as the smaller WEBP."""
    target = io.BytesIO()
    picture.save(target, format=kind, **({"optimize": True} if kind == "PNG" else {"quality": _QUALITY}))
    return f"data:image/{kind.lower()};base64," + base64.b64encode(target.getvalue()).decode()
