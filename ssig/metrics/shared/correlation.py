"""Correlation of two series, undefined where one of them does not vary.

pearson  = sum (a - mean a)(b - mean b) / (|a - mean a| |b - mean b|)
spearman = pearson of the ranks; equal values share the mean of theirs
"""

from __future__ import annotations

import numpy as np
from scipy.stats import rankdata

# Sums of equal numbers differ in their last digits.
_ROUNDING = 1e-12


def varies(series: np.ndarray) -> np.ndarray:
    """(...) bool, whether the values (..., n) differ by more than rounding; False where any is not finite."""
    with np.errstate(invalid="ignore"):
        result: np.ndarray = np.ptp(series, axis=-1) > _ROUNDING * np.abs(series).max(axis=-1)
    return result


def pearson(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """(...) of series (..., n); NaN where one of the two does not vary."""
    with np.errstate(divide="ignore", invalid="ignore"):
        product = (_standardised(first) * _standardised(second)).sum(axis=-1)
    return np.where(varies(first) & varies(second), np.clip(product, -1.0, 1.0), np.nan)


def spearman(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """(...) of series (..., n); NaN where one of the two does not vary."""
    defined = varies(first) & varies(second)
    return np.where(defined, pearson(rankdata(first, axis=-1), rankdata(second, axis=-1)), np.nan)


def _standardised(series: np.ndarray) -> np.ndarray:
    centred = series - series.mean(axis=-1, keepdims=True)
    result: np.ndarray = centred / np.linalg.norm(centred, axis=-1, keepdims=True)
    return result
