"""Means of the points of curves, from curves that come in parts: memory does not grow with their number."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.report.statistics import STUDENTISED, Intervals, intervals, squares_between, students_intervals


class RunningMeans:
    """Collects curves of equal length; those of another length than the first one's are left out.

    The intervals are those that `intervals` gives of all curves at once: the bootstrap's up to `STUDENTISED` curves,
    which are kept until there are more, else Student's.
    """

    def __init__(self) -> None:
        self._kept: list[np.ndarray] = []
        self._count = 0
        self._mean = np.empty(0)
        self._squares = np.empty(0)  # of the deviations from the mean, summed

    def add(self, column: pa.ChunkedArray) -> None:
        """Adds the lists of a column; null and what is not finite are no curves."""
        _, curves = matrix(column, len(self._mean))
        curves = curves[np.isfinite(curves).all(axis=1)]
        if not len(curves):
            return
        if self._count + len(curves) <= STUDENTISED:
            self._kept.append(curves)
        else:
            self._kept.clear()
        self._merge(curves.astype(np.float64))

    def intervals(self) -> Intervals | None:
        """The mean at each point with its interval; None without curves."""
        if not self._count:
            return None
        if self._kept:
            return intervals(np.concatenate(self._kept))
        count = np.full(len(self._mean), self._count)
        error = np.sqrt(self._squares / (count * (count - 1.0)))
        return students_intervals(self._mean, error, count)

    def _merge(self, curves: np.ndarray) -> None:
        added, mean = len(curves), curves.mean(axis=0)
        squares = ((curves - mean) ** 2).sum(axis=0)
        if self._count:
            squares += self._squares + squares_between(self._count, self._mean, added, mean)
            mean = self._mean + (mean - self._mean) * (added / (self._count + added))
        self._count, self._mean, self._squares = self._count + added, mean, squares


def matrix(column: pa.ChunkedArray, width: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Which rows of a column of lists have a list of `width` numbers, and these lists.

    Args:
        column: n lists of float32.
        width: 0 for the length of the first list that has numbers.

    Returns:
        (n,) bool and (m, width) float32, NaN where a number is null; of width 0 where no row has a list.
    """
    lists = column.combine_chunks()
    lengths = pc.fill_null(pc.list_value_length(lists), 0).to_numpy()
    if not width:
        width = int(next(iter(lengths[lengths > 0]), 0))
    chosen = (lengths == width) & (width > 0)
    numbers = lists.filter(pa.array(chosen)).flatten().to_numpy(zero_copy_only=False)
    return chosen, numbers.astype(np.float32, copy=False).reshape(int(chosen.sum()), width)
