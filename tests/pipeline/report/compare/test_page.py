"""The page of a comparison: every string escaped, nothing fetched, accessible, and the same numbers in each file."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, sync_playwright

from pipeline.report import numbers
from pipeline.report.compare.contents import compare
from pipeline.report.compare.writing import about_of, write

COMMAND = "ssig browse 'a <b>' c"


@pytest.fixture(scope="module")
def folder(two_runs: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    first, second = map(str, two_runs)
    to = tmp_path_factory.mktemp("page") / "out"
    comparison, runs = compare((first, second))
    files = write(comparison, runs, to, about_of((first, second), 100, 0), COMMAND)
    assert [path.name for path in files] == ["index.html", "comparison.json", "differences.csv", "maps.csv"]
    return to


def test_every_string_is_escaped_and_nothing_is_fetched(folder: Path) -> None:
    page = (folder / "index.html").read_text()
    assert "<b>new</b>" not in page
    assert "&lt;b&gt;new&lt;/b&gt;" in page
    assert "&lt;b&gt;goldfish" in page
    assert "a &lt;b&gt;" in page
    assert "default-src 'none'; img-src data:; style-src 'unsafe-inline'" in page
    assert "<script" not in page
    assert all(source.startswith("data:") for source in re.findall(r'src="([^"]+)"', page))


def test_ids_are_unique_and_links_lead_somewhere(folder: Path) -> None:
    ids: list[str] = []
    links: list[str] = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            given = dict(attrs)
            ids.extend([given["id"]] if given.get("id") else [])
            links.extend([given["href"][1:]] if (given.get("href") or "").startswith("#") else [])
            if tag == "img":
                assert given["alt"]

    Reader().feed((folder / "index.html").read_text())
    assert len(ids) == len(set(ids))
    assert links
    assert set(links) <= set(ids)


def test_page_record_and_table_hold_the_same_numbers(folder: Path) -> None:
    page, record = (folder / "index.html").read_text(), json.loads((folder / "comparison.json").read_text())
    with (folder / "differences.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(record["differences"])
    for row, recorded in zip(rows, record["differences"], strict=True):
        assert (row["method"], row["column"], row["verdict"]) == (
            recorded["method"],
            recorded["column"],
            recorded["verdict"],
        )
        assert float(row["difference"]) == pytest.approx(recorded["difference"])
        assert numbers.signed(recorded["difference"]) in page
    assert record["summary"] in page
    assert record["common"] == {"images": 24, "matched_by_key_alone": 0, "only_in": {"A": 0, "B": 0}}


def test_the_most_changed_sample_is_shown_first(folder: Path) -> None:
    record = json.loads((folder / "comparison.json").read_text())
    keys = [each["key"] for each in record["maps"]["most_changed"]]
    assert len(keys) == 12
    shown = re.findall(r'id="changed-\d+"><a href="#changed-\d+">([^<]+)</a>', (folder / "index.html").read_text())
    assert shown == keys
    correlations = [each["rank_correlation"] for each in record["maps"]["most_changed"]]
    assert correlations == sorted(correlations)


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1440, 390])
def test_axe_finds_no_violation_and_nothing_scrolls_sideways(
    browser: Browser, folder: Path, width: int, scheme: str
) -> None:
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.goto((folder / "index.html").as_uri())
    page.evaluate("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
    violations = Axe().run(page).response["violations"]
    assert [(each["id"], each["nodes"][0]["html"][:200]) for each in violations] == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert said == []
    page.close()
