"""The page in a real browser: accessible, sortable, within the screen, and on few sheets of paper."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright

pytestmark = pytest.mark.browser
PATIENCE = 120_000  # ms that a page may take where much else is at work
WIDE, NARROW = (1440, 900), (390, 844)
expect.set_options(timeout=PATIENCE)
Open = Callable[..., Page]


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def opened(browser: Browser, wide_run: Any) -> Iterator[Open]:
    """`opened(size, **settings)`: the report; whatever its console says fails the test."""
    said: list[str] = []
    pages: list[Page] = []

    def open_page(size: tuple[int, int] = WIDE, **settings: Any) -> Page:
        page = browser.new_page(viewport={"width": size[0], "height": size[1]}, **settings)
        page.set_default_timeout(PATIENCE)
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.goto((wide_run.path / "report" / "index.html").as_uri())
        pages.append(page)
        return page

    yield open_page
    for page in pages:
        page.close()
    assert said == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [WIDE, NARROW])
def test_axe_finds_no_violation(opened: Open, size: tuple[int, int], scheme: str) -> None:
    page = opened(size, color_scheme=scheme)
    page.evaluate("document.querySelectorAll('details').forEach((details) => { details.open = true; })")
    options = {"resultTypes": ["violations"], "rules": {"target-size": {"enabled": True}}}
    violations = Axe().run(page, options=options).response["violations"]
    shown = [(one["id"], one["nodes"][0]["html"][:200], len(one["nodes"])) for one in violations]
    assert shown == []


@pytest.mark.parametrize("size", [WIDE, NARROW])
def test_the_page_does_not_scroll_sideways(opened: Open, size: tuple[int, int]) -> None:
    page = opened(size)
    page.evaluate("document.querySelectorAll('details').forEach((details) => { details.open = true; })")
    assert page.evaluate("document.documentElement.scrollWidth") <= size[0]


def test_the_first_screen_holds_the_verdict_its_figure_and_the_coverage(opened: Open) -> None:
    page = opened(WIDE)
    for part in (".verdict", ".forest svg", "header >> text=Coverage in full"):
        box = page.locator(part).first.bounding_box()
        assert box is not None
        assert box["y"] + box["height"] <= WIDE[1]
    box = opened(NARROW).locator(".verdict").bounding_box()
    assert box is not None
    assert box["y"] + box["height"] <= NARROW[1]


def test_the_contents_stay_beside_the_text_or_are_folded(opened: Open) -> None:
    page = opened(WIDE)
    link = page.locator("nav a:visible", has_text="Provenance")
    page.locator("#provenance").scroll_into_view_if_needed()
    expect(link).to_be_in_viewport()
    narrow = opened(NARROW)
    expect(narrow.locator("nav a:visible")).to_have_count(0)
    narrow.locator("nav summary").click()
    narrow.locator("nav a:visible", has_text="Provenance").click()
    expect(narrow.locator("#provenance")).to_be_in_viewport()


def means(page: Page) -> Locator:
    return page.get_by_role("group", name="Means: faithfulness")


def first_numbers(page: Page) -> list[float]:
    cells = means(page).locator("tbody tr td:nth-child(2)")
    return [float(value) for value in cells.evaluate_all("cells => cells.map((cell) => cell.dataset.value)")]


def test_a_table_is_sorted_by_keys_and_goes_back_to_its_order(opened: Open) -> None:
    page = opened(WIDE)
    before = first_numbers(page)
    button = means(page).get_by_role("button", name="Sort by Insertion AUC")
    button.focus()
    page.keyboard.press("Enter")
    head = means(page).locator("thead th").nth(1)
    expect(head).to_have_attribute("aria-sort", "ascending")
    assert first_numbers(page) == sorted(before)
    page.keyboard.press("Enter")
    expect(head).to_have_attribute("aria-sort", "descending")
    assert first_numbers(page) == sorted(before, reverse=True)
    page.keyboard.press("Enter")
    assert head.get_attribute("aria-sort") is None
    assert first_numbers(page) == before


def test_empty_cells_stand_last_in_either_order(opened: Open) -> None:
    page = opened(WIDE)
    means(page).locator("tbody tr").first.locator("td").first.evaluate(
        "cell => { delete cell.dataset.value; cell.textContent = '\u2013'; }"
    )
    button = means(page).get_by_role("button", name="Sort by Insertion AUC")
    for _ in range(2):
        button.click()
        expect(means(page).locator("tbody tr").last.locator("td").first).to_have_text("\u2013")


def test_rows_are_filtered_as_one_types(opened: Open) -> None:
    page = opened(WIDE)
    rows = means(page).locator("tbody tr:visible")
    expect(rows).to_have_count(9)
    field = means(page).locator("xpath=preceding-sibling::label").get_by_role("searchbox")
    field.fill("BLUR")
    expect(rows).to_have_count(1)
    expect(means(page).locator("xpath=preceding-sibling::label").get_by_role("status")).to_have_text("1 of 9")
    field.fill("")
    expect(rows).to_have_count(9)


def test_everything_reads_without_the_script(opened: Open) -> None:
    page = opened(WIDE, java_script_enabled=False)
    expect(means(page).locator("tbody tr:visible")).to_have_count(9)
    expect(page.get_by_role("button")).to_have_count(0)


def test_it_prints_on_few_pages(opened: Open) -> None:
    page = opened(WIDE)
    sheets = re.findall(rb"/Type /Page\b", page.pdf(prefer_css_page_size=True))
    assert 1 < len(sheets) <= 8
