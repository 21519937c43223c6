"""Means of curves that come in parts are those of all curves at once."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pyarrow as pa
import pytest

from pipeline.report.running import RunningMeans, matrix
from pipeline.report.statistics import STUDENTISED, intervals

EQUAL = {"rtol": 1e-6, "atol": 1e-9}


def column(curves: np.ndarray) -> pa.ChunkedArray:
    return pa.chunked_array([pa.array(list(curves), pa.list_(pa.float32()))])


@pytest.mark.parametrize("images", [2, 50, STUDENTISED, STUDENTISED + 1, 5000])
def test_the_parts_give_the_intervals_of_the_whole(images: int) -> None:
    curves = np.random.default_rng(0).gamma(2, size=(images, 3)).astype(np.float32)
    means = RunningMeans()
    for part in np.array_split(curves, 7):
        means.add(column(part))
    found, expected = means.intervals(), intervals(curves)
    assert found is not None
    for name in ("mean", "low", "high", "count"):
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), **EQUAL)


def test_what_is_no_curve_of_the_first_ones_length_is_left_out() -> None:
    rows = [None, [1.0, 2.0], [3.0], [3.0, 4.0], [np.nan, 1.0], [None, 1.0], []]
    means = RunningMeans()
    means.add(pa.chunked_array([pa.array(rows[:1], pa.list_(pa.float32()))]))
    assert means.intervals() is None
    means.add(pa.chunked_array([pa.array(rows[1:], pa.list_(pa.float32()))]))
    found = means.intervals()
    assert found is not None
    assert found.mean.tolist() == [2, 3]
    assert found.count.tolist() == [2, 2]


def test_a_matrix_has_the_lists_and_says_whose_they_are() -> None:
    lists = pa.chunked_array([pa.array([None, [1, None], [], [2, 3], [4]], pa.list_(pa.float32()))])
    chosen, numbers = matrix(lists)
    assert chosen.tolist() == [False, True, False, True, False]
    np.testing.assert_array_equal(numbers, [[1, np.nan], [2, 3]])
    chosen, numbers = matrix(lists, 1)
    assert (chosen.tolist(), numbers.tolist()) == ([False] * 4 + [True], [[4]])
    assert matrix(lists.slice(0, 1))[1].shape == (0, 0)


def test_memory_is_flat_in_the_curves() -> None:
    part = column(np.random.default_rng(0).random((1000, 100), dtype=np.float32))
    means = RunningMeans()
    tracemalloc.start()
    for _ in range(50):  # 20 MB in all
        means.add(part)
    kept, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert kept < 1e6
    assert peak < 6e6
