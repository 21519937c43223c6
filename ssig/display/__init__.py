"""Maps as pictures, with NumPy and Pillow alone: palettes, overlays, and figures as HTML and PNG."""

from ssig.display.figures import SMALLEST, Displayed, Figure, Panel, Row, save_picture, show, size_for
from ssig.display.overlays import PERCENTILE, data_uri, limit_of, overlay, photograph
from ssig.display.palettes import DIVERGING, SEQUENTIAL, coloured, gradient

__all__ = [
    "DIVERGING",
    "PERCENTILE",
    "SEQUENTIAL",
    "SMALLEST",
    "Displayed",
    "Figure",
    "Panel",
    "Row",
    "coloured",
    "data_uri",
    "gradient",
    "limit_of",
    "overlay",
    "photograph",
    "save_picture",
    "show",
    "size_for",
]
