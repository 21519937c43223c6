"""The pictures of a whole page: named, with ids of their own, and each photograph and map in it once."""

from __future__ import annotations

from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import pytest

from pipeline.report.contents import contents
from pipeline.report.pictures import foremost, pictures
from pipeline.run.reader import open_run


class Elements(HTMLParser):
    """The elements of a page with their attributes, each with the elements that it is in."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.listed: list[tuple[str, dict[str, str], tuple[str, ...]]] = []
        self.inside: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_startendtag(tag, attrs)
        if tag not in ("meta", "br", "wbr"):
            self.inside.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.listed.append((tag, {name: value or "" for name, value in attrs}, tuple(self.inside)))

    def handle_endtag(self, tag: str) -> None:
        self.inside.pop()


@pytest.fixture(scope="module")
def elements(finished_run: Any) -> list[tuple[str, dict[str, str], tuple[str, ...]]]:
    return Elements((finished_run.path / "report" / "index.html").read_text()).listed


def test_ids_are_unique_and_references_lead_somewhere(elements) -> None:
    ids = [attributes["id"] for _, attributes, _ in elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    names = {name for _, attributes, _ in elements for name in attributes.get("aria-labelledby", "").split()}
    links = {attributes["href"][1:] for _, attributes, _ in elements if attributes.get("href", "").startswith("#")}
    assert names
    assert names | links <= set(ids)


def test_every_picture_has_a_name_or_is_hidden_from_readers_of_text(elements) -> None:
    svgs = [attributes for tag, attributes, _ in elements if tag == "svg"]
    assert len(svgs) > 20
    for attributes in svgs:
        named = attributes.get("role") == "img" and (attributes.get("aria-label") or attributes.get("aria-labelledby"))
        assert named or attributes.get("aria-hidden") == "true"


def test_the_page_holds_each_photograph_and_map_once(elements) -> None:
    sources = [attributes["href"] for tag, attributes, _ in elements if tag == "image"]
    assert len(sources) == len(set(sources)) == 3 * (2 + 2)  # in colour, in grey, and a map of each method
    uses = [attributes["href"] for tag, attributes, _ in elements if tag == "use"]
    assert (
        len([link for link in uses if link.endswith("-photograph")]) == 3 * 2 + 1
    )  # under each map, and on the first screen


def test_pictures_of_two_models_share_no_id(finished_run) -> None:
    run = open_run(finished_run.path)
    (model,) = contents(run).models
    pages = []
    for number in (1, 2):
        drawn = pictures(run, model, number)
        text = "".join([drawn.forest, *drawn.curves, *drawn.distributions, *drawn.tradeoffs])
        pages.append(Elements(text).listed)
    first, second = ({attributes["id"] for _, attributes, _ in page if "id" in attributes} for page in pages)
    assert first
    assert not first & second


def test_bands_are_those_of_the_method_ahead_and_its_rival(finished_run) -> None:
    model = contents(open_run(finished_run.path)).models[0]
    effect = next(effect for effect in model.effects if effect.column.metric == "insertion")
    drawn = [curve for curve in model.curves if curve.metric == "insertion"]
    assert foremost(drawn, model.effects) == (effect.ahead, effect.rival) == ("ig/50", "ssig")
    assert foremost(drawn, []) == ("ssig", "ig/50")


def test_without_a_known_difference_there_is_no_forest(finished_run) -> None:
    run = open_run(finished_run.path)
    model = contents(run).models[0]
    nothing = [replace(effect, ahead=None, rival=None, mean=None) for effect in model.effects]
    assert pictures(run, replace(model, effects=nothing), 1).forest == ""
    assert "<svg" in pictures(run, model, 1).forest
