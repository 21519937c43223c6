"""How often intervals of skewed numbers hold the mean: what a simulation reached, by skewness and number of images.

A sample's own skewness is smaller than that of its law (it cannot exceed the square root of N), so each law stands in
the table with the skewness that its samples have, by their median. The laws are lognormal, from the normal one to
sigma 2; `ssig bench claims --table --samples 4000` simulates them and prints this table.
"""

from __future__ import annotations

import numpy as np

from pipeline.report.statistics import FEWEST, pieces

_EQUAL = 1e-6  # a spread that is the rounding of float32 numbers, relative to them

# Images -> skewness of samples, share of 95 % intervals that hold the mean; of 4,000 samples each, seed 0.
_REACHED: dict[int, tuple[tuple[float, ...], tuple[float, ...]]] = {
    10: (
        (0.0, 0.33, 0.65, 0.93, 1.17, 1.39, 1.53, 1.82),
        (0.951, 0.95, 0.942, 0.928, 0.909, 0.879, 0.852, 0.786),
    ),
    20: (
        (0.0, 0.48, 0.94, 1.36, 1.72, 2.03, 2.3, 2.7),
        (0.948, 0.949, 0.943, 0.932, 0.918, 0.898, 0.874, 0.813),
    ),
    50: (
        (0.0, 0.62, 1.22, 1.83, 2.41, 2.93, 3.4, 4.16),
        (0.952, 0.95, 0.942, 0.939, 0.931, 0.915, 0.896, 0.843),
    ),
    100: (
        (0.01, 0.69, 1.39, 2.14, 2.9, 3.64, 4.33, 5.51),
        (0.955, 0.954, 0.952, 0.949, 0.945, 0.933, 0.924, 0.875),
    ),
    200: (
        (0.0, 0.71, 1.5, 2.38, 3.36, 4.37, 5.39, 7.23),
        (0.95, 0.944, 0.942, 0.941, 0.939, 0.933, 0.924, 0.88),
    ),
    500: (
        (0.0, 0.75, 1.61, 2.66, 3.94, 5.42, 7.0, 9.92),
        (0.95, 0.951, 0.952, 0.951, 0.945, 0.939, 0.93, 0.895),
    ),
    1000: (
        (0.0, 0.76, 1.65, 2.81, 4.31, 6.18, 8.23, 12.46),
        (0.952, 0.953, 0.952, 0.953, 0.949, 0.943, 0.937, 0.904),
    ),
    2000: (
        (0.0, 0.77, 1.69, 2.94, 4.67, 7.0, 9.78, 15.82),
        (0.952, 0.954, 0.957, 0.957, 0.952, 0.948, 0.939, 0.917),
    ),
    2001: (
        (0.0, 0.77, 1.69, 2.93, 4.65, 6.91, 9.63, 15.71),
        (0.949, 0.948, 0.948, 0.947, 0.947, 0.942, 0.929, 0.876),
    ),
    5000: (
        (0.0, 0.77, 1.72, 3.05, 5.05, 7.97, 11.89, 21.41),
        (0.954, 0.955, 0.954, 0.953, 0.951, 0.947, 0.941, 0.901),
    ),
}


def skewness(values: np.ndarray) -> np.ndarray:
    """(K,) sample skewness of each column of `values` (N, K); NaN of fewer than three numbers or of equal ones."""
    columns = values.shape[1]
    count, total, largest = np.zeros(columns, np.int64), np.zeros(columns), np.zeros(columns)
    for piece in pieces(values):
        valid = np.isfinite(piece)
        numbers = np.where(valid, piece, 0).astype(np.float64)
        count += valid.sum(axis=0)
        total += numbers.sum(axis=0)
        largest = np.maximum(largest, np.abs(numbers).max(axis=0))
    size = np.maximum(count, 1)
    second, third = np.zeros((2, columns))
    for piece in pieces(values):
        deviation = np.where(np.isfinite(piece), piece - total / size, 0)
        second += (deviation**2).sum(axis=0) / size
        third += (deviation**3).sum(axis=0) / size
    varied = (count > 2) & (np.sqrt(second) > _EQUAL * largest)
    result: np.ndarray = np.divide(third, second**1.5, out=np.full(columns, np.nan), where=varied)
    return result


def reached_coverage(skewness: float, count: int) -> float:
    """The share of simulated 95 % intervals that held the true mean, of `count` numbers as skewed as these.

    Args:
        skewness: of the sample, of either sign. NaN gives NaN.
        count: how many numbers it has. Between two of the table's, by the logarithm; above its last, as there. NaN
            below `FEWEST`, of which the skewness tells nothing.
    """
    if count < FEWEST:
        return float("nan")
    reached = [np.interp(abs(skewness), *_REACHED[size]) for size in _REACHED]
    return float(np.interp(np.log(count), np.log(list(_REACHED)), reached))
