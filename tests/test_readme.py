"""The README, and what is generated of other pages, say what is true."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

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


ROOT = README.parent
PAGES = sorted(path for pattern in ("*.md", "docs/**/*.md", "examples/**/*.md") for path in ROOT.glob(pattern))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_link_and_every_file_that_a_page_names_is_there(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    links = [link.partition("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in link]
    assert [link for link in links if link and not (page.parent / link).exists()] == []
    named = re.findall(r"`((?:ssig|pipeline|jobs|tests|docs|examples)/[\w./-]+)`", text)
    assert [name for name in named if not (ROOT / name).exists()] == []
