"""Strings of data, labels and records come into the report as text, whatever they hold."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from pipeline.checks.audit import audit
from pipeline.report import build_report
from pipeline.report.render import _markdown_text

Make = Callable[..., Any]
MARK = "<script>alert('x')</script><img src=x onerror=alert(1)>\"&|`*_[a](javascript:alert(1))"
VOID = {"meta", "br", "wbr"}
READER = MarkdownIt("commonmark").enable(["table", "strikethrough"])


class Tags(HTMLParser):
    """The tags of a page, their attributes, its text, and whether it nests."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str | None]] = []
        self.open: list[str] = []
        self.scripts = 0
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.scripts += tag == "script"
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def edit(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    record = json.loads(path.read_text())
    change(record)
    path.write_text(json.dumps(record))


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a run in which every string that can be is hostile."""
    from small_runs import do_units
    from tests_shards import jpeg, write_tar

    from pipeline.job.configuration import load_job

    folder = tmp_path_factory.mktemp("hostile")
    key = MARK.replace(".", "").replace("/", "")
    files = [(f"{key}.jpg", jpeg(0)), (f"{key}.cls", b"0"), (f"{key}2.jpg", b"x"), (f"{key}2.cls", b"0")]
    files += [
        (f"ok{number}.{ending}", data)
        for number in range(3)
        for ending, data in (("jpg", jpeg(number)), ("cls", b"1"))
    ]
    files += [(f"{key}.jpg", jpeg(1))]
    fields = {
        "dataset.shards": [
            str(write_tar(folder / f"{MARK.replace('/', '')}.tar".replace("[", "(").replace("*", ""), files))
        ],
        "model.name": "networks:tiny",
        "model.label": MARK[:40],
        "methods": [{"name": "gradient", "label": MARK[:30]}, {"name": "ig", "steps": 2, "label": MARK[28:60]}],
        "metrics": [{"name": "insertion", "steps": 2}, "completeness"],
        "output.path": str(folder / "run"),
    }
    run = do_units(load_job(None, fields))
    assert audit(str(run)).ok
    for path in (run / "config").iterdir():
        edit(path, lambda config: config.update(categories=[MARK] * 8, machine={MARK: [MARK], "cpu": MARK}))
        edit(
            path, lambda config: config["method"].update(paper=MARK, equation=MARK, options={"readout": MARK, MARK: 1})
        )
        edit(path, lambda config: config["model"].update(name=MARK, geometry={MARK: MARK}, score=MARK))
        edit(path, lambda config: config["metrics"]["insertion"].update(score=f"$\\x{MARK}$", more={MARK: [MARK]}))
    for path in (run / "quarantine").iterdir():
        edit(path, lambda record: record.update(reason=MARK, kind=MARK, attempts=MARK, offset=MARK))
    edit(run / "run.json", lambda record: record.update(created=MARK, versions={MARK: {MARK: MARK}}))
    build_report(str(run))
    return run / "report"


def test_the_page_holds_no_tag_of_the_data(report: Path) -> None:
    page = Tags((report / "index.html").read_text())
    assert page.open == []
    assert not {"img", "iframe"} & page.tags
    assert page.scripts == 1  # the page's own
    # The page links to itself alone; pictures are part of it.
    assert all(
        (value or "").startswith(("#", "data:image/")) for name, value in page.attributes if name.endswith("href")
    )
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    assert not [value for name, value in page.attributes if name in ("href", "src") and "script" in (value or "")]
    assert page.text.count("<script>alert('x')</script>") > 10


def test_the_markdown_holds_no_tag_link_or_cell_of_the_data(report: Path) -> None:
    text = (report / "report.md").read_text()
    prose = re.sub(r"```yaml\n.*?\n```", "", text, flags=re.DOTALL)
    assert not re.search(r"<[a-z/]", prose)
    assert not re.search(r"(?<!\\)\]\(", prose)
    assert prose.count("&lt;script") > 10
    assert text.count("```") == 2


def test_what_is_no_text_is_escaped_too() -> None:
    assert _markdown_text({"<b>": "a|b"}) == "{'&lt;b>': 'a\\|b'}"
    assert _markdown_text(["`x`"]) == "\\['\\`x\\`'\\]"
    assert (_markdown_text(3), _markdown_text(0.5)) == (3, 0.5)


def shown(text: str) -> str:
    """What a reader of Markdown makes of text that holds no sign of it."""
    return html.escape(text, quote=False)


@pytest.mark.parametrize(
    "value",
    [
        *("# heading", "## #", "> quotation", "- item", "-", "---", "+ item", "= =", "===", "1. item", "12) item"),
        *(
            "7.",
            "~~~",
            "~~~ python",
            "~~gone~~",
            "a ~ b",
            "```",
            "* * *",
            "_x_",
            "![a](b)",
            "[a]: b",
            "<a@b>",
            "&amp;",
        ),
    ],
)
def test_no_value_opens_a_block_where_it_begins_a_line(value: str) -> None:
    text = _markdown_text(value)
    assert READER.render(text) == f"<p>{shown(value)}</p>\n"
    assert READER.render(f"- {text}: 1") == f"<ul>\n<li>{shown(value)}: 1</li>\n</ul>\n"
    assert READER.render(f"## {text}") == f"<h2>{shown(value)}</h2>\n"
    assert READER.render(f"before\n{text}\nafter") == f"<p>before\n{shown(value)}\nafter</p>\n"


@given(st.text("#>+-=~`*_[]()!<&:/.w1 a|\\@'"))
def test_whatever_the_value_markdown_shows_it(value: str) -> None:
    words = " ".join(value.split())
    assert READER.render(_markdown_text(value)) == (f"<p>{shown(words)}</p>\n" if words else "")
    assert READER.render(f"## a {_markdown_text(value)}") == f"<h2>{shown(f'a {words}'.strip())}</h2>\n"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("see https://x.y/z", "see https\\://x.y/z"),
        ("s3://bucket/run", "s3\\://bucket/run"),
        ("WWW.x.y, (www.x.y)", "WWW\\.x.y, (www\\.x.y)"),
        ("someone@x.y", "someone\\@x.y"),
    ],
)
def test_no_address_becomes_a_link(value: str, expected: str) -> None:
    assert _markdown_text(value) == expected
    assert READER.render(expected) == f"<p>{value}</p>\n"


@pytest.mark.parametrize(
    "value",
    [
        *("ssig-path", "guided-ig", "ssig+ig", "a=b", "x>y", "insertion_deletion_gap", "efficientnet-lite0"),
        *("0.5", "1.5e-3", "2026-01-31", "timm:resnet18.a1_in1k", "C#", "10 %"),
    ],
)
def test_ordinary_names_stay_as_they_are(value: str) -> None:
    assert _markdown_text(value) == value
