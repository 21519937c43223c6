"""Methods side by side."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

import ssig

METHODS = ["gradient", "ig:steps=2", "ssig:samples=2"]


def test_image_and_maps_stand_side_by_side(model, pictures, tmp_path) -> None:
    found = ssig.strip(model, pictures[:2], METHODS, "tiger cat")
    text = found._repr_html_()
    assert text.count("<img") == 2 * 4
    assert all(f"<figcaption>{name}" in text for name in ("tiger cat", *METHODS))
    assert "One scale" in text
    assert Image.open(found.save(tmp_path / "a.png")).width > 4 * 224
    assert repr(found) == "<Strip of 2 x gradient, ig:steps=2, ssig:samples=2>"
    direct = ssig.attribute(model, pictures[:2], "tiger cat", "ig", steps=2)
    assert torch.equal(found.attributions["ig:steps=2"].map, direct.map)


def test_on_one_scale_units_do_not_matter_and_concentration_shows(model, pictures) -> None:
    plain = ssig.strip(model, pictures[0], ["gradient"], 0).attributions["gradient"]
    flat = torch.full_like(plain.map, 5.0)
    peak = torch.zeros_like(plain.map)
    peak[:, 10:14, 10:14] = 1.0

    def strongest(scale: str) -> list[float]:
        maps = {"flat": flat, "peak": peak, "loud": 1000 * peak}
        attributions = {name: ssig.Attribution(**{**vars(plain), "map": map}) for name, map in maps.items()}
        row = ssig.Strip(attributions, scale).figure().rows[0]
        return [float(np.asarray(panel.picture).min()) for panel in row.panels[1:]]

    flat_shared, peak_shared, loud_shared = strongest("shared")
    assert peak_shared == loud_shared < flat_shared
    flat_own, peak_own, _ = strongest("own")
    assert flat_own == peak_own


def test_all_methods_explain_one_class(model, pictures) -> None:
    found = ssig.strip(model, pictures, ["gradient", "ig:steps=2"], seed=3)
    one, other = (attribution.explained.targets for attribution in found.attributions.values())
    assert torch.equal(one, other)


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"methods": []}, "methods"),
        ({"methods": ["ig", "ig"]}, "methods"),
        ({"methods": ["igg"]}, "method"),
        ({"scale": "shard"}, "scale"),
        ({"targets": "lnyx"}, "targets"),
    ],
)
def test_what_is_wrong_is_named(model, pictures, more, field) -> None:
    with pytest.raises(ssig.UsageError) as caught:
        ssig.strip(model, pictures, **{"methods": ["gradient"], **more})
    assert caught.value.field == field


def test_only_png_is_written(model, pictures, tmp_path) -> None:
    with pytest.raises(ssig.UsageError, match="png"):
        ssig.strip(model, pictures[0], ["gradient"]).save(tmp_path / "a.svg")
