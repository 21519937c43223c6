"""Means over images with intervals, paired differences with p-values, leaders and ranks.

Rows are images, NaN or infinity is no number, and every comparison is made on the images that both methods have.

    mean      m +- t s / sqrt(n), with the quantiles t of the bootstrap's studentised means up to `STUDENTISED` images
              (Efron, 1979; Hall, 1988) and of Student's law above and below it
    share     of a column of 0 and 1: Wilson (1927)
    p         of a paired difference: Student's t test; exact binomial where all differences that are not 0 have one
              size, as those of 0 and 1 have (McNemar, 1947); none below `FEWEST` images
    many      Holm (1979), `holm`

Docs: docs/statistics.md has what a simulation says of all of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy import stats

from ssig.randomness import Stream

RESAMPLES = 2000
CONFIDENCE = 0.95
ALPHA = 0.05
FEWEST = 10  # images without which nothing is called better, worse, or a lead
STUDENTISED = 2000  # images up to which the bootstrap's quantiles are taken
_CHUNK = 2**22  # weights held at once, 32 MiB: keeps memory flat in the number of images
_COLUMNS = 64
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

    @property
    def separated(self) -> np.ndarray:
        """(K,) bool, whether the interval excludes 0."""
        return (self.low > 0) | (self.high < 0)


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


@dataclass(frozen=True)
class ColumnLead:
    """Who may lead a column, M methods.

    Attributes:
        leader: the method that is ahead of each other one on the images that both have; None where there is none.
        p: the largest p-value of the leader against another method. A lead is claimed where ``holm`` of the p of all
            columns of a model is at most `ALPHA`. 1 where nobody can lead, NaN where nothing could be compared: such a
            column is not counted.
        rival: the method that stands most in the way; None where there is no leader.
        comparisons: leader minus each method, (M,) arrays; all NaN without a leader, and NaN at the leader itself.
        reason: why nobody can lead, whatever the p: ``""``, ``alone`` (fewer than two methods have the column),
            ``few`` (too few images in common with the rival, or of all pairs), ``tie`` (the rival has an equal mean),
            ``circle`` (nobody is ahead of all others, since the methods keep different images), ``undirected``.
        pairs: each method (row) minus each other (column), (M, M) arrays.
    """

    leader: int | None
    p: float
    rival: int | None
    comparisons: Paired
    reason: str
    pairs: Paired


@dataclass(frozen=True)
class Grouping:
    """Friedman's test of M methods over images, with Nemenyi's critical difference.

    Attributes:
        ranks: (M,) average rank, 1 the best; NaN for a method that lacks a column, which is left out.
        p: of Iman and Davenport's F; NaN below `FEWEST` images or with fewer than two methods.
        critical_difference: two average ranks that differ by more are distinguished, at `ALPHA` over all pairs; NaN as
            for p.
        count: images that have all columns of all these methods.
        groups: methods that are not distinguished, best first: each a longest run in the order of ranks. One group of
            all where p exceeds `ALPHA`; empty without p.
    """

    ranks: np.ndarray
    p: float
    critical_difference: float
    count: int
    groups: tuple[tuple[int, ...], ...]


def means(values: np.ndarray) -> np.ndarray:
    """(K,) means of the numbers in each column of `values` (N, K); NaN where there are none."""
    valid = np.isfinite(values)
    count = valid.sum(axis=0)
    total = np.where(valid, values, 0).sum(axis=0, dtype=np.float64)
    mean: np.ndarray = np.divide(total, count, out=np.full(values.shape[1], np.nan), where=count > 0)
    return mean


def intervals(values: np.ndarray, shares: np.ndarray | None = None, *, seed: int = 0) -> Intervals:
    """Means of columns with their `CONFIDENCE` intervals.

    Args:
        values: (N, K) float; NaN or infinity is no number and is masked in its column alone.
        shares: (K,) bool, the columns that are 0 or 1; none by default.
        seed: of the bootstrap's draws; equal seeds and N redraw the same images, whatever the columns.
    """
    share = np.zeros(values.shape[1], bool) if shares is None else np.asarray(shares, bool)
    mean, error, count = _moments(values)
    tail = np.full(len(mean), np.nan)
    known = count > 1
    tail[known] = stats.t.ppf(0.5 + CONFIDENCE / 2, count[known] - 1)
    low, high = mean - tail * error, mean + tail * error
    wilson_low, wilson_high = wilson(mean * count, count)
    return Intervals(
        mean=mean, low=np.where(share, wilson_low, low), high=np.where(share, wilson_high, high), count=count
    )


def wilson(successes: np.ndarray, count: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper bound of Wilson's interval of a share; NaN where `count` is 0.

    Source: E. B. Wilson, *Probable inference*, JASA 22 (1927), 209-212.
    """
    z = stats.norm.ppf(0.5 + CONFIDENCE / 2)
    size = np.where(count > 0, count, np.nan)
    centre = (successes + z**2 / 2) / (size + z**2)
    half = z / (size + z**2) * np.sqrt(np.maximum(successes * (size - successes) / size, 0) + z**2 / 4)
    return np.where(successes <= 0, 0, centre - half) + 0 * size, np.where(
        successes >= size, 1, centre + half
    ) + 0 * size


