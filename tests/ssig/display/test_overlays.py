"""Maps over photographs: colours, scale, and what lies beneath."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from PIL import Image

from ssig.display import SMOOTHING, data_uri, faded, limit_of, overlay, photograph, smoothed_map
from ssig.display.overlays import smoothed


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


def test_webp_of_less_quality_is_smaller():
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8))
    assert len(data_uri(picture, "WEBP", 40)) < len(data_uri(picture, "WEBP", 90))


def test_smoothing_keeps_a_constant_map_and_spreads_a_point():
    np.testing.assert_allclose(smoothed(np.full((150, 200), 3.0)), 3.0)
    point = np.zeros((300, 300))
    point[150, 150] = 1.0
    values = smoothed(point)
    assert values.sum() == pytest.approx(1)
    spread = np.sqrt((values * (np.arange(300) - 150) ** 2).sum())
    assert spread == pytest.approx(SMOOTHING * 300, rel=0.01)


def test_a_small_map_is_not_smoothed():
    values = np.random.default_rng(0).normal(size=(14, 14))
    np.testing.assert_allclose(smoothed(values), values, atol=1e-6)


def test_a_smoothed_map_lies_on_white_and_weak_magnitudes_are_nearly_white():
    assert np.asarray(smoothed_map(np.zeros((8, 8)), True, (16, 16))).min() == 255
    values = np.full((64, 64), 0.2)
    values[:32] = 1.0
    picture = np.asarray(smoothed_map(values, False, (64, 64))).astype(int)
    assert picture.shape == (64, 64, 3)
    assert picture[60, 32].min() > 200
    assert picture[3, 32].max() < 80


def test_a_faded_photograph_is_pale_and_grey():
    photograph = Image.fromarray(np.array([[[0, 0, 0], [255, 0, 0]], [[255, 255, 255], [0, 0, 255]]], np.uint8))
    pale = np.asarray(faded(photograph))
    assert pale.shape == (2, 2)
    assert pale.min() == pale[0, 0] == 153
    assert pale.max() == pale[1, 0] == 255
