"""The palettes: readable for deuteranopes and in greyscale."""

from __future__ import annotations

import numpy as np
from colour_vision import DEUTERANOPIA, lightness, linear

from ssig.display import DIVERGING, SEQUENTIAL, coloured, gradient


def test_magnitudes_get_darker_to_every_reader():
    colours = linear(coloured(np.linspace(0, 1, 65), signed=False))
    for seen in (colours, colours @ DEUTERANOPIA.T):
        assert (np.diff(lightness(seen)) < 0).all()


def test_signs_differ_and_strength_shows_to_every_reader():
    colours = linear(coloured(np.linspace(-1, 1, 65), signed=True))
    for seen in (colours, colours @ DEUTERANOPIA.T):
        dark = lightness(seen)
        assert (np.diff(dark[:33]) > 0).all()
        assert (np.diff(dark[32:]) < 0).all()
        blueness = seen[:, 2] - seen[:, 0]
        assert blueness[:24].min() > 0 > blueness[-24:].max()


def test_the_ends_are_those_of_the_palette_and_the_middle_is_white():
    for palette, signed in ((DIVERGING, True), (SEQUENTIAL, False)):
        ends = np.round(255 * coloured(np.array([-1.0 if signed else 0.0, 1.0]), signed)).astype(int)
        assert ["".join(f"{part:02x}" for part in colour) for colour in ends] == [palette[0], palette[-1]]
    assert coloured(np.zeros(1), signed=True).min() > 0.95


def test_a_gradient_lists_the_colours():
    assert gradient(("000000", "ffffff")) == "#000000, #ffffff"
