"""Who leads and by how much, on numbers whose answer is known."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from pipeline.report.comparison import compare
from pipeline.report.findings import caution, summary
from pipeline.report.measurements import Column, Measurements, Source

UP, DOWN, NEITHER = (Column(name, name, Source(name), name, headline=True) for name in ("higher", "lower", "none"))


def measured(values: np.ndarray, columns: tuple[Column, ...], methods: tuple[str, ...]) -> Measurements:
    images = len(values)
    return Measurements(
        model="net",
        methods=methods,
        columns=columns,
        values=values.astype(np.float32),
        effort={},
        label=np.full(images, -1),
        predicted=np.full(images, -1),
        probability=np.full(images, np.nan),
        statuses={method: Counter(ok=images) for method in methods},
    )


def shifted(shifts: list[float], columns: int = 1, noise: float = 0.05) -> np.ndarray:
    """(100, M, C): a shared difficulty, plus each method's shift and noise of its own."""
    generator = np.random.default_rng(0)
    shared = generator.normal(size=(100, 1, columns))
    own = noise * generator.normal(size=(100, len(shifts), columns))
    return shared + own + np.array(shifts)[None, :, None]


def leads_of(found):
    comparison = compare(found)
    return comparison, list(comparison.leads.values())


def test_the_leader_follows_the_direction():
    values = shifted([0.0, 0.5], columns=3)
    comparison = compare(measured(values, (UP, DOWN, NEITHER), ("ssig", "ig")))
    assert comparison.leads["higher"].leader == "ig"
    assert comparison.leads["lower"].leader == "ssig"
    assert "none" not in comparison.leads
    assert comparison.verdict("ig", UP) == "better"
    assert comparison.verdict("ig", DOWN) == "worse"
    assert comparison.verdict("ig", NEITHER) == ""


def test_pairing_separates_what_unpaired_intervals_do_not():
    comparison = compare(measured(shifted([0.0, 0.05]), (UP,), ("ssig", "ig")))
    ours, theirs = comparison.means["ssig"]["higher"], comparison.means["ig"]["higher"]
    assert theirs.low < ours.high
    lead = comparison.leads["higher"]
    assert lead.separated
    assert lead.difference.mean == pytest.approx(0.05, abs=0.02)
    assert lead.behind.high < 0


def test_equal_methods_are_not_separated():
    values = np.repeat(shifted([0.0]), 2, axis=1)
    lead = compare(measured(values, (UP,), ("ssig", "ig"))).leads["higher"]
    assert (lead.leader, lead.rank) == ("ssig", 1)
    assert (lead.difference.low, lead.difference.mean, lead.difference.high) == (0, 0, 0)
    assert not lead.separated
    assert lead.verdict == "tie"


def test_a_tie_is_nobodys_lead():
    values = np.repeat(shifted([0.0]), 2, axis=1)
    comparison, leads = leads_of(measured(values, (UP,), ("ssig", "ig")))
    text = summary(comparison, leads)
    assert "leads on" not in text
    assert "On higher the first two are equal." in text


def test_differences_use_the_images_that_both_have():
    values = shifted([0.0, 1.0])
    values[:40, 0] = np.nan
    values[90:, 1] = np.nan
    comparison = compare(measured(values, (UP,), ("ssig", "ig")))
    assert comparison.means["ssig"]["higher"].count == 60
    assert comparison.differences["ig"]["higher"].count == 50
    expected = (values[40:90, 1] - values[40:90, 0]).mean()
    assert comparison.differences["ig"]["higher"].mean == pytest.approx(expected, abs=1e-6)


def test_means_of_different_images_make_no_leader():
    # The mean of A is higher, since it lacks the image that is hard for B; on the images that both have, B is better.
    values = np.array([[0.9, 1.0], [0.8, 0.9], [np.nan, 0.1]])[:, :, None]
    comparison, (lead,) = leads_of(measured(values, (UP,), ("A", "B")))
    assert (lead.leader, lead.runner_up) == ("A", "B")
    assert lead.difference.mean == pytest.approx(-0.1)
    assert lead.difference.separated
    assert not lead.separated
    assert lead.verdict == "contradicted"
    text = summary(comparison, [lead])
    assert "leads on" not in text
    assert "On higher nobody is said to lead" in text
    assert "behind on none" not in text
    assert comparison.verdict("B", UP) == "better"


def test_methods_without_a_common_image_have_no_leader():
    values = np.array([[0.9, np.nan], [0.8, np.nan], [np.nan, 0.1], [np.nan, 0.2]])[:, :, None]
    comparison, (lead,) = leads_of(measured(values, (UP,), ("A", "B")))
    assert lead.verdict == "contradicted"
    assert "leads on" not in summary(comparison, [lead])


def test_a_lower_mean_leads_where_lower_is_better():
    values = -shifted([0.0, 0.5])
    lead = compare(measured(values, (DOWN,), ("ssig", "ig"))).leads["lower"]
    assert lead.difference.high < 0
    assert (lead.leader, lead.verdict, lead.reference_clearly_behind) == ("ig", "yes", True)


def test_the_reference_is_not_behind_on_other_images():
    # The leader of the means has none of the images that are hard; on common images it is behind the reference.
    values = np.array([[1.0, 0.9, 0.2], [0.9, 0.8, 0.1], [0.1, np.nan, 0.1], [0.1, np.nan, 0.1]])[:, :, None]
    _, (lead,) = leads_of(measured(values, (UP,), ("ssig", "ig", "gradient")))
    assert (lead.leader, lead.rank) == ("ig", 2)
    assert lead.behind.mean == pytest.approx(0.1)
    assert not lead.reference_behind


def test_a_method_without_the_metric_is_out_of_the_race():
    values = shifted([0.0, 0.1, 0.2])
    values[:, 0] = np.nan
    comparison, (lead,) = leads_of(measured(values, (UP,), ("ssig", "ig", "gradient")))
    assert (lead.leader, lead.runner_up, lead.rank, lead.behind) == ("gradient", "ig", None, None)
    assert "The reference method ssig has none of these metrics." in summary(comparison, [lead])


@pytest.mark.parametrize("methods", [("ssig",), ("ssig", "ig")])
def test_without_numbers_nothing_leads(methods):
    values = np.full((3, len(methods), 1), np.nan)
    comparison, leads = leads_of(measured(values, (UP,), methods))
    assert leads == []
    assert comparison.means["ssig"]["higher"].mean is None
    assert "nothing to compare" in summary(comparison, leads)


def test_the_summary_says_plainly_that_ours_loses():
    comparison, leads = leads_of(measured(shifted([0.0, 0.5], columns=2), (UP, DOWN), ("ssig", "ig")))
    text = summary(comparison, leads).replace("\N{NO-BREAK SPACE}", " ")
    assert "ssig leads on lower, separated from the runner-up." in text
    assert "ig leads on higher, separated from the runner-up." in text
    assert "The reference method ssig is behind the leader on 1 of 2 metrics" in text
    assert "excludes 0 on higher." in text


def test_the_summary_does_not_call_noise_a_lead():
    values = np.zeros((100, 2, 1))
    values[:, 1, 0] = 1e-4 + 0.5 * (-1.0) ** np.arange(100)
    comparison, leads = leads_of(measured(values, (UP,), ("ssig", "ig")))
    assert leads[0].leader == "ig"
    assert "not separated from the runner-up" in summary(comparison, leads)


@pytest.mark.parametrize(("images", "words"), [(99, "leads, not results"), (999, "fewer than the 1,000"), (1000, "")])
def test_few_images_are_said_to_be_few(images, words):
    assert words in caution(images)
    assert bool(caution(images)) == bool(words)
