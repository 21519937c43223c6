"""Insertion and deletion curves: the mean over images at each point, with its pointwise 95 % interval."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.report.columns import Source, sources
from pipeline.report.measurements import Measurements, plotted_columns
from pipeline.run.reader import Run
from ssig.errors import UsageError
from ssig.registry import METRICS


@dataclass(frozen=True)
class Curve:
    """The mean curve of a method; `fraction` is the share of pixels changed at each point."""

    metric: str
    column: str
    method: str
    fraction: list[float]
    mean: list[float]
    low: list[float]
    high: list[float]
    count: int


def mean_curves(run: Run, measurements: Measurements) -> list[Curve]:
    """The mean curves of a model's insertion and deletion metrics, method by method.

    The curve in the order of the signed map is taken, else that in the order of its magnitude.
    """
    result: list[Curve] = []
    options = sources(run, measurements.model)
    found: set[Source] = set()
    for source, column in plotted_columns(run, measurements.model):
        if source not in found:
            drawn = [
                _mean_curve(run, measurements, method, source, options[source], column)
                for method in measurements.methods
            ]
            result += (curve for curve in drawn if curve is not None)
            found |= {source} if any(drawn) else set()
    return result


def score_label(options: Mapping[str, Any]) -> str:
    """The y axis of a curve under the metric's options."""
    score = str(options.get("score", "score"))
    return f"target {score}" + (", over the whole image's" if options.get("normalised") else "")


def _mean_curve(
    run: Run, measurements: Measurements, method: str, source: Source, options: Mapping[str, Any], column: str
) -> Curve | None:
    means = measurements.curves.get((method, source, column))
    points = None if means is None else means.intervals()
    if points is None:
        return None
    size = run.config[measurements.model, method].get("model", {}).get("input_size", [1, 1])
    fractions = _fractions(source.metric, options, int(np.prod(size)), len(points.mean))
    low, high = (np.where(np.isnan(bound), points.mean, bound) for bound in (points.low, points.high))
    return Curve(
        metric=source.metric,
        column=column,
        method=method,
        fraction=fractions,
        mean=points.mean.tolist(),
        low=low.tolist(),
        high=high.tolist(),
        count=int(points.count[0]),
    )


def _fractions(metric: str, options: Mapping[str, Any], pixels: int, points: int) -> list[float]:
    """(points,) fraction of pixels changed, from the metric's own options where they still parse."""
    try:
        counts = np.array(METRICS[metric].parse(options).counts(pixels)) / pixels
    except (UsageError, AttributeError):
        counts = np.empty(0)
    fractions: list[float] = (counts if len(counts) == points else np.linspace(0, 1, points)).tolist()
    return fractions
