"""The README, and what is generated of other pages, say what is true."""

from __future__ import annotations

from pathlib import Path

from jobs.commands.listing import METHODS, METRICS, rewritten, table

README = Path(__file__).resolve().parents[1] / "README.md"


def test_its_tables_are_those_of_the_registries() -> None:
    page = README.read_text(encoding="utf-8")
    assert table(METHODS) in page
    assert table(METRICS) in page
    assert rewritten(page) == page


def test_the_tables_of_columns_are_those_of_the_schemas() -> None:
    page = (README.parent / "docs" / "run-format.md").read_text(encoding="utf-8")
    assert page.count("<!-- columns ") == 3
    assert rewritten(page) == page
    assert rewritten(page.replace("| `probability` |", "| `chance` |")) == page
