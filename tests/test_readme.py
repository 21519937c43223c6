"""The README says what is true."""

from __future__ import annotations

from pathlib import Path

from jobs.listing import METHODS, METRICS, rewritten, table

README = Path(__file__).resolve().parents[1] / "README.md"


def test_its_tables_are_those_of_the_registries() -> None:
    page = README.read_text(encoding="utf-8")
    assert table(METHODS) in page
    assert table(METRICS) in page
    assert rewritten(page) == page
