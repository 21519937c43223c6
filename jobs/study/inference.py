"""Statistics over images, as reports have them, and over networks, which reports do not have.

    over networks  random effects: tau^2 of Paule and Mandel, the interval of Hartung and Knapp, never narrower than
                   that of known errors
    joint          images resampled at once for all networks, since all networks explain the same images
    ranks          Spearman's correlation of the means over images of methods, with images resampled

Sources: R. C. Paule, J. Mandel, J. Res. NBS 87 (1982); G. Knapp, J. Hartung, Statist. Med. 22 (2003), 2693-2710; B.
Efron, Ann. Statist. 7 (1979).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TypeVar

import numpy as np
from scipy import optimize, stats

from pipeline.report.pairs import paired
from pipeline.report.statistics import ALPHA, CONFIDENCE, FEWEST, holm, intervals, student, wilson
from ssig.randomness import Stream

RESAMPLES = 999
SEED = 0  # of the images that are drawn
FEWEST_METHODS = 4  # without which no rank correlation over methods is given
_TAIL = 100 * (1 - CONFIDENCE) / 2


@dataclass(frozen=True)
class Estimate:
    """A number with its 95 % interval; NaN where there is none.

    Attributes:
        count: images, or networks, behind it.
        p: of the test that it is 0.
    """

    mean: float
    low: float
    high: float
    count: int
    p: float = float("nan")

    def __neg__(self) -> Estimate:
        return Estimate(-self.mean, -self.high, -self.low, self.count, self.p)

    @property
    def sign(self) -> int:
        """1 or -1 where the interval leaves out 0, else 0."""
        return int(self.low > 0) - int(self.high < 0)

    @property
    def error(self) -> float:
        """Standard error, by which the interval was made."""
        return float((self.high - self.low) / 2 / student(np.array([self.count]))[0])


NOTHING = Estimate(float("nan"), float("nan"), float("nan"), 0)


@dataclass(frozen=True, kw_only=True)
class Tested:
    """An estimate that is tested together with others.

    Attributes:
        estimate: with its own p.
        p: corrected for all that are tested together.
    """

    estimate: Estimate
    p: float = float("nan")

    @property
    def sign(self) -> int:
        """1 or -1 where the estimate is surely above or below 0, else 0."""
        return int(np.sign(self.estimate.mean)) if self.p < ALPHA else 0


Row = TypeVar("Row", bound=Tested)
Key = TypeVar("Key", bound=Hashable)


def signs(rows: Iterable[Row], key: Callable[[Row], Key]) -> dict[Key, set[int]]:
    """Key -> the signs of its rows."""
    found: dict[Key, set[int]] = {}
    for row in rows:
        found.setdefault(key(row), set()).add(row.sign)
    return found


def corrected(rows: Sequence[Row]) -> list[Row]:
    """The same with p-values by Holm over all of them."""
    adjusted = holm(np.array([row.estimate.p for row in rows]))
    return [replace(row, p=float(p)) for row, p in zip(rows, adjusted, strict=True)]


def difference(first: np.ndarray, second: np.ndarray, share: bool = False) -> Estimate:
    """Mean of first minus second over the images (N,) that have both, with Student's interval and test."""
    found = paired(first[:, None], second[:, None], np.array([share]))
    return Estimate(
        float(found.mean[0]), float(found.low[0]), float(found.high[0]), int(found.count[0]), float(found.p[0])
    )


def mean_of(values: np.ndarray) -> Estimate:
    """Mean of (N,) numbers with the interval that reports give one; NaN is no number."""
    found = intervals(values[:, None])
    return Estimate(float(found.mean[0]), float(found.low[0]), float(found.high[0]), int(found.count[0]))


def mean_difference(values: np.ndarray, dependence: float = 1.0) -> Estimate:
    """Mean of (N,) differences, with Student's interval and, of `FEWEST` at least, his test.

    Args:
        values: NaN is no number.
        dependence: factor of the standard error: 2 for the shares of a U-statistic of pairs.
    """
    values = values[np.isfinite(values)]
    count = len(values)
    if count < 2:
        return Estimate(float(values.mean()) if count else float("nan"), float("nan"), float("nan"), count)
    mean, error = float(values.mean()), dependence * float(values.std(ddof=1)) / np.sqrt(count)
    half = float(student(np.array([count]))[0]) * error
    p = float(2 * stats.t.sf(abs(mean) / error, count - 1)) if error > 0 else float(mean == 0)
    return Estimate(mean, mean - half, mean + half, count, p if count >= FEWEST else float("nan"))


def share_of(values: np.ndarray) -> Estimate:
    """Mean of (N,) numbers 0 and 1, with Wilson's interval."""
    values = values[np.isfinite(values)]
    count = np.array([len(values)])
    low, high = wilson(np.array([values.sum()]), count)
    return Estimate(float(values.mean()), float(low[0]), float(high[0]), len(values)) if len(values) else NOTHING


def preferred(differences: np.ndarray) -> Estimate:
    """The share of (N,) differences above 0, of which those of 0 count half, with Wilson's interval."""
    differences = differences[np.isfinite(differences)]
    if not len(differences):
        return NOTHING
    better = (np.sign(differences) + 1).sum() / 2
    low, high = wilson(np.array([better]), np.array([len(differences)]))
    return Estimate(float(better) / len(differences), float(low[0]), float(high[0]), len(differences))


