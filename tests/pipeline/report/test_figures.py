"""The figures as elements of the page: named, escaped, in the page's colours, with ids of their own."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import numpy as np
import pytest
from measured import DOWN, UP, measured, shifted

from pipeline.report.comparison import Estimate, compare
from pipeline.report.curves import Curve
from pipeline.report.descriptions import curves_text, distribution_text, forest_text, tradeoff_text
from pipeline.report.distributions import distributions
from pipeline.report.drawing import styled
from pipeline.report.effects import effects
from pipeline.report.figures import curve_figure, distribution_figure, forest_figure, tradeoff_figure
from pipeline.report.styles import GREY, TONES, line_styles
from pipeline.report.svg import element, strip
from pipeline.report.tradeoffs import SECONDS, Tradeoff

HOSTILE = "</text><script>$\\x{1}$&\x00"
METHODS = ("ssig", HOSTILE, "random")
STYLES = line_styles(METHODS, ["random"])
TEXT = "{*}text"


def curve(method: str, end: float) -> Curve:
    fraction = np.linspace(0, 1, 21)
    mean = end * fraction
    return Curve("insertion", "insertion_curve", method, *(v.tolist() for v in (fraction, mean, mean, mean)), 24)


def drawn() -> dict[str, tuple]:
    """Every figure with its description."""
    measurements = measured(shifted([0.5, 0.45, 0.0]), (UP,), METHODS)
    measured_effects = effects(measurements, compare(measurements).leads, ["random"])
    (distribution,) = distributions(measurements)
    curves = [curve(method, 1.0) for method in METHODS]
    means = {method: Estimate(0.1 * n, 0.1 * n - 0.1, 0.1 * n + 0.1, 24) for n, method in enumerate(METHODS, 1)}
    costs = {"ssig": 0.5, HOSTILE: 0.5, "random": 0.001}
    tradeoff = Tradeoff(UP, SECONDS, costs, means, ("random",))
    with styled():
        return {
            "forest": (forest_figure(measured_effects, STYLES), forest_text(measured_effects)),
            "curve": (curve_figure(curves, STYLES, METHODS[:2], (HOSTILE, HOSTILE)), curves_text(curves)),
            "distribution": (distribution_figure(distribution, METHODS, STYLES), distribution_text(distribution)),
            "tradeoff": (tradeoff_figure(tradeoff, STYLES), tradeoff_text(tradeoff)),
        }


@pytest.fixture(scope="module")
def elements() -> dict[str, str]:
    with styled():
        return {
            name: str(element(figure, f"figure-{name}", f"{name} {HOSTILE}", text))
            for name, (figure, text) in drawn().items()
        }


NAMES = ("forest", "curve", "distribution", "tradeoff")


@pytest.mark.parametrize("name", NAMES)
def test_a_figure_has_a_name_and_a_description(elements, name: str) -> None:
    root = ElementTree.fromstring(elements[name])
    assert root.get("role") == "img"
    title, description = (root.find(f"*[@id='{label}']") for label in root.get("aria-labelledby").split())
    assert (title.tag, description.tag) == ("title", "desc")
    assert title.text.startswith(name)
    assert "ssig" in description.text
    assert re.search(r"\d\.\d", description.text)


@pytest.mark.parametrize("name", NAMES)
def test_texts_are_text_whatever_they_hold(elements, name: str) -> None:
    tags: set[str] = set()
    parser = HTMLParser()
    parser.handle_starttag = parser.handle_startendtag = lambda tag, attrs: tags.add(tag)
    parser.feed(elements[name])
    assert tags <= {"svg", "title", "desc", "g", "defs", "path", "use", "text", "clippath", "rect"}
    assert "</text><script>" in "".join(ElementTree.fromstring(elements[name]).itertext())
    assert "\x00" not in elements[name]


def test_no_id_is_used_twice_and_every_reference_has_its_id(elements) -> None:
    ids = [name for text in elements.values() for name in re.findall(r' id="([^"]+)"', text)]
    assert len(ids) == len(set(ids))
    for text in elements.values():
        used = set(re.findall(r'(?:href="|url\()#([\w.-]+)', text))
        assert used <= set(re.findall(r' id="([^"]+)"', text))


@pytest.mark.parametrize("name", NAMES)
def test_colours_are_those_of_the_page(elements, name: str) -> None:
    styles = " ".join(node.get("style", "") for node in ElementTree.fromstring(elements[name]).iter())
    assert f"var({TONES[0].variable})" in styles
    assert f"var({GREY.variable})" in styles
    assert "currentColor" in styles
    assert not re.findall(r"#[0-9a-f]{3,6}", styles)
    assert "<style" not in elements[name]
    assert "font-family" not in styles


@pytest.mark.parametrize("name", ["curve", "tradeoff", "distribution", "forest"])
def test_every_method_is_named_in_the_figure(elements, name: str) -> None:
    texts = [node.text or "" for node in ElementTree.fromstring(elements[name]).iter("text")]
    for start in ("ssig", "</text>") + (("random",) if name != "forest" else ()):
        assert any(start in text for text in texts)


def test_labels_of_curves_that_end_alike_lie_apart(elements) -> None:
    labels = [
        float(node.get("y"))
        for node in ElementTree.fromstring(elements["curve"]).iter("text")
        if (node.text or "").startswith(("ssig", "</text>", "random")) and float(node.get("x")) > 200
    ]
    assert len(labels) == 3
    assert np.diff(np.sort(labels)).min() > 10


def test_figures_of_a_run_are_the_same_each_time(elements) -> None:
    with styled():
        figure, text = drawn()["curve"]
        again = element(figure, "figure-curve", f"curve {HOSTILE}", text)
    assert str(again) == elements["curve"]


def test_a_leader_is_filled_and_what_is_not_separated_is_hollow() -> None:
    hollow = "fill: var(--paper)"
    for shift, expected in ((0.3, False), (-0.01, True)):
        measurements = measured(shifted([0.0, shift]), (DOWN,), ("ssig", "ig"))
        measured_effects = effects(measurements, compare(measurements).leads, [])
        with styled():
            text = element(forest_figure(measured_effects, line_styles(("ssig", "ig"))), "f", "", "")
        assert (hollow in text) == expected
        assert ("leads" in forest_text(measured_effects)) != expected


def test_a_strip_is_symmetric_about_zero() -> None:
    shown = strip(Estimate(0.0, -1.0, 1.0, 9), 1.0, STYLES["ssig"])
    assert "M4.0 6H116.0" in shown
    assert strip(Estimate(None, None, None, 0), 1.0, STYLES["ssig"]) == ""
    assert strip(Estimate(0.0, 0.0, 0.0, 9), 0.0, STYLES["ssig"]) == ""
