"""The simulation of docs/statistics.md, small: what is claimed where the truth is known, before and after.

Margins are four standard errors of the simulated share, so that a fixed seed is no luck.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from measured import many, measured

from jobs.bench.claims import LAWS, Claims, claims, coverage, false_claims, lognormal, panel, reached
from pipeline.report.comparison import compare
from pipeline.report.coverage import reached_coverage, skewness
from pipeline.report.pairs import paired
from pipeline.report.statistics import ALPHA, CONFIDENCE, FEWEST, grouped_intervals, intervals

SAMPLES = 1000


def margin(share: float, samples: int) -> float:
    return float(4 * np.sqrt(share * (1 - share) / samples))


def above(found: np.ndarray, share: float) -> bool:
    """Whether more than `share` of a simulation is more than chance."""
    return float(found.mean()) > share + margin(share, len(found))


@pytest.mark.parametrize("count", [10, 20, 50, 200])
def test_intervals_of_normal_numbers_cover(count: int) -> None:
    before, after = coverage(LAWS["normal"], count, SAMPLES, seed=0)
    assert 0.93 - margin(0.93, SAMPLES) <= after <= 0.97 + margin(0.97, SAMPLES)
    assert before < after or count > 20


@pytest.mark.parametrize("law", ["share .93", "share .5"])
@pytest.mark.parametrize("count", [3, 8, 14, 20, 50])
def test_intervals_of_shares_cover(law: str, count: int) -> None:
    assert coverage(LAWS[law], count, SAMPLES, seed=0)[1] >= CONFIDENCE - 0.01 - margin(CONFIDENCE - 0.01, SAMPLES)


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize(("count", "samples"), [(2001, 1000), (20_000, 200)])
def test_intervals_of_many_numbers_cover_and_their_tests_hold_their_level(law: str, count: int, samples: int) -> None:
    generator = np.random.default_rng(count)
    chosen, shares = LAWS[law], np.full(samples, LAWS[law].share)
    first, second = (chosen.make(generator.normal(size=(count, samples))) for _ in range(2))
    found = intervals(first, shares)
    covered = (found.low <= chosen.mean) & (chosen.mean <= found.high)
    skew = float(np.median(skewness(first)))
    stated = CONFIDENCE if chosen.share else reached_coverage(skew, count)
    assert stated > 0.92
    assert covered.mean() == pytest.approx(stated, abs=margin(stated, samples) + 0.01)
    against = paired(first, second, shares)
    assert not above(against.p <= ALPHA, ALPHA)
    assert not above((against.low > 0) | (against.high < 0), ALPHA)
    assert (first.mean(axis=0) - second.mean(axis=0)).std() > 0


def test_intervals_of_classes_cover() -> None:
    groups = np.repeat(np.arange(SAMPLES), 50)
    values = np.random.default_rng(0).normal(size=len(groups))
    found = grouped_intervals(values, np.random.default_rng(1).permutation(groups), SAMPLES)
    covered = (found.low <= 0) & (found.high >= 0)
    assert covered.mean() == pytest.approx(CONFIDENCE, abs=margin(CONFIDENCE, SAMPLES))


@pytest.mark.parametrize(("law", "before", "after"), [("lognormal", 0.87, 0.92), ("lognormal, sigma 1.5", 0.76, 0.87)])
def test_intervals_of_skewed_numbers_cover_more_often(law: str, before: float, after: float) -> None:
    found = coverage(LAWS[law], 20, SAMPLES, seed=0)
    assert found[0] <= before + margin(before, SAMPLES)
    assert found[1] >= after - margin(after, SAMPLES)


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("count", [2, 5, 10, 20, 50])
def test_two_equal_methods_are_called_different_in_one_of_twenty(law: str, count: int) -> None:
    before, after = false_claims(LAWS[law], count, SAMPLES, seed=0)
    assert after <= ALPHA + margin(ALPHA, SAMPLES)
    assert after == 0 or count >= FEWEST
    assert before > 0.4 or count > 2 or LAWS[law].share


@pytest.mark.parametrize(
    ("methods", "images", "law", "gaps", "reports"),
    [
        (2, 10, "normal", False, 80),
        (2, 50, "lognormal", True, 80),
        (31, 50, "normal", True, 2),
    ],
)
def test_reports_on_equal_methods_claim_nothing(methods: int, images: int, law: str, gaps: bool, reports: int) -> None:
    before, after = claims(methods, 36, images, LAWS[law], gaps, reports, seed=0)
    holds(after)
    if methods > 2:
        assert (before.verdicts > 20).all()
    else:
        assert above(before.led, 0.3)


@pytest.mark.slow
@pytest.mark.parametrize("gaps", [False, True])
@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize(("methods", "images", "reports"), [(2, 10, 1000), (2, 50, 1000), (31, 50, 40)])
def test_many_reports_on_equal_methods_claim_nothing(
    methods: int, images: int, reports: int, law: str, gaps: bool
) -> None:
    holds(claims(methods, 36, images, LAWS[law], gaps, reports, seed=1)[1])


def holds(found: Claims) -> None:
    assert not above(found.led, ALPHA)
    assert not above(found.verdicts > 0, ALPHA)


@pytest.mark.parametrize("count", [10, 50])
def test_the_stated_coverage_is_what_a_new_simulation_reaches(count: int) -> None:
    found = reached(count, SAMPLES, seed=5)
    for skew, share in zip(found["skewness"], found["coverage"], strict=True):
        # Both are simulated, and the skewness of the two differs by a little.
        assert reached_coverage(skew, count) == pytest.approx(share, abs=margin(share, SAMPLES) + 0.01)


def test_the_stated_coverage_falls_with_skewness_and_rises_with_images() -> None:
    skews, counts = np.linspace(0, 6, 13), [10, 30, 100, 1000, 2000, 4000, 10**6]
    stated = np.array([[reached_coverage(skew, count) for skew in skews] for count in counts])
    assert (np.diff(stated, axis=1) <= 0.01).all()
    assert (np.abs(stated[:, 0] - CONFIDENCE) < 0.01).all()
    assert reached_coverage(-3.0, 20) == reached_coverage(3.0, 20)
    assert np.isnan(reached_coverage(np.nan, 20))


def test_few_skewed_numbers_are_said_to_fall_short() -> None:
    # No interval holds the mean of numbers as skewed as these as often as it says.
    assert reached_coverage(3.0, 20) < 0.93
    assert coverage(lognormal(1.5), 20, SAMPLES, seed=3)[1] < 0.93


def test_comparisons_of_equal_methods_with_gaps_claim_nothing() -> None:
    generator = np.random.default_rng(0)
    columns = [replace(column, share=True) for column in many(36)]
    led, judged = np.zeros(20, bool), np.zeros(20, bool)
    for number in range(20):
        values = panel(generator, 50, 3, 36, LAWS["share .5"], gaps=True)
        found = compare(measured(values, columns, ("a", "b", "c")))
        led[number] = any(lead.leader is not None for lead in found.leads.values())
        judged[number] = any(one.verdict for row in found.differences.values() for one in row.values())
    assert not above(led, ALPHA)
    assert not above(judged, ALPHA)
