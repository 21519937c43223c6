"""How many samples were attributed, in one sentence and in few rows."""

from __future__ import annotations

from pipeline.report.attributed import Coverage, coverage_groups, coverage_sentence


def row(method: str, ok: int, model: str = "net", not_done: int = 0, **statuses: int) -> Coverage:
    counts = {"ok": ok, **statuses}
    return Coverage(model, method, sum(counts.values()) + not_done, counts, not_done)


def test_complete_runs_say_so() -> None:
    assert coverage_sentence([row("ssig", 24)]) == "All 24 images were attributed by ssig."
    assert coverage_sentence([row("ssig", 1), row("ig", 1)]) == "The image was attributed by each of 2 methods."
    assert coverage_sentence([row("ssig", 2000), row("ssig", 2000, model="other")]) == (
        "All 2,000 images were attributed by each method of each model."
    )


def test_what_became_of_the_others_is_counted() -> None:
    rows = [row("ssig", 22, undecodable=1, not_done=1), row("ig", 22, undecodable=1, not_done=1)]
    assert coverage_sentence(rows) == (
        "22 of 24 images were attributed by each of 2 methods (1 undecodable, 1 not done)."
    )


def test_methods_that_differ_have_a_range() -> None:
    rows = [row("ssig", 24), row("ig", 20, timeout=4)]
    assert coverage_sentence(rows) == "20 to 24 of 24 images were attributed, depending on the method (timeout)."


def test_reasons_that_differ_are_named_without_counts() -> None:
    rows = [row("ssig", 23, timeout=1), row("ig", 23, nonfinite=1)]
    assert coverage_sentence(rows).endswith("by each of 2 methods (timeout, nonfinite).")


def test_equal_rows_are_shown_once() -> None:
    rows = [row(f"m{number}", 24) for number in range(30)]
    other = row("late", 20, not_done=4)
    assert [len(group) for group in coverage_groups([*rows, other])] == [30, 1]
    assert [len(group) for group in coverage_groups([row("ssig", 3), row("ssig", 3, model="other")])] == [1, 1]
