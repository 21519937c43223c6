"""Maps over photographs: colours, scale, and what lies beneath."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from PIL import Image

from ssig.display import data_uri, limit_of, overlay, photograph


def test_a_diverging_map_is_symmetric_and_zero_is_the_photograph():
    values = np.zeros((8, 8))
    values[0, 0], values[7, 7] = 1.0, -1.0
    picture = np.asarray(overlay(values, None, signed=True, size=(8, 8))).astype(int)
    assert (picture[3, 3] == 255).all()
    red, blue = picture[0, 0], picture[7, 7]
    assert red[0] > red[2]
    assert blue[2] > blue[0]


def test_an_overlay_does_not_depend_on_the_maps_scale():
    values = np.random.default_rng(0).normal(size=(16, 16))
    one, other = (overlay(values * scale, None, signed=True, size=(32, 32)) for scale in (1.0, 1e-6))
    np.testing.assert_array_equal(np.asarray(one), np.asarray(other))
    assert np.asarray(overlay(np.zeros((4, 4)), None, signed=False, size=(4, 4))).min() == 255


def test_a_common_limit_makes_colours_of_two_maps_comparable():
    weak, strong = np.full((8, 8), 0.1), np.full((8, 8), 1.0)
    pale, dark = (np.asarray(overlay(values, None, False, (8, 8), 1.0)).mean() for values in (weak, strong))
    assert dark < pale
    own = [np.asarray(overlay(values, None, False, (8, 8))) for values in (weak, strong)]
    np.testing.assert_array_equal(*own)


def test_negative_values_are_nothing_where_only_magnitudes_are_shown():
    assert np.asarray(overlay(np.full((4, 4), -1.0), None, False, (4, 4), 1.0)).min() == 255


def test_the_limit_leaves_out_single_pixels():
    values = np.ones((100, 100))
    values[0, 0] = 1e6
    assert limit_of(values) == 1
    assert limit_of(np.zeros((4, 4))) == 1


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_a_photograph_is_the_image_whatever_its_channels(channels):
    image = np.random.default_rng(0).random((channels, 6, 5))
    found = np.asarray(photograph(image, (5, 6)))
    expected = image if channels == 3 else np.repeat(image.mean(0, keepdims=True), 3, axis=0)
    np.testing.assert_allclose(found, 255 * expected.transpose(1, 2, 0), atol=0.51)
    assert photograph(image, (10, 12)).size == (10, 12)


def test_values_beyond_pixels_are_stretched():
    found = np.asarray(photograph(np.linspace(-2, 3, 48).reshape(3, 4, 4), (4, 4)))
    assert (found.min(), found.max()) == (0, 255)


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_a_data_uri_is_the_picture(kind):
    picture = Image.new("RGB", (9, 7), "#336699")
    head, _, text = data_uri(picture, kind).partition(",")
    assert head == f"data:image/{kind.lower()};base64"
    assert Image.open(io.BytesIO(base64.b64decode(text))).size == (9, 7)
