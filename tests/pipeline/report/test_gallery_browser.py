"""The gallery in a real browser: views and enlargement without a script, by keys."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Page, expect, sync_playwright

pytestmark = pytest.mark.browser
PATIENCE = 120_000  # ms that a page may take where much else is at work
expect.set_options(timeout=PATIENCE)


@pytest.fixture(scope="module")
def page(chromium: str, finished_run: Any) -> Iterator[Page]:
    """The report without scripts, on a wide screen."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1440, "height": 900}, java_script_enabled=False)
        page.set_default_timeout(PATIENCE)
        page.goto((finished_run.path / "report" / "index.html").as_uri())
        yield page
        browser.close()


def side(page: Page, place: int) -> float:
    """The width of the picture of a tile."""
    box = page.locator(".gallery .tile .picture").nth(place).bounding_box()
    assert box is not None
    return box["width"]


def test_a_map_has_its_own_size_and_is_enlarged_by_keys(page: Page) -> None:
    assert side(page, 1) == pytest.approx(224, abs=1)
    page.locator(".gallery summary").nth(1).focus()
    page.keyboard.press("Enter")
    assert side(page, 1) > 600
    page.keyboard.press("Enter")
    assert side(page, 1) == pytest.approx(224, abs=1)


def test_opening_a_picture_closes_the_other(page: Page) -> None:
    summaries = page.locator(".gallery summary")
    for place in (1, 2):
        summaries.nth(place).focus()
        page.keyboard.press("Enter")
    expect(page.locator(".gallery .tile[open]")).to_have_count(1)
    page.keyboard.press("Enter")
    expect(page.locator(".gallery .tile[open]")).to_have_count(0)


def test_views_show_map_photograph_or_both(page: Page) -> None:
    tile = page.locator(".gallery .tile").nth(1)
    parts = [tile.locator(f".{name}") for name in ("map", "backdrop", "photograph")]
    for view, shown in (
        ("map alone", (True, False, False)),
        ("photograph alone", (False, False, True)),
        ("map on photograph", (True, True, False)),
    ):
        page.get_by_role("radio", name=view).check()
        for part, expected in zip(parts, shown, strict=True):
            expect(part).to_have_css("display", "inline" if expected else "none")


def test_boxes_can_be_hidden(page: Page) -> None:
    boxes = page.locator(".gallery .tile .boxes").nth(1)
    page.get_by_role("checkbox", name="annotated boxes").uncheck()
    expect(boxes).to_have_css("display", "none")
    page.get_by_role("checkbox", name="annotated boxes").check()
    expect(boxes).to_have_css("display", "inline")


def test_the_first_screen_shows_the_photograph_and_maps_of_the_gallery(page: Page) -> None:
    expect(page.locator(".thumbnails .picture")).to_have_count(3)
    expect(page.get_by_role("img", name="ig/50: signed map of").first).to_be_visible()
