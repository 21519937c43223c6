"""Two palettes: one for signed maps, one for magnitudes. Readers with any colour vision can tell their colours apart.

Between the colours listed here, red, green and blue are interpolated linearly.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# RdBu of ColorBrewer (Harrower, Brewer, 2003), reversed: blue against, white for nothing, red in favour.
DIVERGING = (
    "053061",
    "2166ac",
    "4393c3",
    "92c5de",
    "d1e5f0",
    "f7f7f7",
    "fddbc7",
    "f4a582",
    "d6604d",
    "b2182b",
    "67001f",
)
# magma of van der Walt and Smith (2015), reversed, at every sixteenth: the darker, the more.
SEQUENTIAL = (
    "fcfdbf",
    "fde0a1",
    "fec287",
    "fea571",
    "fb8761",
    "f4695c",
    "e55064",
    "cf4070",
    "b5367a",
    "9b2e7f",
    "812581",
    "681c81",
    "4f127b",
    "341069",
    "1c1044",
    "090720",
    "000004",
)


def coloured(scaled: NDArray[np.floating], signed: bool) -> NDArray[np.float64]:
    """Colours (..., 3) in [0, 1] of values (...) in [-1, 1] where they are signed, else in [0, 1]."""
    places = (np.asarray(scaled, dtype=np.float64) + 1) / 2 if signed else np.asarray(scaled, dtype=np.float64)
    colours = _table(DIVERGING if signed else SEQUENTIAL)
    knots = np.linspace(0, 1, len(colours))
    return np.stack([np.interp(places, knots, channel) for channel in colours.T], axis=-1)


def gradient(palette: tuple[str, ...]) -> str:
    """The palette as the colour stops of a CSS `linear-gradient`."""
    return ", ".join(f"#{colour}" for colour in palette)


def _table(palette: tuple[str, ...]) -> NDArray[np.float64]:
    """(n, 3) in [0, 1]."""
    return np.array([list(bytes.fromhex(colour)) for colour in palette]) / 255
