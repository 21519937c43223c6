"""The terminal says who leads only where the report does, in at most three lines."""

from __future__ import annotations

from typing import Any

import pytest

from jobs.commands.leaderboard import MOST_LINES, entries, lines


def report(*leads: tuple[str, str | None], models: int = 1) -> dict[str, Any]:
    found = [
        {"column": {"name": metric}, "leader": leader, "reason": "" if leader else "a tie", "fewest": 20, "most": 24}
        for metric, leader in leads
    ]
    return {"models": [{"model": f"m{number}", "leads": found} for number in range(models)]}


@pytest.mark.parametrize(
    ("leads", "said"),
    [
        ([], ["No two methods share a metric, so there is nothing to compare."]),
        ([("gini", None)], ["No method leads on gini (N = 20 to 24)."]),
        ([("gini", None), ("diffid", None)], ["No method leads on any of the 2 metrics (N = 20 to 24)."]),
        (
            [("gini", "ig"), ("diffid", "ig"), ("road", None)],
            ["ig leads on gini, diffid (N = 20 to 24)", "no method leads on 1 more metrics"],
        ),
    ],
)
def test_it_says_who_leads_or_that_nobody_does(leads: list[tuple[str, str | None]], said: list[str]) -> None:
    assert lines(entries(report(*leads))) == said


def test_it_is_never_longer_than_three_lines_and_names_the_model_where_there_are_several() -> None:
    many = report(*((f"metric{number}", f"method{number}") for number in range(9)), ("last", None), models=2)
    told = lines(entries(many))
    assert len(told) == MOST_LINES
    assert told[0] == "m0: method0 leads on metric0 (N = 20 to 24)"
    assert told[1] == "17 more methods lead on some metric: see the report"
    assert told[2] == "no method leads on 2 more metrics"


def test_an_entry_is_for_a_program() -> None:
    assert entries(report(("gini", None))) == [
        {"model": "m0", "metric": "gini", "leader": None, "reason": "a tie", "images": [20, 24]}
    ]
