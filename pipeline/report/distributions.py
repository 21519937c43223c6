"""How the numbers of single images are distributed, by metric and method."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline.report.columns import Column
from pipeline.report.measurements import Measurements

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
MOST_MARKS = 100  # images; of more, quantiles alone are drawn


@dataclass(frozen=True)
class Spread:
    """The numbers of one method.

    Attributes:
        count: images with a number.
        quantiles: at `QUANTILES`.
        values: of each image, ascending; none of more than `MOST_MARKS` images.
    """

    count: int
    quantiles: tuple[float, ...]
    values: tuple[float, ...]


@dataclass(frozen=True)
class Distribution:
    """The numbers of one headline column, by method; methods without numbers are left out."""

    column: Column
    spreads: dict[str, Spread]


def distributions(measurements: Measurements) -> list[Distribution]:
    """One for each headline column, those aside that are 0 or 1 for each image."""
    return [
        Distribution(
            measurements.columns[index],
            {
                method: spread
                for position, method in enumerate(measurements.methods)
                if (spread := _spread(measurements.values.of_method(position, index))) is not None
            },
        )
        for index in measurements.headlines
        if not measurements.columns[index].share
    ]


def _spread(numbers: np.ndarray) -> Spread | None:
    finite = numbers[np.isfinite(numbers)]
    if not len(finite):
        return None
    finite.sort()
    values = tuple(finite.astype(np.float64).tolist()) if len(finite) <= MOST_MARKS else ()
    return Spread(len(finite), tuple(_quantiles(finite)), values)


def _quantiles(ascending: np.ndarray) -> list[float]:
    """At `QUANTILES`, in float64; `np.quantile` would do it in float32."""
    places = np.array(QUANTILES) * (len(ascending) - 1)
    below = places.astype(np.int64)
    low, high = (ascending[place].astype(np.float64) for place in (below, np.minimum(below + 1, len(ascending) - 1)))
    quantiles: list[float] = (low + (places - below) * (high - low)).tolist()
    return quantiles
