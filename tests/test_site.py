"""The site that `make docs` builds: whole, without a broken link, and without anything from the network."""

from __future__ import annotations

import functools
import http.server
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
CONFIGURATION = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
# Attributes that make a browser fetch something. Of `link` not all kinds do.
FETCHED = {("script", "src"), ("img", "src"), ("iframe", "src"), ("source", "src"), ("video", "src"), ("link", "href")}
REMOTE = re.compile(r"(?:https?:)?//")
# What the theme's script would fetch for things that these pages do not have: a diagram, an old browser, a repository.
UNUSED = {
    "https://unpkg.com/mermaid@11/dist/mermaid.min.js",
    "https://unpkg.com/resize-observer-polyfill",
    "https://api.github.com/users/${e}",
    "https://api.github.com/repos/${e}/${t}",
    "https://${e}/api/v4/projects/${encodeURIComponent(t)}",
}


def build(configuration: Path, site: Path) -> subprocess.CompletedProcess[str]:
    """What `make docs` runs. With `--quiet`, mkdocs counts no warnings, so `--strict` would mean nothing."""
    command = [sys.executable, "-m", "mkdocs", "build", "--strict"]
    return subprocess.run(
        [*command, "--config-file", str(configuration), "--site-dir", str(site)],
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    done = build(ROOT / "mkdocs.yml", folder)
    assert done.returncode == 0, done.stderr
    return folder


class Assets(HTMLParser):
    """The addresses that a page makes a browser fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag == "link" and values.get("rel") in ("canonical", "prev", "next"):
            return
        self.addresses += [value for name, value in attrs if (tag, name) in FETCHED and value]


def remote_assets(folder: Path) -> list[str]:
    """Each address on another host that a page or a style sheet names as part of itself."""
    addresses: list[str] = []
    for path in folder.rglob("*.html"):
        assets = Assets()
        assets.feed(path.read_text(encoding="utf-8"))
        addresses += assets.addresses
    for path in folder.rglob("*.css"):
        addresses += re.findall(r"(?:url\(|@import )[\"']?([^\"')]+)", path.read_text(encoding="utf-8"))
    return [address for address in addresses if REMOTE.match(address)]


def test_every_page_is_in_the_navigation_and_in_the_site(site: Path) -> None:
    pages = {path.relative_to(ROOT / "docs").with_suffix(".html") for path in (ROOT / "docs").rglob("*.md")}
    assert [page for page in pages if not (site / page).exists()] == []
    assert (site / "search" / "search_index.json").stat().st_size > 100_000


def test_nothing_is_fetched_from_another_host(site: Path) -> None:
    assert remote_assets(site) == []
    scripts = "".join(path.read_text(encoding="utf-8") for path in (site / "assets" / "javascripts").glob("*.js"))
    fetched = set(re.findall(r"[\"'`](https?://[^\"'`\s]+)[\"'`]", scripts))
    assert {address for address in fetched if "w3.org" not in address} <= UNUSED


def test_a_planted_remote_asset_is_found(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text('<link rel="stylesheet" href="https://fonts.example/a.css"><img src="b.png">')
    (tmp_path / "b.css").write_text("a { background: url('//cdn.example/c.png') } b { background: url(d.png) }")
    assert remote_assets(tmp_path) == ["https://fonts.example/a.css", "//cdn.example/c.png"]


@pytest.mark.parametrize("link", ["[a](none.md)", "[a](other.md#none)", "[a](/other.md)", "![a](none.png)"])
def test_a_broken_link_fails_the_build(link: str, tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "index.md").write_text(f"# A\n\n{link}\n")
    (tmp_path / "docs" / "other.md").write_text("# B\n")
    small = {**CONFIGURATION, "nav": ["index.md", "other.md"], "theme": "mkdocs", "plugins": [], "extra_css": []}
    (tmp_path / "mkdocs.yml").write_text(yaml.safe_dump(small))
    done = build(tmp_path / "mkdocs.yml", tmp_path / "site")
    assert done.returncode == 1
    assert "WARNING -  Doc file 'index.md' contains a" in done.stderr


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def address(site: Path) -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(site)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.browser
def test_a_browser_finds_words_and_asks_no_other_host(address: str) -> None:
    from playwright.sync_api import expect, sync_playwright

    browsers = [path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))]
    if not browsers and os.environ.get("SSIG_TEST_BROWSER") != "required":
        pytest.skip("no chromium and no google-chrome in PATH")
    assert browsers, "no chromium and no google-chrome in PATH"
    requested: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browsers[0], args=["--no-sandbox"])
        page = browser.new_page()
        page.set_default_timeout(60_000)
        page.on("request", lambda request: requested.append(request.url))
        for path in ("reference/methods.html", "index.html?q=pixel_flipping"):
            page.goto(f"{address}/{path}")
        expect(page.locator(".md-search-result__list")).to_contain_text("pixel_flipping", timeout=60_000)
        browser.close()
    assert len(requested) > 5
    assert [url for url in requested if not url.startswith((address, "data:", "blob:"))] == []
