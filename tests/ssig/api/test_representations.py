"""How an attribution shows itself: pictures, one line, files, xarray."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from PIL import Image

import ssig
from ssig.types import Attribution
from ssig.types.views import MOST_SHOWN, arrays


@pytest.fixture
def result(model, pictures) -> Attribution:
    return ssig.attribute(model, pictures, "tiger cat", "ssig", samples=4)


def test_a_notebook_shows_image_map_and_error(result: Attribution) -> None:
    text = result._repr_html_()
    assert text.count("<img") == 3 * 3
    assert text.count("Reliability ") == 3
    assert "tiger cat · ssig · logit" in text


def test_a_deterministic_map_has_no_error_and_says_so(model, pictures) -> None:
    text = ssig.attribute(model, pictures[0], 0, "ig", steps=2)._repr_html_()
    assert text.count("<img") == 2
    assert "No standard error" in text
    assert "against the target" in text


def test_without_the_image_the_map_is_shown_alone(result: Attribution) -> None:
    bare = Attribution(**{**vars(result), "explained": None})
    assert bare._repr_html_().count("<img") == 2 * 3
    assert bare.overlay(0).size == (224, 224)
    assert set(arrays(bare)).isdisjoint({"images", "targets", "method"})


def test_the_representation_is_one_line(result: Attribution) -> None:
    assert "\n" not in repr(result)
    assert repr(result).startswith("<Attribution ssig: 3 images, maps 32 x 32, score ")


def test_many_images_are_cut_and_the_rest_is_named(model, pictures) -> None:
    many = ssig.attribute(model, pictures * 4, 0, "gradient")
    text = many._repr_html_()
    assert text.count("<img") == 2 * MOST_SHOWN
    assert "4 more: result.rows(slice(8, 12))" in text
    rest = many.rows(slice(8, 12))
    assert rest.explained.names == many.explained.names[8:12]
    assert rest._repr_html_().count("<img") == 2 * 4


def test_parts_are_joined_with_what_they_explain(result: Attribution) -> None:
    parts = [result.rows(slice(0, 1)), result.rows(slice(1, 3))]
    joined = Attribution.concatenate(parts)
    assert torch.equal(joined.explained.images, result.explained.images)
    assert joined.explained.names == result.explained.names
    bare = Attribution(**{**vars(parts[0]), "explained": None})
    assert Attribution.concatenate([bare, parts[1]]).explained is None


def test_files_hold_the_figure_or_every_array(result: Attribution, tmp_path) -> None:
    picture = Image.open(result.save(tmp_path / "a.png"))
    assert picture.width > 3 * 224
    stored = np.load(result.save(tmp_path / "a.npz"))
    np.testing.assert_array_equal(stored["map"], result.map.numpy())
    np.testing.assert_array_equal(stored["standard_error"], result.standard_error.numpy())
    assert stored["target_names"].tolist() == ["tiger cat"] * 3
    with pytest.raises(ssig.UsageError, match=r"path: .*\.png .*\.npz"):
        result.save(tmp_path / "a.jpg")


def test_xarray_has_names_for_every_axis(result: Attribution) -> None:
    pytest.importorskip("xarray")
    found = result.to_xarray()
    assert found["map"].dims == ("image", "y", "x")
    assert found["values"].dims == ("image", "channel", "y", "x")
    assert found.attrs == {"method": "ssig", "score_name": "logit"}
    np.testing.assert_array_equal(found["map"].values, result.map.numpy())
    assert found["target_name"].values.tolist() == ["tiger cat"] * 3


def test_without_xarray_one_line_says_what_to_install(result: Attribution, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "xarray", None)
    with pytest.raises(ImportError, match="needs xarray, which is not installed: pip install xarray"):
        result.to_xarray()
