"""Paired differences against SciPy, closed forms, and counting of all that can happen; in pieces, as at once."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from pipeline.report.pairs import PairedSums, paired, pairwise
from pipeline.report.statistics import CONFIDENCE, FEWEST, Paired, intervals

EQUAL = {"rtol": 1e-9, "atol": 1e-9}  # the same sums in another order


def normal(images: int, columns: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(images, columns))


def shares(columns: int) -> np.ndarray:
    return np.ones(columns, bool)


def every_outcome(images: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Two columns of 0 and 1 for every way in which `images` pairs can fall, (images, K) each, and how many pairs are
    (1, 1), (1, 0), (0, 1) and (0, 0): (K, 4)."""
    counts = np.array(
        [
            (both, first, second, images - both - first - second)
            for both, first, second in product(range(images + 1), repeat=3)
            if both + first + second <= images
        ]
    )
    kinds = np.stack([np.repeat(np.arange(4), row) for row in counts], axis=1)
    return np.array([1, 1, 0, 0])[kinds], np.array([1, 0, 1, 0])[kinds], counts


@pytest.mark.parametrize("images", [10, 20])
def test_differences_of_shares_are_held_as_often_as_they_say(images: int) -> None:
    first, second, counts = every_outcome(images)
    found = paired(first, second, shares(len(counts)))
    for one, other, dependence in product((0.5, 0.7, 0.93), (0.3, 0.5, 0.7, 0.93, 0.98), (0, 0.5, 0.9)):
        joint = one * other + dependence * np.sqrt(one * (1 - one) * other * (1 - other))
        joint = min(max(joint, one + other - 1), one, other)
        law = np.maximum([joint, one - joint, other - joint, 1 - one - other + joint], 0)
        held = (found.low <= one - other + 1e-9) & (one - other - 1e-9 <= found.high)
        coverage = (stats.multinomial.pmf(counts, images, law / law.sum()) * held).sum()
        assert coverage >= CONFIDENCE - 0.01, (one, other, dependence)


def test_the_test_of_shares_is_mcnemars_and_agrees_with_their_interval() -> None:
    first, second, counts = every_outcome(12)
    found = paired(first, second, shares(len(counts)))
    for number, (_, ups, downs, _) in enumerate(counts):
        expected = stats.binomtest(ups, ups + downs).pvalue if ups + downs else 1.0
        assert found.p[number] == pytest.approx(expected)
    assert not ((found.p <= 1 - CONFIDENCE) & (found.low <= 0) & (found.high >= 0)).any()
    np.testing.assert_array_equal(paired(first, second).p, found.p)  # whether the columns are known as shares or not


def test_differences_are_tested_by_students_test_on_the_images_that_both_have() -> None:
    first, second = normal(50, 3), normal(50, 3, seed=1) + np.array([0.0, 0.4, 0.8])
    first[:30, 1], second[25:40, 1] = np.nan, np.nan
    found = paired(first, second)
    assert found.count.tolist() == [50, 10, 50]
    for column in range(3):
        both = np.isfinite(first[:, column]) & np.isfinite(second[:, column])
        test = stats.ttest_rel(first[both, column], second[both, column])
        bounds = test.confidence_interval(CONFIDENCE)
        assert found.p[column] == pytest.approx(test.pvalue)
        assert (found.low[column], found.high[column]) == pytest.approx((bounds.low, bounds.high))
        assert found.mean[column] == pytest.approx((first - second)[both, column].mean())


def test_an_interval_of_a_difference_holds_0_where_its_test_says_nothing() -> None:
    found = paired(normal(20, 400), normal(20, 400, seed=1))
    np.testing.assert_array_equal(found.p > 1 - CONFIDENCE, (found.low <= 0) & (found.high >= 0))


def test_pairing_removes_what_the_methods_share() -> None:
    difficulty = 10 * normal(300, 1)
    first, second = difficulty, difficulty + 0.1 * normal(300, 1, seed=1) + 0.05
    alone, found = intervals(first), paired(first, second)
    assert (found.high - found.low)[0] < 0.05 * (alone.high - alone.low)[0]
    assert found.p[0] < 1e-6


def test_there_is_no_p_value_below_the_fewest_images() -> None:
    first, second = normal(FEWEST, 2), normal(FEWEST, 2) + 1
    second[0, 1] = np.nan
    found = paired(first, second)
    assert found.p[0] < 0.01
    assert np.isnan(found.p[1])
    assert found.count[1] == FEWEST - 1
    assert found.high[1] == pytest.approx(-1)


def test_methods_that_are_equal_tie() -> None:
    values = normal(50, 1).astype(np.float32)
    found = paired(values, values.copy())
    assert (found.mean[0], found.low[0], found.high[0], found.p[0]) == (0, 0, 0, 1)


@pytest.mark.parametrize("shift", [0.1, -3.0])
def test_equal_differences_are_tested_by_their_signs(shift: float) -> None:
    # Student's test would divide by 0, or in float32 by rounding errors: p 1e-80 from 12 images.
    values = normal(12, 1).astype(np.float32)
    found = paired(values + np.float32(shift), values)
    assert found.p[0] == pytest.approx(2 * 0.5**12)
    assert found.low[0] == pytest.approx(shift, abs=1e-5)


