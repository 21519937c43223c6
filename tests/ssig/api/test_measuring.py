"""Metrics of any map, without a pipeline."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import ssig
from ssig.registry import METRICS
from ssig.types import evaluation_of


@pytest.fixture
def result(model, pictures) -> ssig.Attribution:
    return ssig.attribute(model, pictures, [1, 2, 3], "ig", steps=4)


def test_numbers_are_those_of_the_metric_itself(model, pictures, result) -> None:
    found = ssig.measure(model, pictures, result, ["insertion:steps=5", "gini"])
    evaluation = evaluation_of(result.explained.images, result.map, torch.tensor([1, 2, 3]), model, model, result)
    direct = METRICS["insertion"].compute(evaluation, METRICS["insertion"].parse({"steps": 5}))
    for column, values in direct.columns.items():
        np.testing.assert_allclose(found[column], values, rtol=1e-4)
    assert list(found) == [*METRICS["insertion"].columns, *METRICS["gini"].columns]
    assert found.directions["insertion"] == "higher"
    assert found.curves["insertion_curve"].shape == direct.curves["insertion_curve"].shape


def test_tensor_array_and_attribution_are_one_map(model, pictures, result) -> None:
    forms = (result, result.map, result.map.numpy())
    values = [ssig.measure(model, pictures, form, "deletion:steps=4", targets=[1, 2, 3])["deletion"] for form in forms]
    np.testing.assert_allclose(values[1], values[0])
    np.testing.assert_allclose(values[2], values[0])
    one = ssig.measure(model, pictures[0], result.map[0].numpy(), "deletion:steps=4", targets=1)
    np.testing.assert_allclose(one["deletion"], values[0][:1], rtol=1e-4)


def test_targets_default_to_those_explained_then_to_the_predicted(model, pictures, result) -> None:
    def deletion(map, **more) -> np.ndarray:
        return ssig.measure(model, pictures, map, "deletion:steps=4", **more)["deletion"]

    np.testing.assert_allclose(deletion(result), deletion(result.map, targets=[1, 2, 3]))
    np.testing.assert_allclose(deletion(result.map), deletion(result.map, targets="predicted"))


def test_many_images_are_joined_in_order(model, pictures) -> None:
    many = ssig.attribute(model, pictures * 6, 0, "gradient")
    found = ssig.measure(model, pictures * 6, many, ["gini", "roc_auc"])
    assert found["gini"].shape == (18,)
    np.testing.assert_allclose(found["gini"][:3], found["gini"][15:])
    assert len(found.excluded) == 18


def test_what_is_excluded_has_its_reason(model, pictures, result) -> None:
    found = ssig.measure(model, pictures, result, ["roc_auc", "stability", "gini"])
    assert np.isnan(found["roc_auc"]).all()
    assert found.excluded[0]["roc_auc"] == "no boxes or mask"
    assert "not at hand" in found.excluded[2]["stability"]
    assert np.isfinite(found["gini"]).all()
    assert "no boxes or mask" in repr(found)
    assert "<table" in found._repr_html_()


def test_boxes_are_in_pixels_of_the_picture(model) -> None:
    """The network sees pixels 4 to 68 of 72 (resized to 36, cropped to 32)."""
    picture = Image.new("RGB", (72, 72), "#336699")
    inside = np.zeros((32, 32), dtype=np.float32)
    inside[6:16, 8:20] = 1
    box = (4 + 2 * 8, 4 + 2 * 6, 4 + 2 * 20, 4 + 2 * 16)
    mask = np.zeros((72, 72), dtype=bool)
    mask[box[1] : box[3], box[0] : box[2]] = True
    for given in ({"boxes": [box]}, {"masks": mask}, {"masks": Image.fromarray(mask)}, {"masks": [mask]}):
        assert ssig.measure(model, picture, inside, "roc_auc", **given)["roc_auc"].item() == 1
    batch = model.preprocess(picture)[None]
    assert ssig.measure(model, batch, inside, "roc_auc", boxes=[[(8, 6, 20, 16)]])["roc_auc"].item() == 1
    outside = ssig.measure(model, picture, inside, "roc_auc", boxes=[(0, 0, 2, 2)])
    assert outside.excluded[0]["roc_auc"] == "object is outside the input"


def test_any_callable_and_any_function(cnn: nn.Module, images: Tensor, targets: Tensor) -> None:
    def brightest(maps: Tensor) -> Tensor:
        return maps.flatten(1).amax(dim=1)

    maps = ssig.attribute(cnn, images, targets, "gradient").map
    found = ssig.measure(cnn, images, maps, [brightest, "insertion:steps=4"], targets=targets)
    np.testing.assert_allclose(found["brightest"], maps.flatten(1).amax(dim=1).float())


@pytest.mark.parametrize(
    ("map", "more", "field"),
    [
        (np.zeros((3, 3, 32, 32)), {}, "map"),
        (np.zeros((3, 10, 10)), {}, "map"),
        (np.full((3, 32, 32), np.nan), {}, "map"),
        ("ssig", {}, "map"),
        (np.zeros((3, 32, 32)), {"metrics": "insertoin"}, "metric"),
        (np.zeros((3, 32, 32)), {"metrics": "insertion:step=4"}, "metrics.insertion.step"),
        (np.zeros((3, 32, 32)), {"metrics": "insertion:steps="}, "metrics"),
        (np.zeros((3, 32, 32)), {"boxes": [[(0, 0, 1, 1)]]}, "boxes"),
        (np.zeros((3, 32, 32)), {"boxes": [[(0, 0, 1)]] * 3}, "boxes"),
        (np.zeros((3, 32, 32)), {"masks": [np.ones((9, 9))] * 3}, "masks"),
        (np.zeros((3, 32, 32)), {"targets": "tigr cat"}, "targets"),
    ],
)
def test_what_is_wrong_is_named(model, pictures, map, more, field) -> None:
    with pytest.raises(ssig.UsageError) as caught:
        ssig.measure(model, pictures, map, **more)
    assert caught.value.field == field
