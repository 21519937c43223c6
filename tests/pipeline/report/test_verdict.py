"""The sentence that the report and the terminal begin with: no more than the tests allow."""

from __future__ import annotations

import pytest

from pipeline.report.columns import Column, Source
from pipeline.report.comparison import Comparison, Estimate, Lead
from pipeline.report.verdict import verdict

METRICS = ("Insertion AUC", "Deletion AUC", "ROC AUC", "IoU", "Entropy")


def lead(number: int, leader: str | None, ahead: str | None = None, count: int = 24, p: float = 0.01) -> Lead:
    """A metric, led by `leader`; or by nobody, with `ahead` in front."""
    name = METRICS[number]
    direction = "lower" if name in ("Deletion AUC", "Entropy") else "higher"
    column = Column(name.lower(), name.lower(), Source(name.lower()), direction, True, title=name)
    ahead = leader or ahead
    difference = Estimate(0.053, 0.019, 0.086, count) if ahead else None
    reason = "" if leader else f"{ahead} does not beat ig" if ahead else "a and b have the same mean"
    rival = "ig" if ahead else None
    return Lead(column, leader, ahead, rival, difference, p, reason, count, count, {})


def compared(*leads: Lead, methods: tuple[str, ...] = ("a", "b", "c", "d", "ig"), raced: int = 1) -> Comparison:
    return Comparison(methods, "a", (), {}, {}, {lead.column.name: lead for lead in leads}, (), raced, 0)


def test_a_leader_is_named_with_its_interval_and_n() -> None:
    assert verdict(compared(lead(2, "a", count=2000), lead(0, None, "b"), lead(1, None, "b"))) == (
        "a leads on ROC AUC, with a paired difference of +0.053 to its nearest rival, ig "
        "(95\N{NO-BREAK SPACE}% interval 0.019 to 0.086, N = 2,000); no method leads on the other 2 metrics."
    )


def test_few_images_are_said_to_be_few_in_the_sentence() -> None:
    assert "N = 24, few)" in verdict(compared(lead(0, "a")))
    assert "N = 24, few)" in verdict(compared(lead(0, None, "a"), lead(1, None, "a")))


def test_the_direction_is_said_where_lower_is_better() -> None:
    assert verdict(compared(lead(1, "a"))).startswith("a leads on Deletion AUC (lower is better), with")


def test_where_no_method_leads_that_is_the_sentence() -> None:
    text = verdict(compared(lead(0, None, "a", count=200), lead(1, None, count=180)))
    assert text == "No method leads on any of the 2 metrics (N = 180 to 200)."


def test_one_metric_without_a_leader_shows_who_is_ahead_and_how_little() -> None:
    text = verdict(compared(lead(0, None, "a")))
    assert text.startswith("No method leads on Insertion AUC: a is ahead, with a paired difference of +0.053 to")
    assert verdict(compared(lead(0, None, count=150))) == (
        "No method leads on Insertion AUC (N = 150): a and b have the same mean."
    )


def test_of_many_leads_the_least_sure_one_has_its_interval() -> None:
    leads = [lead(number, "b", p=0.001 * (number + 1), count=500) for number in range(4)]
    text = verdict(compared(*leads, lead(4, "a", count=500)))
    assert text.startswith("a leads on Entropy (lower is better), with a paired difference of ")
    assert "; b leads on 4 of 5 metrics (N = 500), least surely on IoU, with a paired difference of +0.053" in text
    assert text.count("interval") == 2


def test_methods_stand_in_the_users_order_and_few_of_them() -> None:
    leads = [lead(number, leader, count=500) for number, leader in enumerate(("d", "c", "b", "a"))]
    text = verdict(compared(*leads))
    assert text.index("a leads") < text.index("b leads") < text.index("c leads")
    assert text.endswith("; 1 more leads on other metrics.")


def test_without_a_test_there_is_no_verdict() -> None:
    assert verdict(compared(lead(0, None, "a", count=8), raced=0)) == (
        "No verdict: it takes 10 images that two methods share, and no two share more than 8."
    )
    assert verdict(compared()) == "No verdict: no two methods share a metric by which they can be compared."


@pytest.mark.parametrize("leaders", [(), ("a",), ("a", "a", "b"), ("a", "b", "c", "d", "d")])
def test_it_is_one_sentence(leaders: tuple[str, ...]) -> None:
    text = verdict(compared(*(lead(number, leader, count=500) for number, leader in enumerate(leaders))))
    assert text.endswith(".")
    assert ". " not in text
