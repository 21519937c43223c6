"""What all figures share: fonts and greys, axes placed in points, and labels that do not overlap.

Figures are plain matplotlib figures in the light scheme, so they can be saved as PDF or SVG. `pipeline.report.svg`
turns them into elements of the page.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import Affine2D, Transform

WIDTH = 360.0  # points; the page shows one point as about one pixel on a telephone
INK, SOFT, FAINT, RULE = "#1f1f1d", "#63635f", "#a9a9a3", "#deded9"  # text, lesser text, lines, grids
TITLE, TEXT, SMALL = 12.0, 10.5, 9.5  # sizes of text, in points
STYLE: Any = {
    "svg.fonttype": "none",  # text stays text, in the page's own typeface
    "svg.hashsalt": "ssig",
    "pdf.fonttype": 42,
    "font.family": "sans-serif",
    "font.size": TEXT,
    "text.color": INK,
    "text.parse_math": False,  # names and options come from users
    "axes.edgecolor": "#8a8a86",
    "axes.labelcolor": SOFT,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "xtick.labelsize": SMALL,
    "ytick.labelsize": SMALL,
    "axes.labelsize": SMALL,
    "axes.linewidth": 0.8,
}
_LONGEST = 18  # letters of a name beside a line


@contextmanager
def styled() -> Iterator[None]:
    """The settings under which figures are drawn and saved."""
    with mpl.rc_context(STYLE), warnings.catch_warnings():
        # Text is shown in the reader's typeface, which may have what matplotlib's own lacks.
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        yield


def panel(height: float, margins: tuple[float, float, float, float], title: str) -> tuple[Figure, Axes]:
    """A figure of `WIDTH` x `height` points with one pair of axes and a title.

    Args:
        height: in points.
        margins: left, right, top and bottom, in points.
        title: at the left above the axes.
    """
    left, right, top, bottom = margins
    figure = Figure(figsize=(WIDTH / 72, height / 72))
    axes = figure.add_axes(
        (left / WIDTH, bottom / height, (WIDTH - left - right) / WIDTH, (height - top - bottom) / height)
    )
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_axisbelow(True)
    axes.tick_params(length=3, width=0.8)
    figure.text(0, height - TITLE, printable(title), size=TITLE, weight="bold", transform=points_of(figure))
    return figure, axes


def points_of(figure: Figure) -> Transform:
    """The transform from points, from the lower left corner of a figure."""
    return Affine2D().scale(1 / 72) + figure.dpi_scale_trans


def printable(text: str) -> str:
    """A text without the characters that no SVG may hold."""
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)


def shortened(name: str, longest: int = _LONGEST) -> str:
    """A printable name that fits beside a line."""
    shown = printable(name)
    return shown if len(shown) <= longest else shown[: longest - 1] + "…"


def spaced(wanted: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Places at least `gap` apart, in the order of `wanted`, as near to these as can be.

    Args:
        wanted: ascending.
        gap: between neighbours.
        low, high: where the places should lie; they begin at `low` where there is no room for all.
    """
    # Without their gaps the places need only ascend: the pool-adjacent-violators algorithm.
    pools: list[tuple[float, int]] = []
    for position, place in enumerate(wanted):
        mean, size = place - position * gap, 1
        while pools and pools[-1][0] > mean:
            former, count = pools.pop()
            mean, size = (former * count + mean * size) / (count + size), size + count
        pools.append((mean, size))
    last = high - (len(wanted) - 1) * gap
    bases = [max(low, min(mean, last)) for mean, size in pools for _ in range(size)]
    return [base + position * gap for position, base in enumerate(bases)]


Box = tuple[float, float, float, float]  # left, bottom, right, top


def beside(
    points: Sequence[tuple[float, float]], sizes: Sequence[tuple[float, float]], bars: Sequence[Box], bounds: Box
) -> list[Box]:
    """A place for the label of each point, as near to it as can be without touching a label, a point or a bar.

    Args:
        points: (x, y) of each.
        sizes: (width, height) of the label of each.
        bars: what else is drawn.
        bounds: where the labels must lie.
    """
    marks = [(x - 4, y - 4, x + 4, y + 4) for x, y in points]
    placed: list[Box] = []
    for point, (width, height) in zip(points, sizes, strict=True):
        candidates = [
            (middle - width / 2, level - height / 2, middle + width / 2, level + height / 2)
            for distance in range(6, 70, 4)
            for across, up in _DIRECTIONS
            for middle in (point[0] + across * (distance + width / 2),)
            for level in (point[1] + up * (distance + height / 2),)
        ]
        inside = [box for box in candidates if _within(box, bounds)] or candidates
        placed.append(min(inside, key=lambda box: _crowding(box, point, (placed, marks, bars))))
    return placed


_DIRECTIONS = ((1, 0), (1, 0.7), (1, -0.7), (-1, 0), (-1, 0.7), (-1, -0.7), (0, 1), (0, -1))


def _crowding(box: Box, point: tuple[float, float], drawn: Sequence[Sequence[Box]]) -> float:
    """How bad a place is: by the labels, points and bars that it touches, in this order, and its way to its point."""
    nearest = (min(max(place, low), high) for place, low, high in zip(point, box[:2], box[2:], strict=True))
    touched = zip((1000, 200, 15), drawn, strict=True)
    return math.dist(tuple(nearest), point) + sum(
        weight * sum(_touch(box, other) for other in others) for weight, others in touched
    )


def _touch(box: Box, other: Box) -> bool:
    return box[0] < other[2] and other[0] < box[2] and box[1] < other[3] and other[1] < box[3]


def _within(box: Box, bounds: Box) -> bool:
    return box[0] >= bounds[0] and box[1] >= bounds[1] and box[2] <= bounds[2] and box[3] <= bounds[3]
