"""The report's figures, drawn with matplotlib in the light scheme: effects, curves, distributions, cost and quality.

Every figure is drawn and saved within `pipeline.report.drawing.styled`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch
from matplotlib.path import Path

from pipeline.report.comparison import Estimate
from pipeline.report.curves import Curve
from pipeline.report.distributions import Distribution, Spread
from pipeline.report.drawing import (
    FAINT,
    INK,
    RULE,
    SMALL,
    SOFT,
    TEXT,
    WIDTH,
    beside,
    panel,
    points_of,
    printable,
    shortened,
    spaced,
)
from pipeline.report.effects import Effect
from pipeline.report.numbers import integer
from pipeline.report.statistics import FEWEST
from pipeline.report.styles import GREY, LineStyle
from pipeline.report.tradeoffs import Tradeoff

Styles = Mapping[str, LineStyle]

ARROWS = {"higher": " ↑", "lower": " ↓", "none": ""}
_EFFECT_ROW, _SPREAD_ROW = 38.0, 18.0  # points
_EFFECT_LETTERS = 57  # of a metric and two methods, in one row
_LABEL_GAP = 13.0
_WIDEST_EFFECT = 3.0  # standard deviations; marks of controls beyond the axis become arrows


def forest_figure(effects: Sequence[Effect], styles: Styles) -> Figure:
    """The method ahead compared with its nearest rival, one row per metric, on one scale; to the right is better."""
    height = 66.0 + _EFFECT_ROW * len(effects)
    figure, axes = panel(height, (6, 6, 28, 36), "Ahead and nearest rival")
    reach = _reach(effects)
    axes.set_xlim(-0.35 * reach, reach)
    axes.set_ylim(len(effects), 0)
    axes.spines["left"].set_visible(False)
    axes.set_yticks([])
    axes.set_xlabel("standard deviations of the paired difference; right of 0 is better")
    for row, effect in enumerate(effects):
        axes.axhline(row, color=RULE, linewidth=0.7)
        _effect_row(axes, effect, row, styles)
    return figure


def _effect_row(axes: Axes, effect: Effect, row: int, styles: Styles) -> None:
    name = f"{shortened(effect.column.shown, 34)}{ARROWS[effect.column.direction]}"
    pair = "no method is ahead" if effect.count >= FEWEST else "too few images"
    if effect.ahead is not None and effect.rival is not None:
        words = "leads, then" if effect.separated else "ahead of"
        longest = max(10, (_EFFECT_LETTERS - len(name)) // 2)
        pair = f"{shortened(effect.ahead, longest)} {words} {shortened(effect.rival, longest)}"
    across = axes.get_yaxis_transform()
    axes.text(0, row + 0.3, name, size=TEXT, va="center", transform=across)
    note = f"{pair}, N {integer(effect.count)}"
    axes.text(1, row + 0.3, note, size=SMALL, va="center", ha="right", color=SOFT, transform=across)
    height, right = row + 0.72, axes.get_xlim()[1]
    axes.plot([0, 0], [row + 0.48, row + 0.96], color=SOFT, linewidth=0.8)
    for control, distance in effect.controls.items():
        beyond = distance > right
        marker = ">" if beyond else styles[control].marker
        axes.plot(min(distance, 0.99 * right), height, marker, color=GREY.light, markersize=5, clip_on=False)
    if effect.mean is None or effect.ahead is None:
        return
    colour = styles[effect.ahead].colour
    if effect.low is not None and effect.high is not None:
        width = 3.2 if effect.separated else 1.4
        axes.plot([effect.low, effect.high], [height, height], color=colour, linewidth=width, solid_capstyle="butt")
    face = colour if effect.separated else "white"
    axes.plot(effect.mean, height, styles[effect.ahead].marker, color=colour, markerfacecolor=face, markersize=7)


def _reach(effects: Sequence[Effect]) -> float:
    """The right end of the axis: all intervals, and controls that are not far away."""
    ends = [end for effect in effects for end in (effect.low, effect.mean, effect.high) if end is not None]
    ends += [distance for effect in effects for distance in effect.controls.values() if distance < _WIDEST_EFFECT]
    return 1.08 * max([abs(end) for end in ends], default=1.0)


def curve_figure(curves: Sequence[Curve], styles: Styles, banded: Sequence[str], texts: tuple[str, str]) -> Figure:
    """The curves of one metric, each named at its end.

    Args:
        curves: one for each method.
        styles: of the methods.
        banded: the methods whose pointwise intervals are shown as bands.
        texts: the title, and what the vertical axis shows.
    """
    title, label = texts
    height = max(250.0, 70.0 + _LABEL_GAP * len(curves))
    figure, axes = panel(height, (42, 112, 28, 36), title)
    axes.set_xlim(0, 1)
    axes.set_ylim(_curve_range(curves, banded))
    axes.grid(axis="y", color=RULE, linewidth=0.7)
    axes.set_xlabel("fraction of pixels changed")
    axes.set_ylabel(printable(label))
    for position, curve in enumerate(curves):
        style, points = styles[curve.method], len(curve.mean)
        if curve.method in banded:
            band = axes.fill_between(curve.fraction, curve.low, curve.high, linewidth=0.6)
            band.set(facecolor=(style.colour, 0.12), edgecolor=(style.colour, 0.5))
        step = max(1, points // 5)
        axes.plot(
            *(curve.fraction, curve.mean),
            color=style.colour,
            linestyle=style.dash,
            linewidth=1.6,
            marker=style.marker,
            markersize=4.5,
            markevery=(step * position // len(curves), step),
        )
    _name_ends(figure, axes, {curve.method: curve for curve in curves}, styles)
    return figure


def _curve_range(curves: Sequence[Curve], banded: Sequence[str]) -> tuple[float, float]:
    """All means, and the bands as far as they do not press these flat."""
    low, high = (end(value for curve in curves for value in curve.mean) for end in (min, max))
    room = 0.5 * ((high - low) or 1.0)
    bands = [bound for curve in curves if curve.method in banded for bound in (*curve.low, *curve.high)]
    bottom, top = min([low, *bands]), max([high, *bands])
    return max(bottom, low - room) - 0.06 * room, min(top, high + room) + 0.06 * room


def _name_ends(figure: Figure, axes: Axes, curves: Mapping[str, Curve], styles: Styles) -> None:
    """The name of each curve right of its end, with a thin line to it; curves that end alike are in order of area."""
    order = sorted(curves, key=lambda method: (round(curves[method].mean[-1], 3), sum(curves[method].mean)))
    box, height = axes.get_position(), figure.get_figheight() * 72
    low, high = axes.get_ylim()
    right, bottom, top = box.x1 * WIDTH, box.y0 * height, box.y1 * height
    ends = [bottom + (top - bottom) * (curves[method].mean[-1] - low) / (high - low) for method in order]
    points = points_of(figure)
    for method, end, place in zip(order, ends, spaced(ends, _LABEL_GAP, bottom - 8, top + 4), strict=True):
        style = styles[method]
        connector: dict[str, Any] = {"color": style.colour, "linewidth": 0.6, "transform": points, "clip_on": False}
        axes.plot([right, right + 12], [end, place], **connector)
        line = {**connector, "linewidth": 1.6, "linestyle": style.dash}
        axes.plot([right + 12, right + 34], [place, place], **line)
        axes.plot(right + 23, place, style.marker, markersize=4.5, **connector)
        axes.text(right + 38, place, shortened(method, 14), size=SMALL, va="center", transform=points)


def distribution_figure(distribution: Distribution, methods: Sequence[str], styles: Styles) -> Figure:
    """The numbers of one metric by method: 5 to 95 %, the middle half, the median, and a tick for each image.

    Args:
        distribution: of one metric.
        methods: all that a figure of this run has rows for, in order.
        styles: of the methods.
    """
    column = distribution.column
    height = 56.0 + _SPREAD_ROW * len(methods)
    figure, axes = panel(height, (106, 34, 28, 20), f"{shortened(column.shown, 44)}{ARROWS[column.direction]}")
    low, high = _distribution_range(list(distribution.spreads.values()))
    axes.set_xlim(low, high)
    axes.set_ylim(len(methods) - 0.4, -0.6)
    axes.set_yticks(range(len(methods)), [shortened(method) for method in methods], color=INK)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.grid(axis="x", color=RULE, linewidth=0.7)
    across = axes.get_yaxis_transform()
    for row, method in enumerate(methods):
        spread = distribution.spreads.get(method)
        axes.text(
            1.02, row, integer(spread.count if spread else 0), size=SMALL, va="center", color=SOFT, transform=across
        )
        if spread is not None:
            _spread_row(axes, spread, row, styles[method])
    axes.text(1.02, -0.85, "N", size=SMALL, va="center", color=SOFT, transform=across)
    return figure


def _spread_row(axes: Axes, spread: Spread, row: int, style: LineStyle) -> None:
    least, lower, median, upper, most = spread.quantiles
    axes.plot([least, most], [row, row], color=style.colour, linewidth=1, solid_capstyle="butt")
    axes.plot([lower, upper], [row, row], color=style.colour, linewidth=4.5, solid_capstyle="butt", alpha=0.4)
    if spread.values:
        # One path for all ticks: an element for each would be many times larger.
        corners = [(value, row + end) for value in spread.values for end in (-0.36, -0.2)]
        codes = [Path.MOVETO, Path.LINETO] * len(spread.values)
        axes.add_patch(PathPatch(Path(corners, codes), edgecolor=style.colour, facecolor="none", linewidth=0.7))
    axes.plot(median, row, style.marker, color=style.colour, markersize=6.5)


def _distribution_range(spreads: Sequence[Spread]) -> tuple[float, float]:
    """From the least to the largest number, as long as single images do not press the others flat."""
    low, high = min(spread.quantiles[0] for spread in spreads), max(spread.quantiles[-1] for spread in spreads)
    room = 0.25 * ((high - low) or 1.0)
    ends = [end for spread in spreads if spread.values for end in (spread.values[0], spread.values[-1])]
    bottom, top = max(min([low, *ends]), low - room), min(max([high, *ends]), high + room)
    edge = 0.03 * ((top - bottom) or 1.0)
    return bottom - edge, top + edge


def tradeoff_figure(tradeoff: Tradeoff, styles: Styles) -> Figure:
    """Cost on a logarithmic axis against the mean of one metric with its interval; a line joins the Pareto front."""
    column = tradeoff.column
    title = f"{shortened(column.shown, 44)}{ARROWS[column.direction]}"
    figure, axes = panel(230.0 + 8 * max(0, len(tradeoff.costs) - 8), (42, 14, 28, 36), title)
    least, most = min(tradeoff.costs.values()), max(tradeoff.costs.values())
    axes.set_xscale("log")
    axes.set_xlim(least / 1.8, most * 2.4)  # room for a name right of the dearest
    axes.set_xticks(_ticks(least / 1.8, most * 2.4))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.minorticks_off()
    axes.set_ylim(_mean_range(tradeoff))
    axes.grid(axis="y", color=RULE, linewidth=0.7)
    axes.set_xlabel(tradeoff.unit)
    front = [(tradeoff.costs[method], tradeoff.means[method].mean) for method in tradeoff.front]
    axes.plot(*zip(*front, strict=True), color=FAINT, linewidth=1, drawstyle="steps-post", zorder=1)
    for method, cost in tradeoff.costs.items():
        estimate, style = tradeoff.means[method], styles[method]
        if estimate.low is not None and estimate.high is not None:
            axes.plot([cost, cost], [estimate.low, estimate.high], color=style.colour, linewidth=1.2)
        axes.plot(cost, _ends(estimate)[1], style.marker, color=style.colour, markersize=7)
    _name_points(figure, axes, tradeoff, styles)
    return figure


def _name_points(figure: Figure, axes: Axes, tradeoff: Tradeoff, styles: Styles) -> None:
    methods, points = list(tradeoff.costs), points_of(figure)
    to_points = axes.transData + points.inverted()
    rows = [(tradeoff.costs[name], *_ends(tradeoff.means[name])) for name in methods]
    lows, places, highs = (
        to_points.transform([(cost, ends[number]) for cost, *ends in rows]).tolist() for number in range(3)
    )
    bars = [(x - 1, low, x + 1, high) for (x, low), (_, high) in zip(lows, highs, strict=True)]
    names = [shortened(method) for method in methods]
    box, height = axes.get_position(), figure.get_figheight() * 72
    bounds = (box.x0 * WIDTH + 2, box.y0 * height + 2, WIDTH, box.y1 * height + 4)
    boxes = beside(places, [(0.58 * SMALL * len(name), 1.2 * SMALL) for name in names], bars, bounds)
    for method, name, (x, y), (left, bottom, right, top) in zip(methods, names, places, boxes, strict=True):
        nearest = (min(max(x, left), right), min(max(y, bottom), top))
        if math.dist(nearest, (x, y)) > 10:
            ends = [x, nearest[0]], [y, nearest[1]]
            axes.plot(*ends, color=styles[method].colour, linewidth=0.6, transform=points, clip_on=False)
        middle = (left + right) / 2, (bottom + top) / 2
        axes.text(*middle, name, size=SMALL, va="center", ha="center", transform=points)


def _ends(estimate: Estimate) -> tuple[float, float, float]:
    """Low end, mean and high end; the mean where an interval has no ends."""
    mean = estimate.mean or 0.0
    return mean if estimate.low is None else estimate.low, mean, mean if estimate.high is None else estimate.high


def _mean_range(tradeoff: Tradeoff) -> tuple[float, float]:
    """All intervals, with an edge."""
    ends = [end for estimate in tradeoff.means.values() for end in _ends(estimate)]
    edge = 0.06 * (max(ends) - min(ends)) or 1.0
    return min(ends) - edge, max(ends) + edge


def _ticks(low: float, high: float) -> list[float]:
    """1, 2 and 5 times powers of ten within a range; of a wide range the powers alone."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    steps = (1, 2, 5) if high / low < 100 else (1,)
    return [tick for power in powers for step in steps if low <= (tick := step * 10.0**power) <= high]
