"""Who leads, who is better, and which ranks are possible, on numbers whose answer is known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from measured import DOWN, NEITHER, UP, many, measured, shifted

from pipeline.report.columns import Column
from pipeline.report.comparison import Comparison, Rank, compare, mean_estimates
from pipeline.report.findings import chance_alert, correction, summary
from pipeline.report.statistics import FEWEST


def compared(values: np.ndarray, methods: tuple[str, ...], columns: Sequence[Column] = (UP,)) -> Comparison:
    return compare(measured(values, columns, methods))


def test_the_leader_follows_the_direction() -> None:
    comparison = compared(shifted([0.0, 0.5], columns=3), ("ssig", "ig"), (UP, DOWN, NEITHER))
    assert comparison.leads["higher"].leader == "ig"
    assert comparison.leads["lower"].leader == "ssig"
    assert "none" not in comparison.leads
    row = comparison.differences["ig"]
    assert [row[name].verdict for name in ("higher", "lower", "none")] == ["better", "worse", ""]
    assert row["none"].p is None


def test_pairing_separates_what_unpaired_intervals_do_not() -> None:
    comparison = compared(shifted([0.0, 0.05]), ("ssig", "ig"))
    ours, theirs = comparison.means["ssig"]["higher"], comparison.means["ig"]["higher"]
    assert theirs.low < ours.high
    lead = comparison.leads["higher"]
    assert (lead.leader, lead.rival) == ("ig", "ssig")
    assert lead.difference.mean == pytest.approx(0.05, abs=0.02)
    assert lead.difference.low > 0


def test_numbers_on_easy_images_only_make_no_leader() -> None:
    # A has numbers on the 20 easy images alone, where B is better on every one; its mean is the highest by far.
    generator = np.random.default_rng(1)
    easy = np.r_[np.ones(20), np.zeros(80)]
    a, b, c = (easy + shift + 0.01 * generator.normal(size=100) for shift in (0.0, 0.1, 0.05))
    a[20:] = np.nan
    comparison = compared(np.stack([a, b, c], axis=1)[:, :, None], ("A", "B", "C"))
    assert comparison.means["A"]["higher"].mean > comparison.means["B"]["higher"].mean + 0.5
    assert comparison.differences["B"]["higher"].verdict == "better"
    lead = comparison.leads["higher"]
    assert lead.leader == "B"
    assert (lead.fewest, lead.most) == (20, 100)
    assert lead.ranks["A"].low > 1


def test_a_leader_beats_every_other_method_and_not_the_second_mean_alone() -> None:
    # The mean of C is the lowest, since it lacks the easy images; on those that it has, nothing tells it from A.
    generator = np.random.default_rng(2)
    easy = np.r_[np.zeros(50), 5 * np.ones(50)]
    a, b, c = (easy + shift + 0.1 * generator.normal(size=100) for shift in (1.0, 0.0, 1.0))
    c[50:] = np.nan
    comparison = compared(np.stack([a, b, c], axis=1)[:, :, None], ("A", "B", "C"))
    lead = comparison.leads["higher"]
    assert lead.leader is None
    assert {lead.ahead, lead.rival} == {"A", "C"}
    assert "does not beat" in lead.reason
    text = summary(comparison)
    assert "No method leads on higher (N = 50 to 100)." in text
    assert f"On higher, {lead.ahead} does not beat {lead.rival}." in text


def test_a_circle_has_no_leader() -> None:
    # Each is behind another on the images that the two share.
    values = np.full((60, 3, 1), np.nan)
    generator = np.random.default_rng(3)
    for block, (first, second) in enumerate(((0, 1), (1, 2), (2, 0))):
        rows = slice(20 * block, 20 * block + 20)
        values[rows, first, 0] = 1 + 0.01 * generator.normal(size=20)
        values[rows, second, 0] = 0.01 * generator.normal(size=20)
    comparison = compared(values, ("A", "B", "C"))
    lead = comparison.leads["higher"]
    assert (lead.leader, lead.ahead, lead.p) == (None, None, None)
    assert "different images" in summary(comparison)


def test_a_tie_is_nobodys_lead() -> None:
    comparison = compared(np.repeat(shifted([0.0]), 2, axis=1), ("ssig", "ig"))
    lead = comparison.leads["higher"]
    assert lead.leader is None
    assert (lead.difference.low, lead.difference.mean, lead.difference.high) == (0, 0, 0)
    assert lead.ranks == {"ssig": Rank(1, 2), "ig": Rank(1, 2)}
    text = summary(comparison)
    assert text.startswith("No method leads on higher (N = 100).")
    assert "have the same mean" in text


@pytest.mark.parametrize(("images", "leader"), [(FEWEST - 1, None), (FEWEST, "ig")])
def test_no_verdict_of_fewer_images_than_a_verdict_needs(images: int, leader: str | None) -> None:
    comparison = compared(shifted([0.0, 5.0], images=images), ("ssig", "ig"))
    lead = comparison.leads["higher"]
    assert lead.leader == leader
    assert (comparison.differences["ig"]["higher"].verdict == "better") == (leader is not None)
    if leader is None:
        assert comparison.differences["ig"]["higher"].p is None
        assert lead.ranks == {"ssig": Rank(1, 2), "ig": Rank(1, 2)}
        assert f"{images} images in common, and a verdict needs {FEWEST}" in summary(comparison)
        assert correction(comparison).startswith("Nothing was tested")


def test_a_rival_of_few_common_images_is_not_beaten() -> None:
    values = shifted([0.0, 1.0, 2.0])
    values[6:, 0] = np.nan
    lead = compared(values, ("A", "B", "C")).leads["higher"]
    assert (lead.leader, lead.ahead, lead.rival) == (None, "C", "A")
    assert "C and A have 6 images in common" in lead.reason


def test_methods_without_a_common_image_have_no_leader() -> None:
    values = shifted([0.0, 1.0])
    values[:50, 0], values[50:, 1] = np.nan, np.nan
    comparison = compared(values, ("A", "B"))
    assert comparison.leads["higher"].leader is None
    assert summary(comparison).startswith("No method leads on higher (N = 0).")


def test_differences_use_the_images_that_both_have() -> None:
    values = shifted([0.0, 1.0])
    values[:40, 0] = np.nan
    values[90:, 1] = np.nan
    comparison = compared(values, ("ssig", "ig"))
    assert comparison.means["ssig"]["higher"].count == 60
    assert comparison.differences["ig"]["higher"].count == 50
    expected = (values[40:90, 1] - values[40:90, 0]).mean()
    assert comparison.differences["ig"]["higher"].mean == pytest.approx(expected, abs=1e-6)


def test_the_reference_need_not_come_first() -> None:
    found = measured(shifted([0.0, 1.0, 2.0]), (UP,), ("a", "b", "c"), reference="b")
    comparison = compare(found)
    assert comparison.methods == ("a", "b", "c")
    assert {name: row["higher"].verdict for name, row in comparison.differences.items()} == {
        "a": "worse",
        "c": "better",
    }
    assert "the reference method b, the other method is better in 1 and worse in 1; 0 are undecided" in summary(
        comparison
    )


def test_a_method_without_the_metric_is_out_of_the_race() -> None:
    values = shifted([0.0, 0.1, 0.2])
    values[:, 0] = np.nan
    comparison = compared(values, ("ssig", "ig", "gradient"))
    lead = comparison.leads["higher"]
    assert (lead.leader, lead.rival) == ("gradient", "ig")
    assert set(lead.ranks) == {"ig", "gradient"}
    assert "No method could be tested against the reference method ssig." in summary(comparison)
    assert comparison.groupings[0].left_out == ("ssig",)


@pytest.mark.parametrize("methods", [("ssig",), ("ssig", "ig")])
def test_without_numbers_nothing_leads(methods: tuple[str, ...]) -> None:
    comparison = compared(np.full((3, len(methods), 1), np.nan), methods)
    assert comparison.leads == {}
    assert comparison.groupings == ()
    assert comparison.means["ssig"]["higher"].mean is None
    assert "nothing to compare" in summary(comparison)


def test_what_cannot_be_compared_has_no_verdict() -> None:
    column = replace(UP, incomparable="each method has a scale of its own")
    comparison = compared(shifted([0.0, 1.0], columns=2), ("ssig", "ig"), (column, DOWN))
    assert list(comparison.leads) == ["lower"]
    assert comparison.differences["ig"]["higher"].verdict == ""
    assert comparison.differences["ig"]["higher"].p is None
    assert comparison.differences["ig"]["higher"].mean is not None
    assert [grouping.columns for grouping in comparison.groupings] == [("lower",)]
    assert comparison.verdicts == 1


def test_further_columns_have_no_verdict() -> None:
    further = replace(UP, headline=False)
    comparison = compared(shifted([0.0, 1.0], columns=2), ("ssig", "ig"), (DOWN, further))
    assert list(comparison.leads) == ["lower"]
    assert comparison.differences["ig"]["higher"].verdict == ""
    assert comparison.differences["ig"]["lower"].verdict == "worse"


def test_a_share_has_the_interval_of_a_share() -> None:
    share = replace(UP, share=True)
    hits = np.ones((20, 2, 1))
    ours = compared(hits, ("a", "b"), (share,)).means["a"]["higher"]
    assert (ours.mean, ours.high) == (1, 1)
    assert 0.75 < ours.low < 0.85
    # Without the flag it is a mean, whose interval has no width where all numbers are alike.
    assert compared(hits, ("a", "b")).means["a"]["higher"].low == 1
    # Of tied maxima a fraction counts: no interval leaves [0, 1], nor loses its width for those that have none.
    hits[0, 1, 0] = 0.5
    comparison = compared(hits, ("a", "b"), (share,))
    assert comparison.means["a"]["higher"].low == ours.low
    assert comparison.means["b"]["higher"].high <= 1
    assert comparison.differences["b"]["higher"].mean == pytest.approx(-0.025)


def test_a_column_of_one_method_alone_does_not_end_the_grouping_of_its_family() -> None:
    values = shifted([0.0, 1.0], columns=3)
    values[:, 0, 2] = np.nan
    (grouping,) = compared(values, ("a", "b"), many(3)).groupings
    assert grouping.columns == ("m0", "m1")
    assert list(grouping.ranks) == ["b", "a"]


def test_the_summary_says_plainly_that_ours_loses() -> None:
    comparison = compared(shifted([0.0, 0.5], columns=2), ("ssig", "ig"), (UP, DOWN))
    text = summary(comparison)
    assert "ssig leads on lower (N = 100): it beats each other method on the images that both have." in text
    assert "ig leads on higher (N = 100)" in text
    assert "Of 2 comparisons with the reference method ssig, the other method is better in 1 and worse in 1" in text


def test_the_summary_does_not_call_noise_a_lead() -> None:
    values = np.zeros((100, 2, 3))
    values[:, 1] = 1e-4 + 0.5 * (-1.0) ** np.arange(100)[:, None]
    comparison = compared(values, ("ssig", "ig"), many(3))
    text = summary(comparison)
    assert "No method leads on any of the 3 metrics (N = 100)." in text
    assert "On m0, m1 and m2, ig does not beat ssig." in text
    assert "3 are undecided" in text


def test_a_rank_of_one_alone_is_a_lead_and_a_lead_is_rank_one() -> None:
    # Of many columns some p-values lie near the level: what ranks say must not go beyond what leads say.
    for seed in range(20):
        generator = np.random.default_rng(seed)
        values = generator.normal(size=(30, 3, 8)) + np.linspace(0, 1.2, 8) * np.array([[0], [0.5], [1.0]])
        comparison = compared(values, ("a", "b", "c"), many(8))
        for lead in comparison.leads.values():
            first = [name for name, rank in lead.ranks.items() if rank == Rank(1, 1)]
            assert first == ([] if lead.leader is None else [lead.leader])
            assert all(rank.low <= rank.high for rank in lead.ranks.values())


@pytest.mark.parametrize(("methods", "columns", "images", "reports"), [(2, 36, 12, 100), (31, 36, 12, 6)])
def test_few_reports_on_equal_methods_hold_a_false_claim(
    methods: int, columns: int, images: int, reports: int
) -> None:
    names = tuple(f"method {number}" for number in range(methods))
    false_leads = false_verdicts = false_ranks = 0
    for seed in range(reports):
        generator = np.random.default_rng([seed, methods])
        values = generator.normal(size=(images, methods, columns)) + generator.normal(size=(images, 1, 1))
        comparison = compared(values, names, many(columns))
        false_leads += any(lead.leader is not None for lead in comparison.leads.values())
        false_verdicts += any(one.verdict for row in comparison.differences.values() for one in row.values())
        every = [rank for lead in comparison.leads.values() for rank in lead.ranks.values()]
        false_ranks += any(rank != Rank(1, methods) for rank in every)
    # At most 5 % are false; so many would be a matter of one in a thousand.
    most = {100: 14, 6: 3}[reports]
    assert max(false_leads, false_verdicts, false_ranks) <= most


def test_the_correction_is_named() -> None:
    comparison = compared(shifted([0.0, 0.1, 0.2], columns=2), ("a", "b", "c"), many(2))
    text = correction(comparison)
    assert "corrected for 2 metrics (Holm)" in text
    assert "Better or worse than a: corrected for 4 comparisons (Holm)" in text
    assert "No verdict below 10 images" in text


def test_a_verdict_is_corrected_for_all_of_a_model() -> None:
    values = np.random.default_rng(5).normal(size=(40, 2, 36))
    values[:, 1, 0] += 0.55
    alone = compared(values[:, :, :1], ("a", "b"), many(1)).differences["b"]["m0"]
    among = compared(values, ("a", "b"), many(36)).differences["b"]["m0"]
    assert alone.p < 0.05
    assert among.p == pytest.approx(min(1, 36 * alone.p))
    assert (alone.verdict, among.verdict) == ("better", "")


def test_a_family_groups_methods_over_the_images_that_have_all_its_columns() -> None:
    values = shifted([0.0, 0.01, 1.0], columns=2)
    values[:30, 0, 1] = np.nan
    (grouping,) = compared(values, ("a", "b", "c"), many(2)).groupings
    assert grouping.count == 70
    assert next(iter(grouping.ranks)) == "c"
    assert grouping.groups == (("c",), ("b", "a")) or grouping.groups == (("c",), ("a", "b"))
    assert grouping.p < 0.001


def test_equal_methods_are_one_group() -> None:
    (grouping,) = compared(shifted([0.0, 0.0, 0.0]), ("a", "b", "c")).groupings
    assert grouping.p > 0.05
    assert [set(group) for group in grouping.groups] == [{"a", "b", "c"}]


@pytest.mark.parametrize(
    ("right", "images", "classes", "words"),
    [
        (0, 100, 1000, "on 100 images, no better than chance (0.1 %): labels"),
        (3, 3, 1000, ""),
        (14, 24, 2, "not known to be better than chance (50 %)"),
        (22, 24, 2, ""),
        (0, 100, 1, ""),
        (0, 100, None, ""),
    ],
)
def test_accuracy_near_chance_is_said(right: int, images: int, classes: int | None, words: str) -> None:
    correct = np.r_[np.ones(right), np.zeros(images - right)]
    (accuracy,) = mean_estimates(correct[:, None], np.array([True]))
    alert = chance_alert(accuracy, classes)
    assert words in alert
    assert bool(alert) == bool(words)
