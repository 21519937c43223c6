"""Means over images with intervals, paired differences with p-values, and the correction for many of them.

Rows are images, NaN or infinity is no number, and a difference is taken on the images that both sides have.

    mean         m - e T(.975) to m - e T(.025), e = s / sqrt(n), with the quantiles T of Student's law, or of the
                 bootstrap's studentised means from `FEWEST` to `STUDENTISED` images
    share        the mean of a column of 0 and 1: Wilson's interval
    difference   Student's interval; of two shares Newcombe's
    p            Student's test of the paired differences; the exact sign test where all differences that are not 0
                 have one size, as those of 0 and 1 have (McNemar); none below `FEWEST` images
    many p       Holm

What these reach in simulations, and where they fall short, is in docs/statistics.md.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats

from ssig.randomness import Stream

RESAMPLES = 1999  # so that the tails of 2.5 % end at the 50th of them (Davison and Hinkley, 1997)
CONFIDENCE = 0.95
ALPHA = 0.05
FEWEST = 10  # images without which nothing is called better, worse, or a lead
STUDENTISED = 2000  # images up to which the bootstrap's quantiles are taken
_COLUMNS = 64  # at once, which keeps memory flat in their number
_NUMBERS = 2**22  # at once, which keeps it flat in that of images, a column aside
_CACHED = 2**17  # numbers of a pass over differences, 1 MiB: they stay in the processor's cache
_ROUNDING = 1e-12  # the variance of equal numbers, of columns of variance 1
_EQUAL = 4 * float(np.finfo(np.float32).eps)  # two differences of float32 numbers, relative to the numbers


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


def means(values: np.ndarray) -> np.ndarray:
    """(K,) means of the numbers in each column of `values` (N, K); NaN where there are none."""
    valid = np.isfinite(values)
    count = valid.sum(axis=0)
    total = np.where(valid, values, 0).sum(axis=0, dtype=np.float64)
    mean: np.ndarray = np.divide(total, count, out=np.full(values.shape[1], np.nan), where=count > 0)
    return mean


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
    low[share], high[share] = wilson((mean * count)[share].round(), count[share])
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
    chosen = np.isfinite(values) & (groups >= 0)
    of, numbers = groups[chosen], values[chosen].astype(np.float64)
    size = np.bincount(of, minlength=count)
    mean = np.divide(np.bincount(of, numbers, count), size, out=np.full(count, np.nan), where=size > 0)
    if share:
        low, high = wilson((np.nan_to_num(mean) * size).round(), size)
        return Intervals(mean, low, high, size)
    squares = np.bincount(of, (numbers - mean[of]) ** 2, count)
    return students_intervals(mean, _error(squares, size), size)


def column_blocks(values: np.ndarray) -> list[slice]:
    """Blocks of columns of `values` (N, K), each small enough for copies of it in float64."""
    step = max(1, min(_COLUMNS, _NUMBERS // max(len(values), 1)))
    return [slice(left, left + step) for left in range(0, values.shape[1], step)]


def student(count: np.ndarray) -> np.ndarray:
    """(K,) quantile of Student's law of count - 1 degrees of freedom for an interval of two sides; NaN below two."""
    quantile: np.ndarray = stats.t.ppf(0.5 + CONFIDENCE / 2, np.where(count > 1, count - 1, np.nan))
    return quantile


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
    return np.where(successes <= 0, 0 * size, low / scale), np.where(successes >= count, 0 * size + 1, high / scale)


def paired(first: np.ndarray, second: np.ndarray, shares: np.ndarray | None = None) -> Paired:
    """`first` minus `second` on the images that both have, column by column.

    Args:
        first, second: (N, K) float, or of shapes that broadcast to it.
        shares: (K,) bool, the columns that are 0 or 1 on both sides; none by default.
    """
    first, second = np.broadcast_arrays(first, second)
    share = np.zeros(first.shape[1], bool) if shares is None else np.asarray(shares, bool)
    return _paired(first.T, second.T, share)


def pairwise(values: np.ndarray, share: bool = False) -> Paired:
    """Each method (row) minus each other (column) of one metric column, (M, M) arrays; NaN and 0 images on the
    diagonal.

    Args:
        values: (N, M) float.
        share: whether the column is 0 or 1.
    """
    methods = values.shape[1]
    rows = np.ascontiguousarray(values.T)
    mean, low, high, p = (np.full((methods, methods), np.nan) for _ in range(4))
    count = np.zeros((methods, methods), np.int64)
    for row in range(methods - 1):
        later = slice(row + 1, methods)
        differences = _paired(
            np.broadcast_to(rows[row], rows[later].shape), rows[later], np.full(methods - row - 1, share)
        )
        mean[row, later], mean[later, row] = differences.mean, -differences.mean
        low[row, later], low[later, row] = differences.low, -differences.high
        high[row, later], high[later, row] = differences.high, -differences.low
        count[row, later] = count[later, row] = differences.count
        p[row, later] = p[later, row] = differences.p
    return Paired(mean, low, high, count, p)


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


