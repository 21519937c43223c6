"""The command and its pages in a real browser: Chromium or Chrome of this machine, driven by Playwright."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
from axe_playwright_python.sync_playwright import Axe
from browse_site import MARK, small_run
from playwright.sync_api import Page, expect, sync_playwright

ROOT = Path(__file__).resolve().parents[3]
pytestmark = pytest.mark.browser
PATIENCE = 120_000  # ms that a page may take where much else is at work
expect.set_options(timeout=PATIENCE)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, chromium: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The command at work on a small run, and the address that it printed."""
    folder = tmp_path_factory.mktemp("browser")
    run = small_run(folder, [{"name": "gradient", "label": MARK[:40]}, {"name": "ig", "steps": 2}])
    command = [sys.executable, "-m", "ssig", "browse", str(run), "--port", "0", "--cache", str(folder / "cache")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline(), process.stdout.readline()]
        assert lines[0].startswith("index: built in ")
        yield process, lines[1].removeprefix("browse: ").strip()
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=30) == 0


@pytest.fixture
def page(chromium: str, server: tuple[subprocess.Popen[str], str]) -> Iterator[Page]:
    """A page of a fresh browser; whatever its console says fails the test."""
    said: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.set_default_timeout(PATIENCE)
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("dialog", lambda dialog: said.append(f"dialog: {dialog.message}"))
        yield page
        browser.close()
    assert [text for text in said if "404" not in text] == []  # the photograph that is no image


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1440, 390])
def test_axe_finds_no_violation(
    chromium: str, server: tuple[subprocess.Popen[str], str], width: int, scheme: Literal["light", "dark"]
) -> None:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        viewport: Any = {"width": width, "height": 900}
        # Axe is a script of its own, which the pages' policy forbids.
        page = browser.new_page(viewport=viewport, color_scheme=scheme, bypass_csp=True)
        page.set_default_timeout(PATIENCE)
        page.goto(server[1])
        for place in ("grid", "sample"):
            violations = Axe().run(page, options={"resultTypes": ["violations"]}).response["violations"]
            assert [(rule["id"], rule["nodes"][0]["html"][:200]) for rule in violations] == [], place
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            if place == "grid":
                page.locator("main a[href*=sample]").first.click()
                page.wait_for_url("**/sample?**")
        browser.close()


def test_samples_are_found_opened_and_played_by_keys(page: Page, server: tuple[subprocess.Popen[str], str]) -> None:
    page.goto(server[1])
    assert "token" not in page.url
    assert page.evaluate("document.cookie") == ""
    expect(page.locator(".card")).to_have_count(6)
    page.select_option("select[name=sort]", "insertion")
    page.select_option("select[name=status]", "ok")
    page.get_by_role("button", name="Show").click()
    page.wait_for_url("**sort=insertion**")  # until all is loaded, the keys' script included
    expect(page.locator(".card")).to_have_count(5)
    assert "sort=insertion" in page.url
    grid = page.url

    page.keyboard.press("?")
    expect(page.locator("dialog")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator("dialog")).to_be_hidden()
    page.keyboard.press("j")
    page.keyboard.press("j")
    opened = page.evaluate("document.activeElement.href")
    assert opened == page.locator(".card .open").nth(1).evaluate("link => link.href")
    page.keyboard.press("Enter")
    page.wait_for_url(opened)
    assert page.locator(".maps img").count() == 3

    slider = page.locator(".player input").first
    picture = page.locator(".player img").first
    slider.fill("4")
    expect(picture).to_have_attribute("src", re.compile("step=4$"))
    expect(page.locator(".player output").first).to_contain_text("step 4 of 4, target score")
    page.evaluate("document.activeElement.blur()")  # on the slider, arrows move the slider
    page.keyboard.press("ArrowRight")
    page.wait_for_url(lambda url: url != opened and "/sample" in url)
    page.keyboard.press("u")
    page.wait_for_url(lambda url: "/sample" not in url)
    assert "sort=insertion" in page.url
    page.goto(grid)
    expect(page.locator(".card")).to_have_count(5)


@pytest.mark.parametrize("width", [390, 1440])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_page_is_wider_than_the_screen(
    page: Page, server: tuple[subprocess.Popen[str], str], width: int, scheme: str
) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    page.goto(server[1])
    for address in (page.url, page.locator(".card .open").nth(2).evaluate("link => link.href")):
        page.goto(address)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        background = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (background == "rgb(255, 255, 255)") == (scheme == "light")
        unnamed = "[...document.querySelectorAll('input:not([type=hidden]), select, textarea')]"
        assert page.evaluate(f"{unnamed}.filter(one => !one.labels.length && !one.ariaLabel).length") == 0
        assert page.evaluate("document.querySelectorAll('img:not([alt])').length") == 0


def test_a_second_browser_without_the_token_sees_nothing(
    page: Page, server: tuple[subprocess.Popen[str], str]
) -> None:
    answer = page.request.get(server[1].partition("?")[0])
    assert answer.status == 403
