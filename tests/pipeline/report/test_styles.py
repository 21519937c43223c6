"""Every method has a style that any reader can tell from the others."""

from __future__ import annotations

import re
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from colour_vision import DEUTERANOPIA, PROTANOPIA, contrast, lab, lightness, linear, of_hex

from pipeline.report.styles import CONTROL_MARKERS, GREY, MARKERS, TONES, custom_properties, line_styles, swatch
from ssig.registry import METHODS

SCHEMES = ("light", "dark")
STYLE_SHEET = Path(__file__).resolve().parents[3] / "pipeline/report/templates/style.css"
EYES = {"any": np.eye(3), "deuteranope": DEUTERANOPIA, "protanope": PROTANOPIA}


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("eye", EYES)
def test_six_colours_are_far_apart_to_every_eye(scheme: str, eye: str) -> None:
    seen = lab(linear(of_hex([getattr(tone, scheme) for tone in TONES])) @ EYES[eye].T)
    assert min(float(np.linalg.norm(one - other)) for one, other in combinations(seen, 2)) > 20


@pytest.mark.parametrize("scheme", SCHEMES)
def test_six_colours_are_six_greys(scheme: str) -> None:
    seen = np.sort(lightness(linear(of_hex([getattr(tone, scheme) for tone in TONES]))))
    assert np.diff(seen).min() > 5


def test_the_first_six_methods_differ_in_colour_and_marker_and_neighbours_in_dash() -> None:
    styles = list(line_styles([str(number) for number in range(6)]).values())
    assert len({style.tone for style in styles}) == len({style.marker for style in styles}) == 6
    assert len({str(style.dash) for style in styles}) == 6


@pytest.mark.parametrize("scheme", SCHEMES)
def test_lines_stand_out_from_the_page(scheme: str) -> None:
    paper = re.findall(r"--paper: #([0-9a-f]{3,6})", STYLE_SHEET.read_text())[SCHEMES.index(scheme)]
    page = "#" + (paper if len(paper) == 6 else "".join(2 * digit for digit in paper))
    assert min(contrast(getattr(tone, scheme), page) for tone in (*TONES, GREY)) >= 3


def test_no_two_methods_look_alike() -> None:
    names = METHODS.names()
    controls = [name for name in names if METHODS[name].control]
    for methods, greys in ((names, controls), ([str(number) for number in range(250)], [])):
        styles = line_styles(methods, greys)
        assert len({(style.tone, str(style.dash), style.marker) for style in styles.values()}) == len(methods)


def test_controls_alone_are_grey_and_do_not_shift_the_others() -> None:
    styles = line_styles(["ssig", "random", "ig", "sobel"], ["random", "sobel"])
    assert [method for method, style in styles.items() if style.tone == GREY] == ["random", "sobel"]
    assert {styles["random"].marker, styles["sobel"].marker} < set(CONTROL_MARKERS)
    assert (styles["ssig"], styles["ig"]) == tuple(line_styles(["ssig", "ig"]).values())


def test_a_swatch_shows_colour_dash_and_marker() -> None:
    for style in line_styles(["a", "b", "c", "d"], ["d"]).values():
        drawn = swatch(style)
        assert f"var({style.tone.variable})" in drawn
        assert ({**MARKERS, **CONTROL_MARKERS})[style.marker] in drawn
        assert (style.dash == "-") == ('stroke-dasharray="none"' in drawn)


def test_both_schemes_set_every_colour_and_paper_is_light() -> None:
    rules = custom_properties()
    dark = rules[rules.index("@media screen and (prefers-color-scheme: dark)") :]
    for tone in (*TONES, GREY):
        assert len(re.findall(rf"{tone.variable}: ", rules)) == 2
        assert f"{tone.variable}: {tone.dark}" in dark
