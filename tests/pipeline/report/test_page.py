"""The structure of the page: anchors, headings, links, tables, and the one script that its policy allows."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from colour_vision import contrast

from pipeline.report import build_report
from pipeline.report.definitions import anchor

STYLE_SHEET = Path(__file__).resolve().parents[3] / "pipeline/report/templates/style.css"


class Outline(HTMLParser):
    """What a reader of the page's structure needs: ids, links, headings, header cells, and text by tag."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.levels: list[int] = []
        self.anchored: list[bool] = []
        self.header_cells: list[dict[str, str | None]] = []
        self.policy = ""
        self.script = ""
        self._inside = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self._inside = tag
        if values.get("id"):
            self.ids.append(values["id"] or "")
        if tag == "a":
            self.links.append(values["href"] or "")
        if re.fullmatch("h[1-6]", tag):
            self.levels.append(int(tag[1]))
            self.anchored.append("id" in values)
        if tag == "th":
            self.header_cells.append(values)
        if tag == "meta" and values.get("http-equiv") == "Content-Security-Policy":
            self.policy = values["content"] or ""

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside == "script":
            self.script += data


@pytest.fixture(scope="module")
def two_models(finished_run: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a run with a second model, which has the same numbers."""
    folder = tmp_path_factory.mktemp("two") / "run"
    shutil.copytree(finished_run.path, folder)
    for path in list((folder / "config").iterdir()):
        config = {**json.loads(path.read_text()), "model_label": "second"}
        path.with_name(f"second-{path.name}").write_text(json.dumps(config))
    (commits,) = (folder / "commits").iterdir()
    shutil.copytree(commits, commits.with_name("model=second"))
    build_report(str(folder))
    return folder / "report"


@pytest.fixture(scope="module", params=["one model", "two models"])
def page(request: pytest.FixtureRequest, finished_run: Any, two_models: Path) -> Outline:
    report = finished_run.path / "report" if request.param == "one model" else two_models
    return Outline((report / "index.html").read_text())


def test_no_id_is_used_twice(page: Outline) -> None:
    assert sorted(page.ids) == sorted(set(page.ids))


def test_every_link_has_its_target(page: Outline) -> None:
    assert page.links
    assert {link for link in page.links if link.removeprefix("#") not in page.ids} == set()


def test_headings_begin_with_one_title_and_skip_no_level(page: Outline) -> None:
    assert page.levels[0] == 1
    assert page.levels.count(1) == 1
    assert all(later <= earlier + 1 for earlier, later in zip(page.levels, page.levels[1:], strict=False))


def test_every_section_has_an_anchor_that_the_contents_list_twice_for_wide_and_narrow_screens(page: Outline) -> None:
    assert all(page.anchored[1:])
    sections = page.levels.count(2)
    listed = [link for link in dict.fromkeys(page.links) if page.links.count(link) >= 3]
    assert len(listed) >= sections


def test_every_header_cell_has_a_scope(page: Outline) -> None:
    assert {cell.get("scope") for cell in page.header_cells} == {"row", "col"}


def test_the_policy_allows_the_script_by_its_hash_and_no_other(page: Outline) -> None:
    digest = base64.b64encode(hashlib.sha256(page.script.encode()).digest()).decode()
    rules = dict(rule.strip().split(" ", 1) for rule in page.policy.split(";"))
    assert rules["script-src"] == f"'sha256-{digest}'"
    assert rules["default-src"] == "'none'"


def test_the_verdict_comes_before_all_else(finished_run: Any, two_models: Path) -> None:
    text = (finished_run.path / "report" / "index.html").read_text()
    assert text.index('class="verdict"') < text.index("Coverage in full") < text.index("<h2")
    assert text.index('class="verdict"') < text.index("<nav")
    markdown = (finished_run.path / "report" / "report.md").read_text().split("\n\n")
    assert markdown[1].startswith("**ig/50 leads on ")
    both = (two_models / "report.md").read_text().split("\n\n")
    assert both[1].startswith("**second: ig/50 leads on ")


def test_every_shown_column_is_defined_with_its_source(finished_run: Any) -> None:
    text = (finished_run.path / "report" / "index.html").read_text()
    defined = text[text.index('<h2 id="metrics">') :]
    assert '<dt id="metric-insertion">Insertion AUC <code>insertion</code></dt>' in defined
    assert "Petsiuk et al., RISE, BMVC 2018" in defined
    assert '<a class="metric" href="#metric-insertion" title="area under the target score' in text


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_text_stands_out_from_its_ground(scheme: int) -> None:
    def colour(name: str) -> str:
        digits: str = re.findall(rf"--{name}: #([0-9a-f]+);", STYLE_SHEET.read_text())[scheme]
        return "#" + (digits if len(digits) == 6 else "".join(2 * digit for digit in digits))

    grounds = [colour(name) for name in ("paper", "wash")]
    assert min(contrast(colour(text), ground) for text in ("ink", "soft", "link") for ground in grounds) >= 4.5
    assert contrast(colour("mark"), colour("paper")) >= 3


def test_anchors_of_definitions_need_no_escape_and_differ() -> None:
    names = ["roc_auc", "roc_auc@more", "roc_auc more", "a-b", 'a"b', "<a>"]
    anchors = [anchor(name) for name in names]
    assert all(re.fullmatch(r"metric-[A-Za-z0-9_-]+", text) for text in anchors)
    assert len(set(anchors)) == len(names)
