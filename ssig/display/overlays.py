"""A map over the photograph that it explains."""

from __future__ import annotations

import base64
import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter

from ssig.display.palettes import coloured

# Of |map|: few pixels beyond it keep the strongest colour, so that a single pixel does not make all others pale.
PERCENTILE = 99.5
_QUALITY = 90
# Opacity is |map| to this power. Signed maps are scattered points, which would fade; magnitudes would flood all.
_POWERS = {True: 0.5, False: 0.8}
# The same of smoothed maps, whose points have grown together.
_SMOOTHED_POWERS = {True: 0.8, False: 1.7}
_PALEST = 0.6  # what black becomes
SMOOTHING = 1 / 150  # standard deviation of the Gaussian, as a share of a map's shorter side


def limit_of(values: NDArray[np.floating]) -> float:
    """The magnitude that gets the strongest colour: the 99.5 percentile of |map|, or 1 for a map of zeros."""
    return float(np.percentile(np.abs(values), PERCENTILE)) or 1.0


def smoothed(values: NDArray[np.floating]) -> NDArray[np.float64]:
    """(H, W): a map (H, W) under a Gaussian of `SMOOTHING`, so that scattered points can be seen."""
    result: NDArray[np.float64] = gaussian_filter(np.asarray(values, dtype=np.float64), SMOOTHING * min(values.shape))
    return result


def smoothed_map(values: NDArray[np.floating], signed: bool, size: tuple[int, int]) -> Image.Image:
    """A smoothed map on white: the weaker, the paler. Multiplied with a picture, it colours that.

    Args:
        values: (H, W) map, finite.
        signed: diverging colours, symmetric about 0, instead of sequential ones.
        size: (width, height) of the picture.
    """
    scaled = _scaled(smoothed(values), signed, None)
    blended = _blended(scaled, np.ones(values.shape), signed, _SMOOTHED_POWERS[signed])
    return blended.resize(size, Image.Resampling.NEAREST)


def faded(photograph: Image.Image) -> Image.Image:
    """A photograph in pale grey, for a map to lie on."""
    return photograph.convert("L").point(lambda level: round(255 * _PALEST + (1 - _PALEST) * level))


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
    grey = np.ones(values.shape)
    if photograph is not None:
        grey = np.asarray(faded(photograph.resize(values.shape[::-1])), dtype=np.float64) / 255
    blended = _blended(_scaled(values, signed, limit), grey, signed, _POWERS[signed])
    return blended.resize(size, Image.Resampling.NEAREST)


def _scaled(values: NDArray[np.floating], signed: bool, limit: float | None) -> NDArray[np.floating]:
    scaled: NDArray[np.floating] = values / (limit_of(values) if limit is None else limit)
    return scaled.clip(-1 if signed else 0, 1)


def _blended(scaled: NDArray[np.floating], beneath: NDArray[np.floating], signed: bool, power: float) -> Image.Image:
    """Colours of a map in [-1, 1] over greys (H, W) in [0, 1]; opacity is |map| to a power."""
    opacity = (np.abs(scaled) ** power)[..., None]
    blended = opacity * coloured(scaled, signed) + (1 - opacity) * beneath[..., None]
    return Image.fromarray(np.round(255 * blended).astype(np.uint8))


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


def data_uri(picture: Image.Image, kind: str = "PNG", quality: int = _QUALITY) -> str:
    """The picture in a data URI, as PNG, or as the smaller WEBP of a quality up to 100."""
    target = io.BytesIO()
    picture.save(target, format=kind, **({"optimize": True} if kind == "PNG" else {"quality": quality}))
    return f"data:image/{kind.lower()};base64," + base64.b64encode(target.getvalue()).decode()
