"""The bootstrap on closed-form cases: coverage, pairing, masks, determinism, memory."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from pipeline import statistics
from pipeline.statistics import bootstrap, means


def normal(images: int, columns: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(images, columns))


def test_intervals_cover_the_true_mean_as_often_as_they_say() -> None:
    intervals = bootstrap(normal(200, 600), resamples=500)
    coverage = ((intervals.low <= 0) & (intervals.high >= 0)).mean()
    # Binomial standard error .009; the percentile interval of 200 images is a little narrow.
    assert 0.91 <= coverage <= 0.98


def test_agrees_with_scipy_within_monte_carlo_error() -> None:
    sample = np.random.default_rng(1).exponential(size=80)
    ours = bootstrap(sample[:, None])
    theirs = stats.bootstrap((sample,), np.mean, n_resamples=9999, method="percentile", rng=2).confidence_interval
    error = sample.std() / np.sqrt(80)
    assert ours.low[0] == pytest.approx(theirs.low, abs=0.15 * error)
    assert ours.high[0] == pytest.approx(theirs.high, abs=0.15 * error)


def test_half_width_is_that_of_the_normal_approximation() -> None:
    values = normal(4000, 1)
    intervals = bootstrap(values)
    expected = 1.96 * values.std() / np.sqrt(4000)
    assert (intervals.high - intervals.low)[0] / 2 == pytest.approx(expected, rel=0.05)


def test_identical_methods_differ_by_exactly_nothing() -> None:
    values = normal(50, 1)
    intervals = bootstrap(values - values.copy())
    assert intervals.mean[0] == intervals.low[0] == intervals.high[0] == 0
    assert not intervals.separated[0]


def test_pairing_removes_what_the_methods_share() -> None:
    difficulty, noise = normal(300, 1) * 10, normal(300, 1, seed=1) * 0.1
    first, second = difficulty, difficulty + noise + 0.05
    intervals = bootstrap(np.hstack([first, second, second - first]))
    width = intervals.high - intervals.low
    assert width[2] < 0.05 * width[0]
    assert intervals.separated[2]
    assert intervals.mean[2] == pytest.approx(intervals.mean[1] - intervals.mean[0])


def test_columns_are_resampled_jointly() -> None:
    values = normal(40, 1)
    together = bootstrap(np.hstack([values, 2 * values + 3]))
    assert together.low[1] == pytest.approx(2 * together.low[0] + 3)
    assert together.high[1] == pytest.approx(2 * together.high[0] + 3)


def test_a_mask_is_a_column_of_its_own() -> None:
    values = normal(60, 2)
    masked = values.copy()
    masked[::3, 1] = np.nan
    masked[1, 1] = np.inf
    intervals = bootstrap(masked)
    kept = np.isfinite(masked[:, 1])
    assert intervals.count.tolist() == [60, int(kept.sum())]
    assert intervals.mean[1] == pytest.approx(values[kept, 1].mean())
    assert intervals.low[0] == bootstrap(values).low[0]


def test_too_few_numbers_have_no_interval() -> None:
    values = np.full((5, 2), np.nan)
    values[2, 1] = 4.0
    intervals = bootstrap(values)
    assert np.isnan(intervals.mean[0])
    assert intervals.mean[1] == 4.0
    assert np.isnan(intervals.low).all()
    assert np.isnan(intervals.high).all()
    assert not intervals.separated.any()
    assert bootstrap(np.empty((0, 3))).count.tolist() == [0, 0, 0]


def test_chunks_and_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    values = normal(30, 7)
    values[::4, 2] = np.nan
    whole = bootstrap(values, resamples=101)
    monkeypatch.setattr(statistics, "_CHUNK", 30 * 8)
    monkeypatch.setattr(statistics, "_COLUMNS", 3)
    pieces = bootstrap(values, resamples=101)
    np.testing.assert_allclose(pieces.low, whole.low, rtol=1e-12)
    np.testing.assert_allclose(pieces.high, whole.high, rtol=1e-12)


def test_same_seed_same_interval() -> None:
    values = normal(30, 3)
    first, again, other = bootstrap(values), bootstrap(values), bootstrap(values, seed=1)
    np.testing.assert_array_equal(first.low, again.low)
    np.testing.assert_array_equal(first.high, again.high)
    assert (first.low != other.low).any()


def test_memory_grows_with_the_data_not_with_the_resamples() -> None:
    values = np.random.default_rng(0).random((20_000, 40), dtype=np.float32)
    tracemalloc.start()
    bootstrap(values, resamples=300)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # All weights at once would be 48 MB for 300 resamples and 320 MB for 2,000, on top of the working copies.
    assert peak < 100e6


@settings(max_examples=25, deadline=None)
@given(
    arrays(
        np.float64,
        st.tuples(st.integers(2, 12), st.integers(1, 3)),
        elements=st.one_of(st.floats(-1e3, 1e3), st.just(np.nan)),
    )
)
def test_intervals_lie_within_the_data_and_means_are_numpys(values: np.ndarray) -> None:
    intervals = bootstrap(values, resamples=50)
    for column in range(values.shape[1]):
        known = values[np.isfinite(values[:, column]), column]
        assert intervals.count[column] == len(known)
        if len(known):
            assert means(values)[column] == pytest.approx(known.mean(), abs=1e-9)
        if len(known) > 1:
            assert known.min() - 1e-9 <= intervals.low[column] <= intervals.high[column] <= known.max() + 1e-9
