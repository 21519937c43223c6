"""The terminal says who leads in the report's own words."""

from __future__ import annotations

from typing import Any

from jobs.commands.leaderboard import MOST_LINES, entries, verdicts


def report(models: int = 1) -> dict[str, Any]:
    lead = {"column": {"name": "gini"}, "leader": None, "reason": "a tie", "fewest": 20, "most": 24}
    sentence = "No method leads on Gini index (N = 20 to 24, few): a tie."
    return {"models": [{"model": f"m{number}", "leads": [lead], "verdict": sentence} for number in range(models)]}


def test_one_model_has_the_sentence_alone() -> None:
    assert verdicts(report()) == ["No method leads on Gini index (N = 20 to 24, few): a tie."]


def test_several_models_are_named_in_few_lines() -> None:
    assert [line[:4] for line in verdicts(report(2))] == ["m0: ", "m1: "]
    told = verdicts(report(5))
    assert len(told) == MOST_LINES
    assert told[-1] == "3 more models: see the report"


def test_an_entry_is_for_a_program() -> None:
    assert entries(report()) == [
        {"model": "m0", "metric": "gini", "leader": None, "reason": "a tie", "images": [20, 24]}
    ]
