"""Metrics of a map's magnitude against the area of the object, image by image, with the same reasons for exclusion.

An image whose object fills the network's input is left out: there is nothing outside to be wrong about, and the
metrics would be undefined or 1 for any map. So their N falls short of the number of images with an object, and their
means are of the smaller objects.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

from ssig.metrics.shared.assemble import NoOptions
from ssig.metrics.shared.magnitudes import ALL_ZERO, Outcome, collect, magnitudes
from ssig.registry import METRICS, MetricSpec
from ssig.types import Evaluation, MetricResult


def add_object_metric(
    name: str,
    measure: Callable[[np.ndarray, np.ndarray, Any], Outcome],
    *,
    columns: Mapping[str, str],
    definition: str,
    range: str,
    reference: str,
    options: type[Any] = NoOptions,
    descriptions: Mapping[str, str] = MappingProxyType({}),
    shares: frozenset[str] = frozenset(),
) -> None:
    """Registers `measure` as a metric of the images that have an object and a map that is not all zero.

    Args:
        name: of the metric.
        measure: `(|map| (H, W) float64, object (H, W) bool, options)` -> each column's number, or why there is none.
        columns, definition, range, reference, options, descriptions, shares: as in `MetricSpec`; the definition says
            what is left out too.
    """

    def compute(evaluation: Evaluation, options: Any) -> MetricResult:
        def outcome(magnitude: np.ndarray, mask: np.ndarray | str) -> Outcome:
            if isinstance(mask, str):
                return mask
            if reason := no_object(mask):
                return reason
            return measure(magnitude, mask, options) if magnitude.any() else ALL_ZERO

        return collect(columns, map(outcome, magnitudes(evaluation), evaluation.masks))

    METRICS.add(
        MetricSpec(
            name=name,
            compute=compute,
            options=options,
            columns=columns,
            definition=f"{definition}; objects that fill the input do not count",
            range=range,
            reference=reference,
            forwards=lambda options: 0,
            family="localization",
            needs=frozenset({"map", "mask"}),
            descriptions=descriptions,
            shares=shares,
        )
    )


def no_object(mask: np.ndarray) -> str:
    """Why a mask (H, W) bool has no object to compare with, or the empty string."""
    if not mask.any():
        return "object is outside the input"
    return "object covers the whole input" if mask.all() else ""