def over_networks(estimates: list[Estimate]) -> Estimate:
    """The mean over networks, of at least two, by random effects with the interval of Hartung and Knapp."""
    found = [each for each in estimates if np.isfinite([each.mean, each.low, each.high]).all() and each.error > 0]
    if len(found) < 2:
        return NOTHING
    means, variances = np.array([each.mean for each in found]), np.array([each.error**2 for each in found])
    between = _between(means, variances)
    weights = 1 / (variances + between)
    mean = float((weights * means).sum() / weights.sum())
    free = len(found) - 1
    scale = max(1.0, float((weights * (means - mean) ** 2).sum() / free))
    error = float(np.sqrt(scale / weights.sum()))
    half = float(stats.t.ppf(0.5 + CONFIDENCE / 2, free)) * error
    return Estimate(mean, mean - half, mean + half, len(found), float(2 * stats.t.sf(abs(mean) / error, free)))


def _between(means: np.ndarray, variances: np.ndarray) -> float:
    """The variance between networks at which the weighted squares are what is expected."""
    free = len(means) - 1

    def excess(between: float) -> float:
        weights = 1 / (variances + between)
        mean = (weights * means).sum() / weights.sum()
        return float((weights * (means - mean) ** 2).sum()) - free

    if excess(0.0) <= 0:
        return 0.0
    upper = float(np.var(means, ddof=1)) * free + float(variances.max())
    while excess(upper) > 0:
        upper *= 2
    return float(optimize.brentq(excess, 0.0, upper))


def joint(values: np.ndarray) -> Estimate:
    """The mean over networks of means over images, (N, K) with NaN; each image is drawn for all networks at once."""
    held = np.isfinite(values).any(axis=1)
    values = values[held]
    if len(values) < 2:
        return NOTHING
    counts = resamples(len(values))
    valid = np.isfinite(values)
    sums, sizes = counts @ np.where(valid, values, 0), counts @ valid
    drawn = np.divide(sums, sizes, out=np.full(sums.shape, np.nan), where=sizes > 0).mean(axis=1)
    low, high = np.nanpercentile(drawn, [_TAIL, 100 - _TAIL])
    return Estimate(float(np.nanmean(values, axis=0).mean()), float(low), float(high), len(values))


@lru_cache(8)
def resamples(count: int) -> np.ndarray:
    """(`RESAMPLES`, count): how often each image is drawn."""
    draws = Stream(SEED).generator(0).integers(count, size=(RESAMPLES, count))
    return np.stack([np.bincount(row, minlength=count) for row in draws]).astype(np.float64)


def rank_correlation(first: np.ndarray, second: np.ndarray) -> tuple[Estimate, int]:
    """Spearman's correlation over methods of two columns' means over images, (N, M) each, images resampled.

    There is none below `FEWEST_METHODS` methods or `FEWEST` images. Methods without any number are left out, and then
    the images for which another method has none.

    Returns:
        The correlation, whose `count` is that of the methods; how many images it is of.
    """
    methods = np.isfinite(first).any(axis=0) & np.isfinite(second).any(axis=0)
    first, second = first[:, methods], second[:, methods]
    images = np.isfinite(first).all(axis=1) & np.isfinite(second).all(axis=1)
    first, second = first[images], second[images]
    count = len(first)
    if methods.sum() < FEWEST_METHODS or count < FEWEST:
        return NOTHING, count
    counts = resamples(count)
    drawn = spearman(counts @ first, counts @ second)
    if not np.isfinite(drawn).any():
        return NOTHING, count
    low, high = np.nanpercentile(drawn, [_TAIL, 100 - _TAIL])
    value = float(spearman(first.mean(axis=0)[None], second.mean(axis=0)[None])[0])
    return Estimate(value, float(low), float(high), int(methods.sum())), count


def spearman(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """(R,) Spearman's correlation of each row of (R, M) with the same row of the other; NaN where all are equal."""
    return pearson(stats.rankdata(first, axis=1), stats.rankdata(second, axis=1))


def pearson(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """(R,) Pearson's correlation of each row of (R, M) with the same row of the other; NaN where all are equal."""
    first, second = (rows - rows.mean(axis=1, keepdims=True) for rows in (first, second))
    norms = np.sqrt((first**2).sum(axis=1) * (second**2).sum(axis=1))
    result: np.ndarray = np.divide(
        (first * second).sum(axis=1), norms, out=np.full(len(first), np.nan), where=norms > 0
    )
    return result


def partial_rank_correlation(first: np.ndarray, second: np.ndarray, given: np.ndarray) -> Estimate:
    """Spearman's correlation over images of (N,) and (N,) with the ranks of `given` (N, K) regressed out.

    The interval is Fisher's, with the variance 1.06 / (N - K - 3) of ranks (Fieller, Hartley, Pearson 1957).
    """
    held = np.isfinite(first) & np.isfinite(second) & np.isfinite(given).all(axis=1)
    count, taken = int(held.sum()), given.shape[1]
    if count < taken + 5:
        return NOTHING
    ranks = [stats.rankdata(values[held]) for values in (first, second)]
    known = np.column_stack([np.ones(count), *(stats.rankdata(column[held]) for column in given.T)])
    left = [values - known @ np.linalg.lstsq(known, values, rcond=None)[0] for values in ranks]
    value = float(pearson(left[0][None], left[1][None])[0])
    if not abs(value) < 1:
        return Estimate(value, value, value, count)
    centre, half = np.arctanh(value), stats.norm.ppf(0.5 + CONFIDENCE / 2) * np.sqrt(1.06 / (count - taken - 3))
    p = float(2 * stats.norm.sf(abs(centre) / np.sqrt(1.06 / (count - taken - 3))))
    return Estimate(value, float(np.tanh(centre - half)), float(np.tanh(centre + half)), count, p)
