"""Paired differences of methods, from numbers that come some images at a time: memory does not grow with the images.

A difference is taken on the images that both sides have; NaN or infinity is no number.

    difference   Student's interval; of two shares Newcombe's, where every number is 0 or 1: ties give fractions
    p            Student's test of the paired differences; the exact sign test where all differences that are not 0
                 have one size, as those of 0 and 1 have (McNemar); none below `FEWEST` images
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from scipy import stats

from pipeline.report.statistics import CACHED, FEWEST, Paired, squares_between, standard_error, student, wilson

_COLUMNS = 64  # at once
_EQUAL = 4 * float(np.finfo(np.float32).eps)  # two differences of float32 numbers, relative to the numbers
_ROUNDING = 1e-6  # a deviation that is the rounding of float32 numbers, relative to the largest difference


class PairedSums:
    """Collects what comparisons of K pairs of columns need.

    Args:
        shares: (K,) bool, the pairs that are 0 or 1 on both sides, but for ties.
    """

    def __init__(self, shares: np.ndarray) -> None:
        columns = len(shares)
        self._shares, self._fractions = np.asarray(shares, bool), np.zeros(columns, bool)
        self._count, self._up, self._down = np.zeros((3, columns), np.int64)
        self._total, self._squares = np.zeros((2, columns))
        # Of the sizes of the differences that are not 0, and the rounding of the numbers behind them.
        self._largest, self._smallest, self._slack = np.zeros(columns), np.full(columns, np.inf), np.zeros(columns)
        self._joint, self._only_first, self._only_second = np.zeros((3, columns), np.int64)

    def add(self, first: np.ndarray, second: np.ndarray) -> None:
        """Adds images: (n, K) numbers of both sides, or of shapes that broadcast to it; NaN or infinity is none."""
        first, second = np.broadcast_arrays(first, second)
        for columns in _blocks(first.shape[1], _COLUMNS):
            width = min(_COLUMNS, first.shape[1])
            for images in _blocks(len(first), max(1, CACHED // width)):
                self._add(columns, first[images, columns].T, second[images, columns].T)

    def paired(self) -> Paired:
        """First minus second on the images that both have."""
        count = self._count
        mean = np.divide(self._total, count, out=np.full(len(count), np.nan), where=count > 0)
        error = standard_error(self._squares, count)
        half = student(count) * error
        low, high = mean - half, mean + half
        low[self._shares], high[self._shares] = (np.clip(each[self._shares], -1, 1) for each in (low, high))
        share = self._shares & ~self._fractions
        counts = (array[share] for array in (count, self._joint, self._only_first, self._only_second))
        low[share], high[share] = _newcombe(*counts)
        p = np.where(count < FEWEST, np.nan, 1.0)
        alike = self._largest - self._smallest <= self._slack
        tested = (count >= FEWEST) & alike
        fewer = np.minimum(self._up, self._down)[tested]
        p[tested] = np.minimum(1, 2 * stats.binom.cdf(fewer, (self._up + self._down)[tested], 0.5))
        tested = (count >= FEWEST) & ~alike
        p[tested] = 2 * stats.t.sf(np.abs(mean[tested] / error[tested]), count[tested] - 1)
        return Paired(mean, low, high, count, p)

    def deviations(self) -> np.ndarray:
        """(K,) sample standard deviation of the differences; 0 of fewer than two, or where rounding alone differs."""
        deviation = np.sqrt(self._squares / np.maximum(self._count - 1, 1))
        return np.where(deviation > _ROUNDING * self._largest, deviation, 0) * (self._largest > 0)

    def _add(self, columns: slice, first: np.ndarray, second: np.ndarray) -> None:
        """Adds (k, n) numbers of some pairs, of which those of one pair lie together in memory."""
        both = np.isfinite(first) & np.isfinite(second)
        first_numbers, second_numbers = (
            np.where(both, side, 0).astype(np.float64, order="C") for side in (first, second)
        )
        difference = first_numbers - second_numbers
        self._add_moments(columns, difference, both)
        self._add_sizes(columns, difference, np.maximum(np.abs(first_numbers), np.abs(second_numbers)))
        share = self._shares[columns]
        if share.any():
            sides = first_numbers[share], second_numbers[share]
            self._fractions[columns][share] |= np.any([(side != 0) & (side != 1) for side in sides], axis=(0, 2))
            one, other = (side > 0.5 for side in sides)
            for total, hits in (
                (self._joint, one & other),
                (self._only_first, one & ~other),
                (self._only_second, ~one & other),
            ):
                total[columns][share] += (both[share] & hits).sum(axis=1)

    def _add_moments(self, columns: slice, difference: np.ndarray, both: np.ndarray) -> None:
        before, added, sums = self._count[columns], both.sum(axis=1), difference.sum(axis=1)
        mean, own = self._total[columns] / np.maximum(before, 1), sums / np.maximum(added, 1)
        squares = (((difference - own[:, None]) * both) ** 2).sum(axis=1)
        self._squares[columns] += squares + squares_between(before, mean, added, own)
        self._count[columns] += added
        self._total[columns] += sums

    def _add_sizes(self, columns: slice, difference: np.ndarray, scale: np.ndarray) -> None:
        """Adds the sizes of the differences that are not 0, up to the rounding of numbers as large as `scale`."""
        slack = _EQUAL * scale
        size = np.abs(difference)
        moved = size > slack
        self._largest[columns] = np.maximum(self._largest[columns], np.where(moved, size, 0).max(axis=1))
        self._smallest[columns] = np.minimum(self._smallest[columns], np.where(moved, size, np.inf).min(axis=1))
        self._slack[columns] = np.maximum(self._slack[columns], np.where(moved, slack, 0).max(axis=1))
        self._up[columns] += (moved & (difference > 0)).sum(axis=1)
        self._down[columns] += (moved & (difference < 0)).sum(axis=1)


def paired(first: np.ndarray, second: np.ndarray, shares: np.ndarray | None = None) -> Paired:
    """`first` minus `second` on the images that both have, column by column.

    Args:
        first, second: (N, K) float, or of shapes that broadcast to it.
        shares: (K,) bool, the columns that are 0 or 1 on both sides; none by default.
    """
    columns = np.broadcast_shapes(first.shape, second.shape)[1]
    sums = PairedSums(np.zeros(columns, bool) if shares is None else shares)
    sums.add(first, second)
    return sums.paired()


def pairwise(pieces: Iterable[np.ndarray], share: bool = False) -> Paired:
    """Each method (row) minus each other (column) of one metric column, (M, M) arrays; NaN on the diagonal, where
    `count` is how many images have a number of the method.

    Args:
        pieces: (n, M) float, some images at a time; one at least, which may hold no image.
        share: whether the column is 0 or 1.
    """
    sums: list[PairedSums] = []
    own = np.zeros(0, np.int64)
    for piece in pieces:
        methods = piece.shape[1]
        sums = sums or [PairedSums(np.full(methods - row - 1, share)) for row in range(methods)]
        own = np.isfinite(piece).sum(axis=0) + (own if len(own) else 0)
        for row, against in enumerate(sums):
            against.add(piece[:, [row]], piece[:, row + 1 :])
    mean, low, high, p = (np.full((len(own), len(own)), np.nan) for _ in range(4))
    count = np.diag(own)
    for row, against in enumerate(sums):
        others, found = slice(row + 1, len(own)), against.paired()
        mean[row, others], mean[others, row] = found.mean, -found.mean
        low[row, others], low[others, row] = found.low, -found.high
        high[row, others], high[others, row] = found.high, -found.low
        count[row, others] = count[others, row] = found.count
        p[row, others] = p[others, row] = found.p
    return Paired(mean, low, high, count, p)


def _blocks(count: int, step: int) -> Iterator[slice]:
    return (slice(start, start + step) for start in range(0, count, step))


def _newcombe(
    count: np.ndarray, joint: np.ndarray, only_first: np.ndarray, only_second: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Interval of the difference of two shares of the same images.

    His method 10, with Wilson's bounds corrected for continuity; without that its coverage falls below .94.

    Args:
        count: (k,) images; the others: those that both, the first alone and the second alone have a 1 for.

    Source: R. G. Newcombe, *Improved confidence intervals for the difference between binomial proportions based on
    paired data*, Statist. Med. 17 (1998), 2635-2650.
    """
    size = np.where(count > 0, count, np.nan)
    neither = count - joint - only_first - only_second
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