def _moments(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(K,) mean, standard error (NaN below two numbers) and count."""
    parts = []
    for columns in column_blocks(values):
        block = values[:, columns]
        valid = np.isfinite(block)
        mean = means(block)
        count = valid.sum(axis=0)
        squares = (np.where(valid, block - np.nan_to_num(mean), 0).astype(np.float64) ** 2).sum(axis=0)
        parts.append((mean, _error(squares, count), count))
    if not parts:
        return np.empty(0), np.empty(0), np.empty(0, np.int64)
    mean, error, count = (np.concatenate(part) for part in zip(*parts, strict=True))
    return mean, error, count


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


def _error(squares: np.ndarray, count: np.ndarray) -> np.ndarray:
    """Standard error of a mean from the sum of squared deviations; NaN below two numbers."""
    free = np.where(count > 1, count * (count - 1.0), np.nan)
    error: np.ndarray = np.sqrt(squares / free)
    return error


def _paired(first: np.ndarray, second: np.ndarray, share: np.ndarray) -> Paired:
    """As `paired`, of (K, N) arrays: a column at a time lies together in memory."""
    columns, images = first.shape
    step = max(1, _CACHED // max(images, 1))
    blocks = [slice(left, left + step) for left in range(0, columns, step)]
    parts = [_differences(first[block], second[block], share[block]) for block in blocks]
    if not parts:
        none = np.empty(0)
        return Paired(none, none, none, np.empty(0, np.int64), none)
    return Paired(*(np.concatenate(part) for part in zip(*parts, strict=True)))


def _differences(first: np.ndarray, second: np.ndarray, share: np.ndarray) -> tuple[np.ndarray, ...]:
    """The fields of `Paired`, (k,) each."""
    both = np.isfinite(first) & np.isfinite(second)
    first_numbers, second_numbers = (np.where(both, side, 0).astype(np.float64) for side in (first, second))
    difference = first_numbers - second_numbers
    count = both.sum(axis=1)
    mean = np.divide(difference.sum(axis=1), count, out=np.full(len(count), np.nan), where=count > 0)
    error = _error((((difference - np.nan_to_num(mean)[:, None]) * both) ** 2).sum(axis=1), count)
    half = student(count) * error
    low, high = mean - half, mean + half
    low[share], high[share] = _newcombe(first_numbers[share] > 0.5, second_numbers[share] > 0.5, both[share])
    p = np.where(count < FEWEST, np.nan, 1.0)
    alike, up, down = _one_size(difference, np.maximum(np.abs(first_numbers), np.abs(second_numbers)))
    tested = (count >= FEWEST) & alike
    fewer = np.minimum(up, down)[tested]
    p[tested] = np.minimum(1, 2 * stats.binom.cdf(fewer, (up + down)[tested], 0.5))
    tested = (count >= FEWEST) & ~alike
    p[tested] = 2 * stats.t.sf(np.abs(mean[tested] / error[tested]), count[tested] - 1)
    return mean, low, high, count, p


def _one_size(difference: np.ndarray, scale: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(k,) whether all differences (k, N) that are not 0 have one size, up to the rounding of numbers as large as
    `scale`, and how many are above and below 0."""
    slack = _EQUAL * scale
    size = np.abs(difference)
    moved = size > slack
    largest, smallest = (np.where(moved, size, filler) for filler in (0, np.inf))
    spread = largest.max(axis=1, initial=0) - smallest.min(axis=1, initial=np.inf)
    alike = spread <= np.where(moved, slack, 0).max(axis=1, initial=0)
    return alike, (moved & (difference > 0)).sum(axis=1), (moved & (difference < 0)).sum(axis=1)


def _newcombe(first: np.ndarray, second: np.ndarray, both: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Interval of the difference of two shares of the same images, from bool (k, N) arrays.

    His method 10, with Wilson's bounds corrected for continuity; without that its coverage falls below .94.

    Source: R. G. Newcombe, *Improved confidence intervals for the difference between binomial proportions based on
    paired data*, Statist. Med. 17 (1998), 2635-2650.
    """
    count = both.sum(axis=1)
    size = np.where(count > 0, count, np.nan)
    neither = (both & ~first & ~second).sum(axis=1)
    joint = (both & first & second).sum(axis=1)
    only_first, only_second = (both & first & ~second).sum(axis=1), (both & ~first & second).sum(axis=1)
    share_first, share_second = (joint + only_first) / size, (joint + only_second) / size
    low_first, high_first = wilson(joint + only_first, count)
    low_second, high_second = wilson(joint + only_second, count)
    product = joint * neither - only_first * only_second
    product = np.where(product > count / 2, product - count / 2, np.where(product >= 0, 0, product))
    margins = np.sqrt(
        (joint + only_first).astype(float) * (only_second + neither) * (joint + only_second) * (only_first + neither)
    )
    phi = np.divide(product, margins, out=np.zeros(len(size)), where=margins > 0)
    down_first, up_first = share_first - low_first, high_first - share_first
    down_second, up_second = share_second - low_second, high_second - share_second
    below = down_first**2 - 2 * phi * down_first * up_second + up_second**2
    above = down_second**2 - 2 * phi * down_second * up_first + up_first**2
    middle = share_first - share_second
    return middle - np.sqrt(np.maximum(below, 0)), middle + np.sqrt(np.maximum(above, 0))
