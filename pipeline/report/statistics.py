"""Means over images with intervals, and the correction for many p-values; `pipeline.report.pairs` has differences.

Rows are images, and NaN or infinity is no number.

    mean         m - e T(.975) to m - e T(.025), e = s / sqrt(n), with the quantiles T of Student's law, or of the
                 bootstrap's studentised means from `FEWEST` to `STUDENTISED` images
    share        the mean of a column of 0 and 1, and of fractions where maxima tie: Wilson's interval
    many p       Holm

What these reach in simulations, and where they fall short, is in docs/statistics.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy import stats

from ssig.randomness import Stream

RESAMPLES = 1999  # so that the tails of 2.5 % end at the 50th of them (Davison and Hinkley, 1997)
CONFIDENCE = 0.95
ALPHA = 0.05
FEWEST = 10  # images without which nothing is called better, worse, or a lead
STUDENTISED = 2000  # images up to which the bootstrap's quantiles are taken
_COLUMNS = 64  # at once, which keeps the bootstrap's memory flat in their number
CACHED = 2**17  # numbers at once, 1 MiB: memory is flat in the images, and they stay in the processor's cache
_WHOLE = 1e-6  # what a sum of 0 and 1 is off by at most
_ROUNDING = 1e-12  # the variance of equal numbers, of columns of variance 1


@dataclass(frozen=True)
class Intervals:
    """Mean of each of K columns and its interval: (K,) arrays; `count` is how many images gave a number.

    `mean` is NaN where there is no number; `low` and `high` where there are fewer than two, for a share where there is
    none.
    """

    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray
    count: np.ndarray


@dataclass(frozen=True)
class Paired:
    """Mean of first minus second with its interval, arrays of one shape; `count` is how many images have both.

    `p` is two-sided and of this comparison alone; NaN below `FEWEST` images. `low` and `high` are NaN where there are
    fewer than two images.
    """

    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray
    count: np.ndarray
    p: np.ndarray


def intervals(
    values: np.ndarray, shares: np.ndarray | None = None, *, seed: int = 0, bootstrap: bool = True
) -> Intervals:
    """Means of columns with their `CONFIDENCE` intervals.

    Args:
        values: (N, K) float; NaN or infinity is no number and is masked in its column alone.
        shares: (K,) bool, the columns that are 0 or 1; none by default.
        seed: of the bootstrap's draws; equal seeds and counts draw alike, whatever the columns.
        bootstrap: whether to take its quantiles; else Student's, which cost less and are too narrow where numbers are
            skewed.
    """
    share = np.zeros(values.shape[1], bool) if shares is None else np.asarray(shares, bool)
    mean, error, count = _moments(values)
    below, above = student(count), student(count)
    drawn = bootstrap & ~share & (error > 0) & (count >= FEWEST) & (count <= STUDENTISED)
    for size in np.unique(count[drawn]):
        chosen = np.flatnonzero(drawn & (count == size))
        below[chosen], above[chosen] = _studentised(values, chosen, mean, error, int(size), seed)
    low, high = mean - below * error, mean + above * error
    low[share], high[share] = wilson(_hits(mean * count)[share], count[share])
    return Intervals(mean=mean, low=low, high=high, count=count)


def students_intervals(mean: np.ndarray, error: np.ndarray, count: np.ndarray) -> Intervals:
    """Student's intervals of means (K,) with their standard errors, each of `count` numbers."""
    half = student(count) * error
    return Intervals(mean=mean, low=mean - half, high=mean + half, count=count)


