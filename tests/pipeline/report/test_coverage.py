"""The skewness of columns, and what is read off the table of reached coverage."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from pipeline.report.coverage import reached_coverage, skewness
from pipeline.report.statistics import FEWEST


def test_skewness_is_scipys_on_the_numbers_of_each_column() -> None:
    values = np.random.default_rng(0).lognormal(size=(40, 70))
    values[:20, 3] = np.nan
    values[0, 4] = np.inf
    found = skewness(values)
    for column in range(70):
        known = values[np.isfinite(values[:, column]), column]
        assert found[column] == pytest.approx(stats.skew(known))


def test_two_numbers_or_equal_ones_have_no_skewness() -> None:
    values = np.full((30, 3), 0.1, np.float32)
    values[2:, 1] = np.nan
    values[0, 1] = 7
    values[:, 2] = np.nan
    assert np.isnan(skewness(values)).all()
    assert skewness(np.empty((4, 0))).shape == (0,)
    assert np.isnan(skewness(np.empty((0, 2)))).all()


def test_the_table_is_read_between_its_rows_and_kept_at_its_ends() -> None:
    few, more, many = (reached_coverage(1.2, count) for count in (10, 14, 20))
    assert few < more < many
    assert reached_coverage(100.0, 10) == reached_coverage(50.0, 10)
    assert reached_coverage(1.0, 10**9) == reached_coverage(1.0, 10**8)
    assert reached_coverage(-1.2, 10) == few
    assert np.isnan(reached_coverage(np.nan, 10))


def test_nothing_is_stated_of_fewer_images_than_a_verdict_needs() -> None:
    assert np.isnan(reached_coverage(0.5, FEWEST - 1))
    assert np.isfinite(reached_coverage(0.5, FEWEST))
