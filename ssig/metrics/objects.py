"""Measures of a map's magnitude against the area of the object, image by image, with one set of reasons why not."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ssig.metrics.evaluation import Evaluation, MetricResult
from ssig.metrics.results import assemble

# (magnitude (H, W) float64, object (H, W) bool) -> a number for each column, or why there is none.
Measure = Callable[[np.ndarray, np.ndarray], tuple[float, ...] | str]


def measure_objects(evaluation: Evaluation, columns: tuple[str, ...], measure: Measure) -> MetricResult:
    """`measure` of |map| and object for each image that has both; the others are excluded with the reason."""
    values = np.full((len(columns), len(evaluation)), np.nan)
    excluded: list[dict[str, str]] = []
    magnitudes = evaluation.maps.abs().double().cpu().numpy()
    for row, (magnitude, mask) in enumerate(zip(magnitudes, evaluation.masks, strict=True)):
        outcome = _measured(magnitude, mask, measure)
        if isinstance(outcome, str):
            excluded.append(dict.fromkeys(columns, outcome))
        else:
            values[:, row] = outcome
            excluded.append({})
    return assemble(dict(zip(columns, values, strict=True)), excluded)


def _measured(magnitude: np.ndarray, mask: np.ndarray | str, measure: Measure) -> tuple[float, ...] | str:
    if isinstance(mask, str):
        return mask
    if not mask.any():
        return "object is outside the input"
    if mask.all():
        return "object covers the whole input"
    if not magnitude.any():
        return "map is all zero"
    return measure(magnitude, mask)
