"""Who leads, which ranks are possible, and which methods are not told apart, where the answer is known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from pipeline.report.pairs import pairwise
from pipeline.report.ranks import Grouping, friedman_in_pieces, lead, rank_intervals
from pipeline.report.statistics import ALPHA, CONFIDENCE, FEWEST

UP = np.array([1])


def friedman(values: np.ndarray, signs: np.ndarray, images: int = 1000) -> Grouping:
    """Of (N, M, C) numbers, `images` at a time."""
    pieces = (values[start : start + images] for start in range(0, len(values), images))
    return friedman_in_pieces(pieces, signs, np.isfinite(values).any(axis=0))


def shifted(shifts: list[float], images: int = 60, noise: float = 0.1, seed: int = 0) -> np.ndarray:
    """(images, M): a difficulty that the methods share, plus each method's shift and noise of its own."""
    generator = np.random.default_rng(seed)
    return generator.normal(size=(images, 1)) + generator.normal(size=(images, len(shifts))) * noise + np.array(shifts)


def test_a_leader_is_as_sure_as_its_least_sure_comparison() -> None:
    values = shifted([0.0, 0.3, 0.25, -1.0])
    found = lead([values], 1)
    tests = [stats.ttest_rel(values[:, 1], values[:, other]).pvalue for other in (0, 2, 3)]
    assert (found.leader, found.rival, found.reason) == (1, 2, "")
    assert found.p == pytest.approx(max(tests))
    assert found.comparisons.mean[2] == pytest.approx((values[:, 1] - values[:, 2]).mean())
    assert np.isnan(found.comparisons.p[1])


def test_the_lowest_leads_where_lower_is_better() -> None:
    values = shifted([0.0, 0.3, -0.4])
    down, up = lead([values], -1), lead([-values], 1)
    assert (down.leader, down.rival) == (up.leader, up.rival) == (2, 0)
    assert down.p == pytest.approx(up.p)


def test_a_method_of_easy_images_does_not_lead() -> None:
    # The first has numbers of the easy images only, and the best mean; on these it is behind the second.
    values = shifted([0.0, 0.2, -0.5])
    values[np.argsort(values[:, 1])[:40], 0] = np.nan
    assert np.nanmean(values[:, 0]) > np.nanmean(values[:, 1])
    found = lead([values], 1)
    assert (found.leader, found.reason) == (1, "")
    assert found.p <= ALPHA


def test_nobody_leads_a_circle() -> None:
    # Each is ahead of one other on the images that the two have, and behind the third on theirs.
    values = np.full((60, 3), np.nan)
    noise = 0.01 * np.random.default_rng(0).normal(size=(60, 3))
    for part, (ahead, behind) in enumerate([(0, 1), (1, 2), (2, 0)]):
        rows = slice(20 * part, 20 * part + 20)
        values[rows, ahead], values[rows, behind] = 1 + noise[rows, 0], noise[rows, 1]
    found = lead([values], 1)
    assert (found.leader, found.rival, found.p, found.reason) == (None, None, 1.0, "circle")
    assert np.isnan(found.comparisons.mean).all()


def test_a_rival_of_few_common_images_stands_in_the_way() -> None:
    values = shifted([0.0, 1.0, -1.0])
    values[FEWEST - 1 :, 0] = np.nan
    found = lead([values], 1)
    assert (found.leader, found.rival, found.p, found.reason) == (1, 0, 1.0, "few")
    assert found.comparisons.count[0] == FEWEST - 1


def test_a_rival_without_a_common_image_stands_in_the_way() -> None:
    values = shifted([0.0, 1.0, -1.0])
    values[:30, 0], values[30:, 1] = np.nan, np.nan
    found = lead([values], 1)
    assert (found.reason, found.p) == ("few", 1.0)


def test_columns_of_few_images_are_not_tested() -> None:
    found = lead([shifted([0.0, 5.0], images=FEWEST - 1)], 1)
    assert (found.leader, found.reason) == (None, "few")
    assert np.isnan(found.p)
    assert found.pairs.mean[1, 0] > 4


