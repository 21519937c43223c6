"""How often the intervals of skewed numbers hold their mean."""

from __future__ import annotations

import numpy as np
from scipy import stats


def skewness(values: np.ndarray) -> np.ndarray:
    """(K,) sample skewness of each column of `values` (N, K); NaN of fewer than three numbers or of equal ones."""
    result = np.full(values.shape[1], np.nan)
    for column in range(values.shape[1]):
        known = values[np.isfinite(values[:, column]), column].astype(np.float64)
        if len(known) > 2 and np.ptp(known) > 1e-6 * np.abs(known).max():
            result[column] = stats.skew(known)
    return result


def reached_coverage(skewness: float, count: int) -> float:
    """The share of simulated samples whose interval held the true mean."""
    return np.nan