def test_differences_of_one_size_are_tested_by_their_signs() -> None:
    # Of 11 differences of one size and even chances, Student's test at 5 % would claim 6.5 % of the time.
    signs = np.array(list(product([-1.0, 1.0], repeat=11))).T
    found = paired(0.25 * signs, np.zeros_like(signs))
    assert (found.p <= 0.05).mean() <= 0.05
    assert found.p.min() == pytest.approx(2 * 0.5**11)


def test_one_large_number_does_not_make_others_equal() -> None:
    first = normal(30, 1)
    second = first + 1 + 0.1 * normal(30, 1, seed=1)
    first[0] = second[0] = 1e9
    assert paired(first, second).p[0] < 1e-10


def test_pairs_are_the_paired_differences_of_all_columns() -> None:
    values = normal(40, 4)
    values[:35, 3] = np.nan
    found = pairwise([values])
    for row, column in product(range(4), repeat=2):
        one = paired(values[:, [row]], values[:, [column]])
        if row == column:
            assert np.isnan(found.mean[row, column])
            assert found.count[row, column] == np.isfinite(values[:, row]).sum()
        else:
            for name in ("mean", "low", "high", "count", "p"):
                np.testing.assert_allclose(getattr(found, name)[row, column], getattr(one, name)[0], **EQUAL)


def test_pairs_of_shares_are_those_of_shares() -> None:
    values = (np.random.default_rng(0).random((40, 3)) < 0.8).astype(np.float32)
    found = pairwise([values], share=True)
    one = paired(values[:, [2]], values[:, [0]], shares(1))
    assert (found.low[2, 0], found.high[2, 0], found.p[2, 0]) == pytest.approx((one.low[0], one.high[0], one.p[0]))


def test_shares_with_ties_have_students_interval_about_their_mean() -> None:
    """Of two maxima that tie, half hits: such a number is counted as it is, and not as a hit or a miss."""
    first = np.array([[1.0, 1.0], [0.5, 0.0], [0.0, 0.0], [0.25, 1.0]] * 5)
    second = np.array([[0.0, 0.0], [0.5, 1.0], [0.25, 0.0], [0.0, 1.0]] * 5)
    found, plain = paired(first, second, shares(2)), paired(first, second)
    for bound in ("low", "high"):
        assert getattr(found, bound)[0] == pytest.approx(getattr(plain, bound)[0])
        assert getattr(found, bound)[1] != pytest.approx(getattr(plain, bound)[1], rel=1e-3)
    few = paired(np.array([[1.0], [0.5]]), np.zeros((2, 1)), shares(1))
    assert (few.low[0], few.high[0]) == (-1, 1)  # no difference of shares is larger
    in_parts = PairedSums(shares(2))
    for part in (slice(0, 1), slice(1, 20)):  # the first part has no fraction
        in_parts.add(first[part], second[part])
    assert in_parts.paired().low[0] == pytest.approx(plain.low[0])


def test_no_columns_have_no_differences() -> None:
    assert paired(np.empty((5, 0)), np.empty((5, 0))).p.shape == (0,)
    assert np.isnan(pairwise([np.ones((5, 1))]).p).all()
    assert paired(np.empty((0, 2)), np.empty((0, 2))).count.tolist() == [0, 0]


@given(st.data())
def test_pieces_give_what_all_images_give(data: st.DataObject) -> None:
    images, columns = data.draw(st.integers(0, 40)), data.draw(st.integers(1, 4))
    share = data.draw(st.booleans())
    values = normal(images, columns, data.draw(st.integers(0, 99)))
    values = (values > 0).astype(float) if share else values + 1000
    values[normal(images, columns, 1) > 1] = data.draw(st.sampled_from([np.nan, np.inf, -np.inf]))
    ends = sorted(data.draw(st.lists(st.integers(0, images), max_size=4)))
    pieces = [values[start:stop] for start, stop in zip([0, *ends], [*ends, images], strict=True)]
    assert_equal(pairwise(pieces, share), pairwise([values], share))


def test_equal_means_tie_in_pieces_too() -> None:
    values = normal(60, 2)
    values[30:, 1], values[:30, 1] = values[:30, 0], values[30:, 0]
    hits = (values > 0).astype(float)
    found = pairwise([hits[start : start + 7] for start in range(0, 60, 7)], share=True)
    assert (found.mean[0, 1], found.p[0, 1]) == (0, 1)


def test_a_piece_is_taken_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = normal(50, 7), normal(50, 7, seed=1)
    first[5:9, 3] = np.nan
    expected = paired(first, second)
    monkeypatch.setattr("pipeline.report.pairs.CACHED", 8)
    monkeypatch.setattr("pipeline.report.pairs._COLUMNS", 3)
    assert_equal(paired(first, second), expected)


def test_deviations_are_those_of_the_differences() -> None:
    first, second = normal(30, 3), normal(30, 3, seed=1)
    first[:29, 1] = np.nan
    second[:, 2] = first[:, 2] + 0.1
    sums = PairedSums(np.zeros(3, bool))
    for start in range(0, 30, 7):
        sums.add(first[start : start + 7], second[start : start + 7])
    assert sums.deviations() == pytest.approx([(first - second)[:, 0].std(ddof=1), 0, 0])


def assert_equal(found: Paired, expected: Paired) -> None:
    np.testing.assert_array_equal(found.count, expected.count)
    for name in ("mean", "low", "high", "p"):
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), **EQUAL)