def test_equal_methods_tie() -> None:
    values = np.repeat(shifted([0.0, -1.0]), 2, axis=1)
    found = lead([values], 1)
    assert (found.p, found.reason) == (1.0, "tie")
    assert {found.leader, found.rival} == {0, 1}


@pytest.mark.parametrize(("sign", "kept", "reason"), [(0, [0, 1], "undirected"), (1, [0], "alone"), (1, [], "alone")])
def test_without_a_direction_or_a_rival_there_is_no_race(sign: int, kept: list[int], reason: str) -> None:
    values = np.full((30, 2), np.nan)
    values[:, kept] = shifted([0.0, 1.0], images=30)[:, kept]
    found = lead([values], sign)
    assert (found.leader, found.reason) == (None, reason)
    assert np.isnan(found.p)


def test_a_method_without_the_column_is_out_of_the_race() -> None:
    values = shifted([0.0, 0.5, 0.0])
    values[:, 2] = np.nan
    found = lead([values], 1)
    assert (found.leader, found.rival, found.reason) == (1, 0, "")
    assert np.isnan(found.comparisons.p[2])


def test_shares_are_led_by_the_exact_test() -> None:
    values = np.zeros((40, 2), np.float32)
    values[:15, 1] = 1
    values[:3, 0], values[:3, 1] = 1, 0
    found = lead([values], 1, share=True)
    assert found.leader == 1
    assert found.p == pytest.approx(stats.binomtest(3, 15).pvalue)


def test_ranks_of_methods_far_apart_are_known() -> None:
    pairs = pairwise([shifted([3.0, 1.0, 2.0, 1.0])])
    low, high = rank_intervals(pairs.p, pairs.mean > 0)
    assert list(zip(low, high, strict=True)) == [(1, 1), (3, 4), (2, 2), (3, 4)]


def test_without_tests_every_rank_is_possible() -> None:
    pairs = pairwise([shifted([3.0, 1.0], images=5)])
    low, high = rank_intervals(pairs.p, pairs.mean > 0)
    assert (low.tolist(), high.tolist()) == ([1, 1], [2, 2])


def test_intervals_of_ranks_hold_all_true_ranks_together() -> None:
    shifts = [0.0, 0.02, 0.04, 0.1, 0.1]  # ranks 5, 4, 3, and 1 or 2: both of the best may have either
    lowest, highest = np.array([5, 4, 3, 1, 1]), np.array([5, 4, 3, 2, 2])
    repeats, held = 300, 0
    for seed in range(repeats):
        pairs = pairwise([shifted(shifts, images=30, seed=seed)])
        low, high = rank_intervals(pairs.p, pairs.mean > 0)
        held += bool(((low <= lowest) & (highest <= high)).all())
    assert held / repeats >= CONFIDENCE - 4 * np.sqrt(CONFIDENCE * (1 - CONFIDENCE) / repeats)


def test_one_column_has_friedmans_test() -> None:
    values = shifted([0.0, 0.05, 0.1, 0.02], images=25)
    found = friedman(values[:, :, None], UP)
    squared = stats.friedmanchisquare(*values.T).statistic
    ratio = 24 * squared / (25 * 3 - squared)  # Iman and Davenport, of 25 images and 4 methods
    assert found.p == pytest.approx(stats.f.sf(ratio, 3, 3 * 24))
    np.testing.assert_allclose(found.ranks, stats.rankdata(-values, axis=1).mean(axis=0))
    assert found.count == 25


def test_the_critical_difference_is_demsars() -> None:
    # His section 3.2.4: four classifiers on 14 data sets, 2.569 sqrt(4 5 / (6 14)) = 1.25.
    found = friedman(shifted([0.0, 0.0, 0.0, 0.0], images=14)[:, :, None], UP)
    assert found.critical_difference == pytest.approx(2.569 * np.sqrt(20 / 84), abs=1e-3)


def test_columns_of_an_image_are_one_judge() -> None:
    # A column repeated ten times tells no more than it does once.
    values = shifted([0.0, 0.03, 0.05], images=30)[:, :, None]
    once, often = friedman(values, UP), friedman(np.repeat(values, 10, axis=2), np.repeat(UP, 10))
    np.testing.assert_allclose(often.ranks, once.ranks)
    assert often.p == pytest.approx(once.p)
    assert often.critical_difference == once.critical_difference


