"""Images and targets as people give them: Pillow images, class names, `predicted`, slips."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import ssig
from ssig.models import ilsvrc
from ssig.models.class_names import class_number


def attributed(model: Any, images: Any, *arguments: Any, **options: Any) -> ssig.Attribution:
    return ssig.attribute(model, images, *arguments, **{"method": "ig", "steps": 2, **options})


def test_pillow_images_go_through_the_networks_own_geometry(model, pictures) -> None:
    batch = torch.stack([model.preprocess(picture) for picture in pictures])
    result = attributed(model, pictures, [0, 1, 2])
    torch.testing.assert_close(result.map, attributed(model, batch, [0, 1, 2]).map)
    assert torch.equal(result.explained.images, batch)
    assert len(attributed(model, pictures[0], 0)) == 1


def test_names_numbers_and_predicted_are_targets(model, pictures) -> None:
    batch = torch.stack([model.preprocess(picture) for picture in pictures])
    predicted = model(batch).argmax(dim=1)
    found = attributed(model, pictures, ["tiger cat", "predicted", 7]).explained
    assert found.targets.tolist() == [1, int(predicted[1]), 7]
    assert found.names == ("tiger cat", model.categories[int(predicted[1])], "ski")
    assert torch.equal(attributed(model, pictures).explained.targets, predicted)
    assert attributed(model, pictures, "egyptian cat").explained.targets.tolist() == [2, 2, 2]


def test_predicted_needs_no_names(cnn: nn.Module, images: Tensor) -> None:
    found = attributed(cnn, images, "predicted").explained
    assert torch.equal(found.targets, cnn(images).argmax(dim=1))
    assert found.names[0] == f"class {found.targets[0]}"


@pytest.mark.parametrize(
    ("targets", "says"),
    [
        ("tiger catt", "did you mean tiger cat"),
        ("predictd", "did you mean predicted"),
        ("crane", r"by its number.*4 \(crane\), 5 \(crane\)"),
        ("aeroplane", "from 0 to 7"),
        ([None, 1, 2], "class numbers, class names"),
        ([0, 1], "one class for each of the 3 images"),
    ],
)
def test_targets_that_cannot_be_are_explained(model, pictures, targets, says) -> None:
    with pytest.raises(ssig.UsageError, match=f"^targets: .*{says}"):
        attributed(model, pictures, targets)


def test_a_name_for_a_network_without_names(cnn: nn.Module, images: Tensor) -> None:
    with pytest.raises(ssig.UsageError, match=r"targets: found 'cat'.*does not name its classes"):
        attributed(cnn, images, "cat")


@pytest.mark.parametrize(
    ("images", "says"),
    [
        (np.zeros((1, 3, 32, 32)), "ndarray.*a Pillow image, or a list"),
        ([], "list"),
        ("cat.jpg", "str"),
        (Image.fromarray(np.zeros((40, 40), dtype=np.float32)), "mode F.*8 bits"),
        (Image.fromarray(np.zeros((40, 40), dtype=np.uint16)), "mode I;16.*8 bits"),
    ],
)
def test_images_of_another_kind_are_named(model, images, says) -> None:
    with pytest.raises(ssig.UsageError, match=f"^images: .*{says}"):
        attributed(model, images, 0)


def test_a_pillow_image_for_a_network_without_geometry(cnn: nn.Module, pictures) -> None:
    with pytest.raises(ssig.UsageError, match=r"images: .*ssig\.load_model"):
        attributed(cnn, pictures[0], 0)


@pytest.mark.parametrize(
    ("name", "near"), [("n_steps", "steps"), ("microbatch", "micro_batch"), ("seeds", "seed"), ("rul", "rule")]
)
def test_the_nearest_option_is_named(model, pictures, name: str, near: str) -> None:
    with pytest.raises(ssig.UsageError, match=rf"^methods\.ig\.{name}: .*did you mean {near}\?"):
        ssig.attribute(model, pictures, 0, "ig", **{name: 3})


def test_ilsvrcs_classes_have_their_synonyms() -> None:
    names = [ilsvrc.aliases(number)[1] for number in range(ilsvrc.CLASSES)]
    assert {class_number(name, names) for name in ("tench", "Tench", "n01440764", "Tinca tinca")} == {0}
    assert class_number("tiger cat", names) == 282