def grouped_intervals(values: np.ndarray, groups: np.ndarray, count: int, share: bool = False) -> Intervals:
    """The mean of each group of one column with Student's interval, of a share Wilson's; (K,) arrays.

    Args:
        values: (N,) float; NaN is no number.
        groups: (N,) int, the group of each number, below `count`; negative for none.
        count: K, how many groups there are.
        share: whether the column is 0 or 1.
    """
    size, total, squares = np.zeros(count, np.int64), np.zeros(count), np.zeros(count)
    parts = [slice(start, start + CACHED) for start in range(0, len(values), CACHED)]
    for part in parts:
        of, numbers = _in_groups(values[part], groups[part])
        size += np.bincount(of, minlength=count)
        total += np.bincount(of, numbers, count)
    mean = np.divide(total, size, out=np.full(count, np.nan), where=size > 0)
    if share:
        low, high = wilson(_hits(np.nan_to_num(mean) * size), size)
        return Intervals(mean, low, high, size)
    for part in parts:
        of, numbers = _in_groups(values[part], groups[part])
        squares += np.bincount(of, (numbers - mean[of]) ** 2, count)
    return students_intervals(mean, standard_error(squares, size), size)


def pieces(values: np.ndarray) -> Iterator[np.ndarray]:
    """`values` (N, K), some rows at a time, of which copies in float64 are small."""
    step = max(1, CACHED // max(values.shape[1], 1))
    for start in range(0, len(values), step):
        yield values[start : start + step]


def student(count: np.ndarray) -> np.ndarray:
    """(K,) quantile of Student's law of count - 1 degrees of freedom for an interval of two sides; NaN below two."""
    quantile: np.ndarray = stats.t.ppf(0.5 + CONFIDENCE / 2, np.where(count > 1, count - 1, np.nan))
    return quantile


def standard_error(squares: np.ndarray, count: np.ndarray) -> np.ndarray:
    """Standard error of a mean from the sum of squared deviations; NaN below two numbers."""
    free = np.where(count > 1, count * (count - 1.0), np.nan)
    error: np.ndarray = np.sqrt(squares / free)
    return error


def squares_between(
    count: np.ndarray | int, mean: np.ndarray, other_count: np.ndarray | int, other_mean: np.ndarray
) -> np.ndarray:
    """What the sum of squared deviations of two sets of numbers has beside those of each set from its own mean.

    Source: T. F. Chan, G. H. Golub, R. J. LeVeque, *Updating formulae and a pairwise algorithm for computing sample
    variances* (1979).
    """
    return np.asarray((other_mean - mean) ** 2 * (count * (other_count / np.maximum(count + other_count, 1))))


def _hits(sums: np.ndarray) -> np.ndarray:
    """Sums of 0 and 1, and of fractions where maxima tie, without the rounding of float32 numbers."""
    whole = np.round(sums)
    result: np.ndarray = np.where(np.abs(sums - whole) < _WHOLE, whole, sums)
    return result


def wilson(successes: np.ndarray, count: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Bounds of a share by Wilson's interval with correction for continuity; NaN where `count` is 0.

    Without the correction its coverage falls below .94 at some shares for any N; with it, it is .945 or more for all
    shares and all N.

    Sources: E. B. Wilson, *Probable inference*, JASA 22 (1927), 209-212; R. G. Newcombe, *Two-sided confidence
    intervals for the single proportion*, Statist. Med. 17 (1998), 857-872, method 4.
    """
    z = stats.norm.ppf(0.5 + CONFIDENCE / 2)
    size = np.where(count > 0, count, np.nan)
    share = successes / size
    low = 2 * successes + z**2 - 1 - z * np.sqrt(z**2 - 2 - 1 / size + 4 * share * (size - successes + 1))
    high = 2 * successes + z**2 + 1 + z * np.sqrt(z**2 + 2 - 1 / size + 4 * share * (size - successes - 1))
    scale = 2 * (size + z**2)
    # Of a fraction of one hit or one miss, a corrected bound may pass the share or leave the range.
    low, high = np.clip(low / scale, 0, share), np.clip(high / scale, share, 1)
    return np.where(successes <= 0, 0 * size, low), np.where(successes >= count, 0 * size + 1, high)


def holm(p: np.ndarray) -> np.ndarray:
    """p-values adjusted for their number, of the same shape; NaN stays NaN and does not count.

    Source: S. Holm, *A simple sequentially rejective multiple test procedure*, Scand. J. Statist. 6 (1979), 65-70.
    """
    adjusted = np.full(np.shape(p), np.nan)
    is_finite = np.isfinite(p)
    finite = np.asarray(p, np.float64)[is_finite]
    order = np.argsort(finite, kind="stable")
    steps = np.maximum.accumulate(finite[order] * np.arange(len(finite), 0, -1))
    result = np.empty(len(finite))
    result[order] = np.minimum(steps, 1)
    adjusted[is_finite] = result
    return adjusted


def _in_groups(values: np.ndarray, groups: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The group of each number that has one, and the number."""
    chosen = np.isfinite(values) & (groups >= 0)
    return groups[chosen], values[chosen].astype(np.float64)


def _means(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(K,) mean and count of the numbers in each column."""
    count, total = np.zeros(values.shape[1], np.int64), np.zeros(values.shape[1])
    for piece in pieces(values):
        valid = np.isfinite(piece)
        count += valid.sum(axis=0)
        total += np.where(valid, piece, 0).sum(axis=0, dtype=np.float64)
    return np.divide(total, count, out=np.full(len(count), np.nan), where=count > 0), count


def _moments(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(K,) mean, standard error (NaN below two numbers) and count."""
    mean, count = _means(values)
    centre, squares = np.nan_to_num(mean), np.zeros(len(mean))
    for piece in pieces(values):
        squares += (np.where(np.isfinite(piece), piece - centre, 0) ** 2).sum(axis=0)
    return mean, standard_error(squares, count), count


def _studentised(
    values: np.ndarray, chosen: np.ndarray, mean: np.ndarray, error: np.ndarray, count: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """How many standard errors the interval reaches below and above the mean, by the bootstrap's studentised means.

    T* = (m* - m) / (s* / sqrt(n)) of `RESAMPLES` samples drawn from the n numbers of a column with replacement; the
    interval is [m - e T*(.975), m - e T*(.025)]. Where too many samples are of one value, so that s* = 0, Student's
    quantile takes the place of an infinite one.

    Args:
        values: (N, K).
        chosen: the k columns that have `count` numbers, not all equal.
        mean, error: (K,) of all columns.

    Source: P. Hall, *Theoretical comparison of bootstrap confidence intervals*, Ann. Statist. 16 (1988), 927-953.
    """
    draws = Stream(seed).generator(0).integers(count, size=(RESAMPLES, count))
    draws += count * np.arange(RESAMPLES)[:, None]
    weights = np.bincount(draws.ravel(), minlength=RESAMPLES * count).reshape(RESAMPLES, count) / count
    last = round(0.5 * (1 - CONFIDENCE) * (RESAMPLES + 1)) - 1
    ends = [last, RESAMPLES - 1 - last]
    bounds = []
    for left in range(0, len(chosen), _COLUMNS):
        block = chosen[left : left + _COLUMNS]
        numbers = np.stack([column[np.isfinite(column)] for column in values[:, block].T], axis=1)
        scaled = (numbers - mean[block]) / (error[block] * np.sqrt(count))
        centre = weights @ scaled
        variance = weights @ scaled**2 - centre**2
        beyond = np.where(centre**2 > _ROUNDING, np.copysign(np.inf, centre), 0)
        varied = variance > _ROUNDING
        studentised = np.divide(centre, np.sqrt(np.abs(variance) / (count - 1)), out=beyond, where=varied)
        bounds.append(np.partition(studentised, ends, axis=0)[ends])
    lowest, highest = np.concatenate(bounds, axis=1)
    fallback = student(np.full(len(chosen), count))
    return np.where(np.isfinite(highest), highest, fallback), np.where(np.isfinite(lowest), -lowest, fallback)
