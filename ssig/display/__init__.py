"""Maps as pictures, with NumPy, SciPy and Pillow, without torch: palettes, overlays, and figures as HTML and PNG."""

from ssig.display.figures import SMALLEST, Displayed, Figure, Panel, Row, save_picture, show, size_for
from ssig.display.overlays import PERCENTILE, SMOOTHING, data_uri, faded, limit_of, overlay, photograph, smoothed_map
from ssig.display.palettes import DIVERGING, SEQUENTIAL, coloured, gradient

__all__ = [
    "DIVERGING",
    "PERCENTILE",
    "SEQUENTIAL",
    "SMALLEST",
    "SMOOTHING",
    "Displayed",
    "Figure",
    "Panel",
    "Row",
    "coloured",
    "data_uri",
    "faded",
    "gradient",
    "limit_of",
    "overlay",
    "photograph",
    "save_picture",
    "show",
    "size_for",
    "smoothed_map",
]
