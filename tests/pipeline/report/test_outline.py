"""Headings, their anchors, and the order that they must keep."""

from __future__ import annotations

import pytest

from pipeline.report.outline import Heading, Outline


def test_a_heading_links_to_itself_and_is_listed() -> None:
    outline = Outline()
    part = outline.of("", 1)
    assert part.heading(2, "Ranks <all>", "ranks") == '<h2 id="ranks"><a href="#ranks">Ranks &lt;all&gt;</a></h2>'
    assert outline.headings == [Heading(2, "Ranks <all>", "ranks")]


def test_sections_of_several_models_have_names_and_anchors_of_their_own() -> None:
    outline = Outline()
    for number, owner in enumerate(("small", "large"), 1):
        part = outline.of(owner, number)
        assert f">{owner}: Ranks</a>" in part.heading(2, "Ranks", "ranks")
        part.heading(3, "Faithfulness", "faithfulness")
    assert [(heading.title, heading.anchor) for heading in outline.headings] == [
        ("Ranks", "ranks"),
        ("Faithfulness", "faithfulness"),
        ("Ranks", "ranks-2"),
        ("Faithfulness", "faithfulness-2"),
    ]
    outline.heading(2, "Coverage", "coverage")
    assert [(owner, [heading.title for heading in owned]) for owner, owned in outline.sections] == [
        ("small", ["Ranks"]),
        ("large", ["Ranks"]),
        ("", ["Coverage"]),
    ]


def test_an_anchor_is_used_once() -> None:
    outline = Outline()
    outline.heading(2, "Ranks", "ranks")
    with pytest.raises(ValueError, match="ranks"):
        outline.heading(2, "Ranks again", "ranks")


def test_no_level_is_skipped() -> None:
    outline = Outline()
    outline.heading(2, "Ranks", "ranks")
    with pytest.raises(ValueError, match="skips"):
        outline.heading(4, "Faithfulness", "faithfulness")
