"""What the study's figures share: panels in a grid, matrices of numbers, and points with intervals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from jobs.study.inference import Estimate
from pipeline.report.drawing import INK, RULE, SMALL, SOFT
from pipeline.report.styles import LineStyle

DIVERGING = "RdBu"
DIGITS = 4  # of the numbers that figures are drawn from
_POINTS = 72


def grid(rows: int, columns: int, width: float, height: float) -> tuple[Figure, list[list[Axes]]]:
    """A figure of rows x columns panels, each of width x height points."""
    figure = Figure(figsize=(columns * width / _POINTS, rows * height / _POINTS), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    for each in axes.flat:
        each.spines[["top", "right"]].set_visible(False)
    return figure, [list(row) for row in axes]


def tiles(count: int, columns: int, width: float, height: float) -> tuple[Figure, list[Axes]]:
    """A figure of so many panels, each of width x height points, a few in a row, so that a page shows it as it is."""
    figure, axes = grid(-(-count // columns), min(count, columns), width, height)
    flat = [panel for row in axes for panel in row]
    for panel in flat[count:]:
        panel.remove()
    return figure, flat[:count]


def matrix(axes: Axes, values: np.ndarray, marks: np.ndarray, limit: float, title: str) -> AxesImage:
    """Numbers (rows, columns) as colours from -limit to limit; a dot where `marks` is not 0."""
    drawn = axes.imshow(values, cmap=DIVERGING, vmin=-limit, vmax=limit, aspect="auto")
    for row, column in np.argwhere(marks != 0):
        colour = "#ffffff" if abs(values[row, column]) > limit * 0.6 else INK
        axes.plot(column, row, marker="o", markersize=2.2, color=colour)
    axes.set_title(title, loc="left", fontsize=SMALL)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    return drawn


def names(axes: Axes, rows: Sequence[str], columns: Sequence[str]) -> None:
    """The names of a matrix's rows and columns; no rows for none."""
    axes.set_xticks(range(len(columns)), columns, rotation=90)
    axes.set_yticks(range(len(rows)) if rows else [], rows)


def line(axes: Axes, across: Sequence[float], estimates: Sequence[Estimate], style: LineStyle, label: str) -> None:
    """Means joined by a line, with a band for the intervals."""
    means = [each.mean for each in estimates]
    axes.fill_between(
        across,
        [each.low for each in estimates],
        [each.high for each in estimates],
        color=style.colour,
        alpha=0.12,
        linewidth=0,
    )
    axes.plot(
        across, means, color=style.colour, linestyle=style.dash, marker=style.marker, markersize=3.5, label=label
    )


def ruled(axes: Axes, title: str, across: str, up: str) -> None:
    """Titles, and a grid of horizontal lines."""
    axes.set_title(title, loc="left", fontsize=SMALL)
    axes.set_xlabel(across)
    axes.set_ylabel(up)
    axes.grid(axis="y", color=RULE, linewidth=0.6)
    axes.set_axisbelow(True)


def zero(axes: Axes) -> None:
    """The line of no difference."""
    axes.axhline(0, color=SOFT, linewidth=0.8)


def legend(figure: Figure, axes: Axes, columns: int = 5) -> None:
    """One legend below all panels, of one of them, with fewer columns where the figure is narrow."""
    handles, labels = axes.get_legend_handles_labels()
    for count in range(columns, 0, -1):
        drawn = figure.legend(handles, labels, loc="outside lower center", ncols=count, frameon=False, fontsize=SMALL)
        figure.draw_without_rendering()
        if count == 1 or drawn.get_window_extent().width <= figure.bbox.width:
            return
        drawn.remove()


def numbers_of(figure: Figure) -> list[dict[str, Any]]:
    """What each panel of a figure is drawn from: its title, its lines and its matrices, rounded."""
    found = []
    for axes in figure.axes:
        lines = [
            {"label": str(each.get_label()), "x": _rounded(each.get_xdata()), "y": _rounded(each.get_ydata())}
            for each in axes.lines
        ]
        matrices = [_rounded(image.get_array()) for image in axes.images]
        found.append({"title": axes.get_title(loc="left"), "lines": lines, "matrices": matrices})
    return found


def _rounded(values: Any) -> list[Any]:
    """Numbers to `DIGITS` places; None for what is not one."""
    array = np.ma.filled(np.ma.masked_invalid(np.ma.asarray(values, dtype=np.float64)), np.nan)
    return [
        _rounded(each) if np.ndim(each) else (round(float(each), DIGITS) if np.isfinite(each) else None)
        for each in array
    ]