def paired(first: np.ndarray, second: np.ndarray, shares: np.ndarray | None = None) -> Paired:
    """`first` minus `second` on the images that both have, column by column.

    Args:
        first, second: (N, K) float, or of shapes that broadcast to it.
        shares: (K,) bool, the columns that are 0 or 1 on both sides; none by default.
    """
    first, second = np.broadcast_arrays(first, second)
    columns = first.shape[1]
    share = np.zeros(columns, bool) if shares is None else np.broadcast_to(np.asarray(shares, bool), columns)
    blocks = [
        _paired(first[:, block], second[:, block], share[block])
        for block in (slice(left, left + _COLUMNS) for left in range(0, columns, _COLUMNS))
    ]
    names = ("mean", "low", "high", "count", "p")
    if not blocks:
        return Paired(*(np.empty(0) for _ in names))
    return Paired(*(np.concatenate([getattr(block, name) for block in blocks]) for name in names))


def pairwise(values: np.ndarray, share: bool = False) -> Paired:
    """Each method (row) minus each other (column) of one metric column, (M, M) arrays; NaN and 0 images on the
    diagonal.

    Args:
        values: (N, M) float.
        share: whether the column is 0 or 1.
    """
    methods = values.shape[1]
    mean, low, high, p = (np.full((methods, methods), np.nan) for _ in range(4))
    count = np.zeros((methods, methods), np.int64)
    for row in range(methods - 1):
        rest = slice(row + 1, methods)
        found = paired(values[:, row : row + 1], values[:, rest], np.full(methods - row - 1, share))
        mean[row, rest], mean[rest, row] = found.mean, -found.mean
        low[row, rest], low[rest, row] = found.low, -found.high
        high[row, rest], high[rest, row] = found.high, -found.low
        count[row, rest] = count[rest, row] = found.count
        p[row, rest] = p[rest, row] = found.p
    return Paired(mean, low, high, count, p)


def holm(p: np.ndarray) -> np.ndarray:
    """p-values adjusted for their number, of the same shape; NaN stays NaN and does not count.

    Source: S. Holm, *A simple sequentially rejective multiple test procedure*, Scand. J. Statist. 6 (1979), 65-70.
    """
    adjusted = np.full(np.shape(p), np.nan)
    known = np.isfinite(p)
    found = np.asarray(p, np.float64)[known]
    order = np.argsort(found, kind="stable")
    steps = np.maximum.accumulate(found[order] * np.arange(len(found), 0, -1))
    result = np.empty(len(found))
    result[order] = np.minimum(steps, 1)
    adjusted[known] = result
    return adjusted


def lead(values: np.ndarray, sign: int, share: bool = False) -> ColumnLead:
    """Who is ahead of each other method on the images that both have, and how surely.

    To lead, a method must beat each other one, so the p-value of the lead is the largest of them (Berger, 1982): more
    methods make it no likelier.

    Args:
        values: (N, M) float, one metric column of every method.
        sign: 1 if higher is better, -1 if lower is, 0 if neither.
        share: whether the column is 0 or 1.
    """
    pairs = pairwise(values, share)
    present = np.flatnonzero(np.isfinite(values).any(axis=0))

    def nobody(reason: str, p: float) -> ColumnLead:
        none = np.full(values.shape[1], np.nan)
        return ColumnLead(None, p, None, Paired(none, none, none, np.zeros(len(none), int), none), reason, pairs)

    if sign == 0 or len(present) < 2:
        return nobody("undirected" if sign == 0 else "alone", np.nan)
    if not np.isfinite(pairs.p).any():
        return nobody("few", np.nan)
    ahead = sign * pairs.mean[np.ix_(present, present)]
    np.fill_diagonal(ahead, 0)
    # Of methods without a common image nobody is behind; `few` says so below.
    candidates = present[(np.isnan(ahead) | (ahead >= 0)).all(axis=1)]
    if not len(candidates):
        return nobody("circle", 1.0)
    leader = int(max(candidates, key=lambda one: np.nansum(sign * pairs.mean[one])))
    comparisons = Paired(*(array[leader] for array in (pairs.mean, pairs.low, pairs.high, pairs.count, pairs.p)))
    others = present[present != leader]
    level = np.where(np.isnan(comparisons.p[others]), np.inf, comparisons.p[others])
    # Of rivals with equal p, as 1 twice, the one that is nearest.
    rival = int(others[np.lexsort((np.abs(np.nan_to_num(comparisons.mean[others])), -level))[0]])
    reason = "few" if np.isnan(comparisons.p[rival]) else "tie" if comparisons.mean[rival] == 0 else ""
    p = 1.0 if reason else float(comparisons.p[rival])
    return ColumnLead(leader, p, rival, comparisons, reason, pairs)


