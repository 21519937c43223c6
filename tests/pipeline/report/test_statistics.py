"""Intervals, paired tests and Holm's correction against closed forms, SciPy, and counting of all that can happen."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from pipeline.report.coverage import skewness
from pipeline.report.pairs import paired, pairwise
from pipeline.report.ranks import friedman_in_pieces
from pipeline.report.statistics import (
    CONFIDENCE,
    FEWEST,
    STUDENTISED,
    grouped_intervals,
    holm,
    intervals,
    student,
    wilson,
)

EQUAL = {"rtol": 1e-9, "atol": 1e-9}  # the same sums in another order


def normal(images: int, columns: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(images, columns))


def shares(columns: int) -> np.ndarray:
    return np.ones(columns, bool)


@pytest.mark.parametrize("images", [2, FEWEST - 1, STUDENTISED + 1])
def test_few_and_very_many_images_have_students_interval(images: int) -> None:
    values = normal(images, 3)
    found = intervals(values)
    expected = stats.ttest_1samp(values, 0).confidence_interval(CONFIDENCE)
    np.testing.assert_allclose(found.low, expected.low, **EQUAL)
    np.testing.assert_allclose(found.high, expected.high, **EQUAL)
    np.testing.assert_allclose(found.mean, values.mean(axis=0), **EQUAL)


def test_without_the_bootstrap_every_number_of_images_has_students_interval() -> None:
    values = normal(50, 3) ** 2
    spans = intervals(values, bootstrap=False)
    expected = stats.ttest_1samp(values, 0).confidence_interval(CONFIDENCE)
    np.testing.assert_allclose(spans.low, expected.low, **EQUAL)
    np.testing.assert_allclose(spans.high, expected.high, **EQUAL)


def test_between_them_the_bootstraps_quantiles_are_those_of_a_plain_loop() -> None:
    values = np.random.default_rng(1).exponential(size=40)
    generator = np.random.default_rng(2)
    studentised = []
    for _ in range(9999):
        drawn = generator.choice(values, size=40)
        studentised.append((drawn.mean() - values.mean()) / (drawn.std(ddof=1) / np.sqrt(40)))
    error = values.std(ddof=1) / np.sqrt(40)
    upper, lower = np.quantile(studentised, [0.975, 0.025])
    found = intervals(values[:, None])
    # The .975 quantile of 1,999 draws has a standard error of about .06 here, the .025 one of about .1.
    assert found.low[0] == pytest.approx(values.mean() - upper * error, abs=0.25 * error)
    assert found.high[0] == pytest.approx(values.mean() - lower * error, abs=0.4 * error)
    assert found.high[0] - found.mean[0] > 1.2 * (found.mean[0] - found.low[0])  # longer on the long tail's side


@pytest.mark.parametrize("images", [5, 40, STUDENTISED + 1])
def test_intervals_follow_a_change_of_scale_and_of_sign(images: int) -> None:
    values = np.random.default_rng(3).exponential(size=(images, 2))
    found, scaled, turned = intervals(values), intervals(3 * values + 5), intervals(-values)
    for name in ("mean", "low", "high"):
        np.testing.assert_allclose(getattr(scaled, name), 3 * getattr(found, name) + 5, **EQUAL)
    np.testing.assert_allclose(turned.low, -found.high, **EQUAL)
    np.testing.assert_allclose(turned.high, -found.low, **EQUAL)


@pytest.mark.parametrize("images", [5, 60, STUDENTISED + 50])
def test_a_mask_is_a_column_of_its_own(images: int) -> None:
    values = normal(images, 2)
    masked = values.copy()
    masked[::3, 1] = np.nan
    masked[1, 1] = np.inf
    kept = np.isfinite(masked[:, 1])
    found, alone = intervals(masked), intervals(values[kept, 1:])
    assert found.count.tolist() == [images, int(kept.sum())]
    for name in ("mean", "low", "high"):
        np.testing.assert_allclose(getattr(found, name)[0], getattr(intervals(values), name)[0], **EQUAL)
        np.testing.assert_allclose(getattr(found, name)[1], getattr(alone, name)[0], **EQUAL)


def test_too_few_numbers_have_no_interval() -> None:
    values = np.full((5, 2), np.nan)
    values[2, 1] = 4.0
    found = intervals(values)
    assert np.isnan(found.mean[0])
    assert found.mean[1] == 4.0
    assert np.isnan([found.low, found.high]).all()
    share = intervals(np.array([[np.nan, 1.0]]), shares(2))
    assert np.isnan(share.low[0])
    assert 0 < share.low[1] < share.high[1] == 1
    assert intervals(np.empty((0, 3))).count.tolist() == [0, 0, 0]
    assert intervals(np.empty((4, 0))).mean.shape == (0,)


@pytest.mark.parametrize("images", [5, 20, STUDENTISED + 1])
def test_equal_numbers_have_an_interval_of_no_width(images: int) -> None:
    found = intervals(np.full((images, 1), 0.1, np.float32))
    assert found.low[0] == pytest.approx(found.mean[0], abs=1e-6)
    assert found.high[0] == pytest.approx(found.mean[0], abs=1e-6)


def test_numbers_that_are_nearly_all_equal_have_a_finite_interval() -> None:
    values = np.zeros((30, 3))
    values[0] = [1, -1, 1e-30]
    values[1, 0] = -1
    found = intervals(values)
    assert np.isfinite([found.low, found.high]).all()
    assert (found.low <= found.mean).all()
    assert (found.mean <= found.high).all()


def test_the_same_seed_draws_the_same_interval() -> None:
    values = normal(30, 3)
    first, again, other = intervals(values), intervals(values), intervals(values, seed=1)
    np.testing.assert_array_equal(first.low, again.low)
    np.testing.assert_array_equal(first.high, again.high)
    assert (first.low != other.low).any()


@pytest.mark.parametrize("images", [STUDENTISED, 20_000])
def test_memory_is_that_of_the_draws_and_not_of_draws_times_columns(images: int) -> None:
    values = np.random.default_rng(0).random((images, 40), dtype=np.float32)
    tracemalloc.start()
    intervals(values)
    paired(values, values[:, ::-1])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # The draws of 2,000 images are 32 MB three times over: as images, as counts, and as weights.
    assert peak < 120e6


def test_memory_beside_the_numbers_is_flat_in_the_images() -> None:
    values = np.asfortranarray(np.random.default_rng(0).random((1_000_000, 12), dtype=np.float32))
    tracemalloc.start()
    intervals(values)
    skewness(values)
    pairwise([values[:, :3]])
    cube = values.reshape(len(values), 4, 3, order="F")
    friedman_in_pieces(
        (cube[start : start + 2**13] for start in range(0, len(cube), 2**13)), np.ones(3), np.ones((4, 3), bool)
    )
    grouped_intervals(values[:, 0], np.zeros(len(values), int), 1)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20e6  # the numbers are 48 MB, and a copy of one column in float64 is 8 MB


@pytest.mark.parametrize("share", [False, True])
def test_groups_have_the_intervals_that_each_would_have_alone(share: bool) -> None:
    generator = np.random.default_rng(0)
    values = generator.normal(size=200) if not share else generator.integers(0, 2, 200).astype(float)
    values[::9] = np.nan
    groups = generator.integers(-1, 5, 200)
    groups[groups == 3] = 2  # nobody is in group 3
    found = grouped_intervals(values, groups, 6, share)
    for group in range(6):
        alone = intervals(values[groups == group][:, None], np.array([share]), bootstrap=False)
        for name in ("mean", "low", "high", "count"):
            np.testing.assert_allclose(getattr(found, name)[group], getattr(alone, name)[0], **EQUAL)


@pytest.mark.parametrize("images", [1, 2, 7, 50])
def test_shares_have_scipys_interval(images: int) -> None:
    successes = np.arange(images + 1)
    low, high = wilson(successes, np.full(images + 1, images))
    for hits in successes:
        expected = stats.binomtest(hits, images).proportion_ci(CONFIDENCE, method="wilsoncc")
        assert (low[hits], high[hits]) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_shares_with_fractions_have_an_interval_about_their_mean() -> None:
    """Where maxima tie, a part of a hit counts: 2.5 hits of 10 lie between 2 and 3 of them."""
    values = np.array([1.0, 1.0, 0.5, *[0.0] * 7])
    found = intervals(values[:, None], shares=np.array([True]))
    grouped = grouped_intervals(values, np.zeros(10, int), 1, share=True)
    low, high = wilson(np.array([2.0, 3.0]), np.array([10, 10]))
    for each in (found, grouped):
        assert each.mean[0] == 0.25
        assert low[0] < each.low[0] < low[1]
        assert high[0] < each.high[0] < high[1]


@pytest.mark.parametrize("images", [1, 2, 10, 100])
def test_no_interval_of_a_share_leaves_its_range(images: int) -> None:
    successes = np.linspace(0, images, 20 * images + 1)
    low, high = wilson(successes, np.full(len(successes), images))
    share = successes / images
    assert ((low >= 0) & (low <= share) & (high >= share) & (high <= 1)).all()


@pytest.mark.parametrize("images", [1, 2, 3, 5, 8, 10, 14, 20, 50, 200, 1000])
def test_intervals_of_shares_hold_every_share_as_often_as_they_say(images: int) -> None:
    # All that can happen, with its probability: no simulation. Without the continuity correction the least is .82
    # at 2 images, .84 at 10 and .92 at 1,000.
    successes = np.arange(images + 1)
    low, high = wilson(successes, np.full(images + 1, images))
    true = np.linspace(0.0005, 0.9995, 2000)[:, None]
    coverage = (stats.binom.pmf(successes, images, true) * ((low <= true) & (true <= high))).sum(axis=1)
    assert coverage.min() >= CONFIDENCE - 0.005


def test_holms_example() -> None:
    # Four p-values by hand: 4 (.005), 3 (.01), 2 (.03), 1 (.04), none smaller than the one before.
    np.testing.assert_allclose(holm(np.array([0.01, 0.04, 0.03, 0.005])), [0.03, 0.06, 0.06, 0.02])


def test_holm_leaves_out_what_was_not_tested() -> None:
    p = np.array([[0.01, np.nan], [0.04, 0.03]])
    np.testing.assert_allclose(holm(p), [[0.03, np.nan], [0.06, 0.06]])
    assert np.isnan(holm(np.full(3, np.nan))).all()
    assert holm(np.empty(0)).shape == (0,)


@given(arrays(np.float64, st.integers(1, 20), elements=st.floats(0, 1)))
def test_holm_rejects_what_his_steps_reject(p: np.ndarray) -> None:
    adjusted = holm(p)
    assert (adjusted >= p).all()
    assert (adjusted <= np.minimum(len(p) * p, 1) + 1e-12).all()
    order, rejected = np.argsort(p), np.zeros(len(p), bool)
    for step, number in enumerate(order):
        if p[number] > 0.05 / (len(p) - step) * (1 + 1e-12):
            break
        rejected[number] = True
    np.testing.assert_array_equal(adjusted <= 0.05 * (1 + 1e-12), rejected)


def test_students_quantile() -> None:
    np.testing.assert_allclose(student(np.array([2, 11])), [12.7062, 2.22814], rtol=1e-5)
    assert np.isnan(student(np.array([0, 1]))).all()


@settings(max_examples=25, deadline=None)
@given(
    arrays(
        np.float64,
        st.tuples(st.integers(2, 14), st.integers(1, 3)),
        elements=st.one_of(st.floats(-1e3, 1e3), st.just(np.nan)),
    )
)
def test_intervals_lie_about_numpys_mean(values: np.ndarray) -> None:
    found = intervals(values)
    for column in range(values.shape[1]):
        known = values[np.isfinite(values[:, column]), column]
        assert found.count[column] == len(known)
        if len(known):
            assert found.mean[column] == pytest.approx(known.mean(), abs=1e-9)
        if len(known) > 1:
            slack = 1e-9 * (1 + np.ptp(known))
            assert found.low[column] - slack <= found.mean[column] <= found.high[column] + slack