def test_directions_are_heeded() -> None:
    values = shifted([0.0, 1.0, 2.0], images=30)
    both = np.stack([values, -values], axis=2)
    assert friedman(both, np.array([1, -1])).ranks.tolist() == [3, 2, 1]


def test_methods_are_grouped_by_the_critical_difference() -> None:
    found = friedman(shifted([2.0, 0.0, 2.0, 0.0, 1.0], images=40)[:, :, None], UP)
    assert found.p < 1e-6
    assert [set(group) for group in found.groups] == [{0, 2}, {4}, {1, 3}] or found.critical_difference > 1
    for group in found.groups:
        assert np.ptp(found.ranks[list(group)]) <= found.critical_difference
    members = [method for group in found.groups for method in group]
    assert set(members) == set(range(5))


def test_groups_may_overlap() -> None:
    # Average ranks 1.5, 2.5, 3.5 of three methods and a critical difference between 1 and 2 cannot come from so few
    # methods; four methods in a row that differ by less than it, and the ends by more, do.
    generator = np.random.default_rng(0)
    values = generator.normal(size=(60, 4)) + np.array([0.0, 0.35, 0.7, 1.05])
    found = friedman(values[:, :, None], UP)
    assert len(found.groups) > 1
    assert sum(map(len, found.groups)) > 4


def test_equal_methods_are_one_group() -> None:
    values = np.repeat(shifted([0.0], images=20), 3, axis=1)[:, :, None]
    found = friedman(values, UP)
    assert found.p == 1
    assert [sorted(group) for group in found.groups] == [[0, 1, 2]]
    assert found.ranks.tolist() == [2, 2, 2]


def test_images_that_all_rank_alike_have_a_p_value() -> None:
    found = friedman(shifted([0.0, 10.0, 20.0], images=12)[:, :, None], UP)
    # Under equal methods 12 images take one of 6 orders alike with probability 6 / 6^12.
    assert found.p == pytest.approx(6.0**-11)


def test_only_images_that_have_all_columns_of_all_methods_judge() -> None:
    values = np.stack([shifted([0.0, 1.0, 2.0, 0.0])] * 2, axis=2)
    values[:20, 0, 0], values[20:30, 1, 1] = np.nan, np.nan
    values[:, 3, 1] = np.nan  # lacks a column: left out
    found = friedman(values, np.array([1, 1]))
    assert found.count == 30
    assert np.isnan(found.ranks[3])
    assert found.ranks[:3].tolist() == [3, 2, 1]


@pytest.mark.parametrize(("images", "methods", "columns"), [(FEWEST - 1, 3, 1), (30, 1, 1), (30, 3, 0)])
def test_too_little_gives_no_grouping(images: int, methods: int, columns: int) -> None:
    values = np.random.default_rng(0).normal(size=(images, methods, columns))
    found = friedman(values, np.ones(columns))
    assert np.isnan(found.p)
    assert np.isnan(found.critical_difference)
    assert found.groups == ()
    assert np.isnan(found.ranks).all()


def test_friedmans_test_of_equal_methods_claims_no_more_than_it_may() -> None:
    generator = np.random.default_rng(0)
    repeats = 600
    claims = 0
    for _ in range(repeats):
        taste, own = generator.normal(size=(15, 4, 1)), generator.normal(size=(15, 4, 3))
        claims += friedman(taste + own, np.ones(3)).p <= ALPHA
    assert claims / repeats <= ALPHA + 4 * np.sqrt(ALPHA * (1 - ALPHA) / repeats)


def test_images_may_be_ranked_some_at_a_time() -> None:
    values = np.random.default_rng(0).normal(size=(50, 4, 3)) + np.linspace(0, 0.5, 4)[:, None]
    values[::7, 1, 1] = np.nan
    values[:, 3, 2] = np.nan
    signs = np.array([1, -1, 1])
    whole, parts = friedman(values, signs), friedman(values, signs, images=8)
    assert (parts.count, parts.groups) == (whole.count, whole.groups)
    np.testing.assert_allclose(parts.ranks, whole.ranks)
    assert (parts.p, parts.critical_difference) == pytest.approx((whole.p, whole.critical_difference))