def rank_intervals(p: np.ndarray, better: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lowest and highest rank (M,) that each method may have, 1 the best; all hold together at `CONFIDENCE`.

    A method is at best behind those that are surely better and at worst ahead of those that are surely worse, where
    surely means by Holm over all pairs.

    Args:
        p: (M, M) symmetric p-values of the pairs, not adjusted, as `pairwise` has them; NaN where there is none.
        better: (M, M) bool, whether the row's method has the better mean than the column's.

    Source: D. Mohamad, J. Goeman, E. van Zwet, *Simultaneous confidence intervals for ranks with application to
    ranking institutions*, Biometrics 78 (2022), 238-247.
    """
    methods = len(p)
    upper = np.triu_indices(methods, 1)
    adjusted = np.full((methods, methods), np.nan)
    adjusted[upper] = holm(p[upper])
    sure = np.fmin(adjusted, adjusted.T) <= 1 - CONFIDENCE
    above, below = (sure & better.T).sum(axis=1), (sure & better).sum(axis=1)
    return 1 + above, methods - below


def friedman(values: np.ndarray, signs: np.ndarray) -> Grouping:
    """Whether methods differ over a group of columns, and which are not told apart.

    Each image ranks the methods once: by the average of their ranks in its columns, so that columns of one image,
    which depend on each other, count as one judge. Ties share their average rank.

    Args:
        values: (N, M, C) float.
        signs: (C,) 1 or -1 as higher or lower is better.

    Sources: J. Demsar, *Statistical comparisons of classifiers over multiple data sets*, JMLR 7 (2006), 1-30; R. L.
    Iman, J. M. Davenport, *Approximations of the critical region of the Friedman statistic*, Comm. Statist. A 9
    (1980), 571-595.
    """
    ranks = np.full(values.shape[1], np.nan)
    chosen = np.flatnonzero(np.isfinite(values).any(axis=0).all(axis=1))
    kept = values[:, chosen]
    kept = kept[np.isfinite(kept).all(axis=(1, 2))]
    count, methods = len(kept), len(chosen)
    if count < FEWEST or methods < 2 or not len(signs):
        return Grouping(ranks, np.nan, np.nan, count, ())
    within = stats.rankdata(-kept.astype(np.float64) * np.asarray(signs), axis=1).mean(axis=2)
    judged = stats.rankdata(within.round(9), axis=1)
    average = judged.mean(axis=0)
    ranks[chosen] = average
    spread = ((judged - (methods + 1) / 2) ** 2).sum()
    between = count * ((average - (methods + 1) / 2) ** 2).sum()
    p = _iman_davenport(count, methods, between, spread)
    quantile = stats.studentized_range.ppf(1 - ALPHA, methods, np.inf)
    difference = float(quantile / np.sqrt(2) * np.sqrt(methods * (methods + 1) / (6 * count)))
    order = np.argsort(average, kind="stable")
    width = np.inf if p > ALPHA else difference
    return Grouping(ranks, p, difference, count, _runs(average[order], chosen[order], width))


def _iman_davenport(count: int, methods: int, between: float, spread: float) -> float:
    """p of F = (n - 1) B / (S - B): B between the methods and S in all, sums of squares of the ranks."""
    if spread == 0:
        return 1.0
    within = spread - between
    if within <= 1e-9 * spread:
        return float(np.exp(-(count - 1) * np.sum(np.log(np.arange(2, methods + 1)))))  # every image ranks alike
    return float(stats.f.sf((count - 1) * between / within, methods - 1, (methods - 1) * (count - 1)))


def _runs(ranks: np.ndarray, names: np.ndarray, width: float) -> tuple[tuple[int, ...], ...]:
    """The longest runs of ascending `ranks` that are no wider than `width`."""
    ends = [int(np.searchsorted(ranks, rank + width, side="right")) for rank in ranks]
    starts = [start for start, end in enumerate(ends) if start == 0 or end > ends[start - 1]]
    return tuple(tuple(int(name) for name in names[start : ends[start]]) for start in starts)


def _moments(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(K,) mean, standard error (NaN below two numbers) and count."""
    parts = []
    for left in range(0, values.shape[1], _COLUMNS):
        block = values[:, left : left + _COLUMNS]
        valid = np.isfinite(block)
        mean = means(block)
        count = valid.sum(axis=0)
        squares = (np.where(valid, block - np.nan_to_num(mean), 0).astype(np.float64) ** 2).sum(axis=0)
        parts.append((mean, _error(squares, count), count))
    if not parts:
        return np.empty(0), np.empty(0), np.empty(0, np.int64)
    mean, error, count = (np.concatenate(part) for part in zip(*parts, strict=True))
    return mean, error, count


def _error(squares: np.ndarray, count: np.ndarray) -> np.ndarray:
    """Standard error of a mean from the sum of squared deviations; NaN below two numbers."""
    free = np.where(count > 1, count * (count - 1.0), np.nan)
    error: np.ndarray = np.sqrt(squares / free)
    return error


def _paired(first: np.ndarray, second: np.ndarray, share: np.ndarray) -> Paired:
    both = np.isfinite(first) & np.isfinite(second)
    one, other = (np.where(both, side, 0).astype(np.float64) for side in (first, second))
    difference = one - other
    count = both.sum(axis=0)
    mean = np.divide(difference.sum(axis=0), count, out=np.full(len(count), np.nan), where=count > 0)
    error = _error((np.where(both, difference - np.nan_to_num(mean), 0) ** 2).sum(axis=0), count)
    known = count > 1
    tail = np.full(len(count), np.nan)
    tail[known] = stats.t.ppf(0.5 + CONFIDENCE / 2, count[known] - 1)
    low, high = mean - tail * error, mean + tail * error
    if share.any():
        bounds = _newcombe(one[:, share] > 0.5, other[:, share] > 0.5, both[:, share])
        low[share], high[share] = bounds
    return Paired(mean, low, high, count, _p(one, other, difference, mean, error, count))


def _p(
    one: np.ndarray, other: np.ndarray, difference: np.ndarray, mean: np.ndarray, error: np.ndarray, count: np.ndarray
) -> np.ndarray:
    """(K,) two-sided p-values; the differences are 0 where an image lacks one of the two."""
    slack = _EQUAL * np.maximum(np.abs(one).max(axis=0, initial=0), np.abs(other).max(axis=0, initial=0))
    size = np.abs(difference)
    moved = size > slack
    largest = size.max(axis=0, initial=0)
    smallest = np.where(moved, size, np.inf).min(axis=0, initial=np.inf)
    alike = largest <= np.where(np.isfinite(smallest), smallest, largest) + slack
    up, down = (moved & (difference > 0)).sum(axis=0), (moved & (difference < 0)).sum(axis=0)
    sign_test = np.minimum(1, 2 * stats.binom.cdf(np.minimum(up, down), up + down, 0.5))
    enough = count >= FEWEST
    student = enough & ~alike & (error > 0)
    p = np.where(enough, sign_test, np.nan)
    p[student] = 2 * stats.t.sf(np.abs(mean[student] / error[student]), count[student] - 1)
    return p


def _newcombe(first: np.ndarray, second: np.ndarray, both: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Interval of the difference of two shares of the same images, his method 10.

    Source: R. G. Newcombe, *Improved confidence intervals for the difference between binomial proportions based on
    paired data*, Statist. Med. 17 (1998), 2635-2650.
    """
    count = both.sum(axis=0)
    size = np.where(count > 0, count, np.nan)
    neither = (both & ~first & ~second).sum(axis=0)
    joint = (both & first & second).sum(axis=0)
    only_first, only_second = (both & first & ~second).sum(axis=0), (both & ~first & second).sum(axis=0)
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


def skewness(values: np.ndarray) -> np.ndarray:
    """(K,) sample skewness of each column of `values` (N, K); NaN of fewer than three numbers or of equal ones."""
    result = np.full(values.shape[1], np.nan)
    for column in range(values.shape[1]):
        known = values[np.isfinite(values[:, column]), column].astype(np.float64)
        if len(known) > 2 and np.ptp(known) > 0:
            result[column] = stats.skew(known)
    return result


def reached_coverage(skewness: float, count: int) -> float:
    """The share of simulated samples whose interval held the true mean."""
    return np.nan


def bootstrap(
    values: np.ndarray, *, resamples: int = RESAMPLES, confidence: float = CONFIDENCE, seed: int = 0
) -> Intervals:
    """Percentile intervals: too narrow. To be deleted; use `intervals`."""
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
