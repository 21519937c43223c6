"""Means over images with paired bootstrap intervals.

Resample b draws N of the N images with replacement, and the same images for every column, so that columns stay paired:

    w_b ~ Multinomial(N; 1/N, ..., 1/N)        m_bj = sum_i w_bi v_ij x_ij / sum_i w_bi v_ij

with x_ij column j of image i and v_ij = 1 where it is a number. The interval of column j is the percentile interval
of its m_bj (Efron, 1979). A difference of two columns is one more column, so it is resampled jointly with them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ssig.randomness import Stream

RESAMPLES = 2000
CONFIDENCE = 0.95
_CHUNK = 2**22  # weights held at once, 32 MiB: keeps memory flat in the number of images
_COLUMNS = 64


@dataclass(frozen=True)
class Intervals:
    """Mean of each of K columns and its interval: (K,) arrays; `count` is how many images gave a number.

    `mean` is NaN where there is no number, `low` and `high` where there are fewer than two.
    """

    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray
    count: np.ndarray

    @property
    def separated(self) -> np.ndarray:
        """(K,) bool, whether the interval excludes 0."""
        return (self.low > 0) | (self.high < 0)


def means(values: np.ndarray) -> np.ndarray:
    """(K,) means of the numbers in each column of `values` (N, K); NaN where there are none."""
    valid = np.isfinite(values)
    count = valid.sum(axis=0)
    total = np.where(valid, values, 0).sum(axis=0, dtype=np.float64)
    mean: np.ndarray = np.divide(total, count, out=np.full(values.shape[1], np.nan), where=count > 0)
    return mean


def bootstrap(
    values: np.ndarray, *, resamples: int = RESAMPLES, confidence: float = CONFIDENCE, seed: int = 0
) -> Intervals:
    """Means of columns with percentile intervals, all columns resampled jointly.

    Args:
        values: (N, K) float; a row is an image, NaN or infinity is no number and is masked in its column alone.
        resamples: how many times the images are redrawn.
        confidence: coverage of the interval, in (0, 1).
        seed: of the Philox generator; equal seeds and N redraw the same images, whatever the columns.
    """
    images, columns = values.shape
    count = np.isfinite(values).sum(axis=0)
    estimates = np.full((resamples, columns), np.nan)
    for start, weights in _weights(images, resamples, seed):
        for left in range(0, columns, _COLUMNS):
            block = slice(left, left + _COLUMNS)
            estimates[start : start + len(weights), block] = _weighted_means(weights, values[:, block])
    low, high = _percentiles(estimates, confidence)
    single = count < 2
    return Intervals(
        mean=means(values),
        low=np.where(single, np.nan, low),
        high=np.where(single, np.nan, high),
        count=count,
    )


def _weights(images: int, resamples: int, seed: int) -> Iterator[tuple[int, np.ndarray]]:
    """Chunks (first resample, (r, N) float64 counts of each image); resample b has its own stream, so chunking does
    not change the draws."""
    stream = Stream(seed)
    step = max(1, _CHUNK // max(images, 1))
    for start in range(0, resamples if images else 0, step):
        chunk = [
            np.bincount(stream.generator(resample).integers(images, size=images), minlength=images)
            for resample in range(start, min(start + step, resamples))
        ]
        yield start, np.array(chunk, dtype=np.float64)


def _weighted_means(weights: np.ndarray, values: np.ndarray) -> np.ndarray:
    """(r, K) means of `values` (N, K) under `weights` (r, N), over the numbers of each column."""
    valid = np.isfinite(values)
    total = weights @ np.where(valid, values, 0).astype(np.float64)
    size = weights.sum(axis=1, keepdims=True) if valid.all() else weights @ valid.astype(np.float64)
    mean: np.ndarray = np.divide(total, size, out=np.full(total.shape, np.nan), where=size > 0)
    return mean


def _percentiles(estimates: np.ndarray, confidence: float) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper percentile of each column over the resamples that drew a number of it."""
    empty = np.isnan(estimates).all(axis=0)
    tails = [50 * (1 - confidence), 50 * (1 + confidence)]
    bounds = np.nanpercentile(np.where(empty, 0, estimates), tails, axis=0)
    low, high = bounds.reshape(2, estimates.shape[1])  # of no columns NumPy gives no pair
    return np.where(empty, np.nan, low), np.where(empty, np.nan, high)
