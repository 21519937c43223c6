"""What the report's pictures show, in words, for readers who do not see them."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.report.curves import Curve
from pipeline.report.distributions import Distribution
from pipeline.report.effects import Effect
from pipeline.report.gallery import Exhibit, Tile
from pipeline.report.numbers import integer, interval, number
from pipeline.report.statistics import FEWEST
from pipeline.report.tradeoffs import Tradeoff

BETTER = {"higher": ", higher is better", "lower": ", lower is better", "none": ""}


def forest_text(effects: Sequence[Effect]) -> str:
    """Who is ahead of whom in each metric, and how far."""
    return " ".join(_effect_text(effect) for effect in effects)


def _effect_text(effect: Effect) -> str:
    name = f"{effect.column.shown}{BETTER[effect.column.direction]}, N {integer(effect.count)}"
    if effect.ahead is None:
        return f"{name}: {'no method is ahead' if effect.count >= FEWEST else 'too few images'}."
    words = "leads" if effect.separated else "is ahead of, but not separated from,"
    by = ""
    if effect.mean is not None:
        by = f" by {number(effect.mean)} [{number(effect.low)}, {number(effect.high)}] standard deviations"
    return f"{name}: {effect.ahead} {words} {effect.rival}{by}."


def curves_text(curves: Sequence[Curve]) -> str:
    """Where each curve is when half of the pixels have changed."""
    middles = []
    for curve in curves:
        nearest = min(range(len(curve.fraction)), key=lambda point: abs(curve.fraction[point] - 0.5))
        middles.append(f"{curve.method} {number(curve.mean[nearest])}")
    counts = sorted({curve.count for curve in curves})
    images = integer(counts[0]) if len(counts) == 1 else f"{integer(counts[0])} to {integer(counts[-1])}"
    return f"Mean curves of {images} images. With half of the pixels changed: {', '.join(middles)}."


def distribution_text(distribution: Distribution) -> str:
    """The median and the middle half of each method."""
    parts = [
        f"{method} {number(spread.quantiles[2])} ({number(spread.quantiles[1])} to {number(spread.quantiles[3])}, "
        f"N {integer(spread.count)})"
        for method, spread in distribution.spreads.items()
    ]
    return f"Medians and middle halves: {', '.join(parts)}."


def tradeoff_text(tradeoff: Tradeoff) -> str:
    """Cost and mean of each method, and which are on the front."""
    parts = [
        f"{method} {number(cost)}, mean {number(tradeoff.means[method].mean)} {interval(tradeoff.means[method])}"
        for method, cost in tradeoff.costs.items()
    ]
    return f"{tradeoff.unit.capitalize()}: {'; '.join(parts)}. On the Pareto front: {', '.join(tradeoff.front)}."


def photograph_text(item: Exhibit) -> str:
    """Which photograph it is."""
    return f"Photograph {item.key}: labelled {item.label}, predicted {item.predicted}."


def tile_text(tile: Tile, item: Exhibit, metric: str) -> str:
    """Which map of which image it is, and its number in the metric that ranks the gallery."""
    kind = "signed map" if tile.signed else "map of magnitudes"
    return f"{tile.method}: {kind} of {item.key} for {item.target}; {metric} {number(tile.value)}."
