"""Figures as HTML and as PNG."""

from __future__ import annotations

from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

import ssig
from ssig.display import Figure, Panel, Row, save_picture, show, size_for


class Tags(HTMLParser):
    """The tags that are open, and every tag and text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.append(tag)
        if tag not in ("img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def panel(title: str, width: int = 224) -> Panel:
    return Panel(Image.new("RGB", (width, 224), "#336699"), title, "note of it")


def test_the_html_is_whole_and_texts_are_escaped() -> None:
    evil = '<script>alert("x")</script>&'
    figure = Figure((Row((panel(evil), panel("map")), evil, "a note"),), frozenset({True, False}), evil)
    found = Tags(figure.html())
    assert found.open == []
    assert found.tags.count("img") == 2
    assert "script" not in found.tags
    assert found.text.count(evil) == 3
    assert "against the target" in found.text


def test_nothing_is_fetched_and_no_colour_is_forced() -> None:
    text = Figure((Row((panel("map"),), "heading"),)).html()
    assert "http" not in text
    assert ";color:" not in text
    assert '"color:' not in text


def test_the_picture_holds_every_panel_and_a_long_text_makes_it_taller() -> None:
    short, long = (Figure((Row((panel(title), panel("map"))),)) for title in ("image", "a long title " * 12))
    assert short.picture().size[0] == long.picture().size[0] > 2 * 224
    assert short.picture().size[1] < long.picture().size[1]
    blue = (np.asarray(short.picture()) == np.array([0x33, 0x66, 0x99])).all(axis=-1)
    assert blue.sum() == 2 * 224 * 224


def test_small_maps_are_enlarged_by_whole_numbers() -> None:
    assert size_for((224, 224)) == (224, 224)
    assert size_for([32, 32]) == (224, 224)
    assert size_for((100, 50)) == (250, 500)


def test_only_png_is_written(tmp_path) -> None:
    figure = Figure((Row((panel("map"),)),))
    save_picture(figure, tmp_path / "a.png")
    assert Image.open(tmp_path / "a.png").format == "PNG"
    with pytest.raises(ssig.UsageError, match=r"path: found .*b\.jpg.*png"):
        save_picture(figure, tmp_path / "b.jpg")


def test_outside_a_notebook_a_viewer_is_asked(monkeypatch) -> None:
    seen: list[Image.Image] = []
    monkeypatch.setattr(Image.Image, "show", lambda picture: seen.append(picture))

    class Shown:
        def figure(self) -> Figure:
            return Figure((Row((panel("map"),)),))

    show(Shown())
    assert [picture.mode for picture in seen] == ["RGB"]
