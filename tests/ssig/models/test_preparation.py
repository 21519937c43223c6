"""What is stated of a network's input, by whom, and what wins."""

from __future__ import annotations

import typing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.models import ResNet50_Weights
from torchvision.transforms import InterpolationMode, v2
from torchvision.transforms import transforms as v1

from pipeline.job.sections import InputChoice
from ssig.errors import ModelError, UsageError
from ssig.models import Geometry, load_model
from ssig.models.preparation import (
    CROPS,
    INPUT_FIELDS,
    INTERPOLATIONS,
    NOBODY,
    Stated,
    by_attributes,
    by_job,
    by_transforms,
    combined,
    input_warnings,
    overridden,
)

SOURCE = """
import timm
import torch
from torch import nn
from torchvision.models import resnet18, ResNet18_Weights, ResNet50_Weights
from torchvision.transforms import v2

class Tiny(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, 2)
    def forward(self, x):
        return self.conv(x).tanh().mean((2, 3))

def nothing(): return Tiny()
def everything():
    network = Tiny()
    network.mean, network.std = (0.1, 0.2, 0.3), (0.4, 0.5, 0.6)
    network.input_size, network.resize = (24, 32), (30, 40)
    network.interpolation, network.crop = "bicubic", "squash"
    return network
def of_the_callable(): return Tiny()
of_the_callable.mean, of_the_callable.std, of_the_callable.input_size = (0.1, 0.2, 0.3), (0.4, 0.5, 0.6), 24
def methods_state_nothing():
    network = Tiny()
    network.resize, network.crop, network.mean = nn.Identity(), lambda x: x, network.forward
    return network
def with_transforms(): return Tiny(), ResNet50_Weights.IMAGENET1K_V2.transforms()
def with_weights(): return Tiny(), ResNet50_Weights.IMAGENET1K_V2
def carries_weights():
    network = Tiny()
    network.weights = ResNet50_Weights.IMAGENET1K_V2
    return network
def with_steps():
    normalise = v2.Normalize([.1, .2, .3], [.4, .5, .6])
    return Tiny(), v2.Compose([v2.Resize(40), v2.CenterCrop(32), v2.ToTensor(), normalise])
def with_augmentation(): return Tiny(), v2.Compose([v2.RandomHorizontalFlip(), v2.ToTensor()])
def of_timm(): return timm.create_model("test_vit", num_classes=7)
def of_timm_with_mean():
    network = timm.create_model("test_vit", num_classes=7)
    network.mean, network.std = (0.1, 0.2, 0.3), (0.4, 0.5, 0.6)
    return network
def a_wrong_crop():
    network = Tiny()
    network.crop = "corner"
    return network
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    name = f"prepared_networks_{abs(hash(str(tmp_path)))}"
    (tmp_path / f"{name}.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(tmp_path)
    return name


MINE = ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
OF_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
RESNET50 = Geometry((232, 232), (224, 224))


@pytest.mark.parametrize(
    ("name", "normalisation", "geometry", "source"),
    [
        ("nothing", ((0.0,) * 3, (1.0,) * 3), Geometry((256, 256), (224, 224)), NOBODY),
        ("everything", MINE, Geometry((30, 40), (24, 32), "bicubic", mode="squash"), "attributes of"),
        ("of_the_callable", MINE, Geometry((27, 27), (24, 24)), "attributes of"),
        ("methods_state_nothing", ((0.0,) * 3, (1.0,) * 3), Geometry((256, 256), (224, 224)), NOBODY),
        ("with_transforms", OF_IMAGENET, RESNET50, "transforms of"),
        ("with_weights", OF_IMAGENET, RESNET50, "transforms of"),
        ("carries_weights", OF_IMAGENET, RESNET50, "weights of"),
        ("with_steps", MINE, Geometry((40, 40), (32, 32)), "transforms of"),
        ("of_timm", ((0.5,) * 3, (0.5,) * 3), Geometry((168, 168), (160, 160), "bicubic"), "pretrained_cfg of timm"),
        ("of_timm_with_mean", MINE, Geometry((168, 168), (160, 160), "bicubic"), "; size by pretrained_cfg of timm"),
    ],
)
def test_a_callable_carries_its_preprocessing(
    module: str, name: str, normalisation: Any, geometry: Geometry, source: str
) -> None:
    model = load_model(f"{module}:{name}")
    torch.testing.assert_close(model.mean, torch.tensor(normalisation[0]))
    torch.testing.assert_close(model.std, torch.tensor(normalisation[1]))
    assert model.geometry == geometry
    assert source in model.input_source
    assert f"source: {model.input_source}" in model.describe_input()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("with_augmentation", "a step RandomHorizontalFlip; those of evaluation are Resize, CenterCrop"),
        ("a_wrong_crop", "its attribute crop is 'corner'; expected one of center, squash"),
    ],
)
def test_what_cannot_be_followed_is_refused(module: str, name: str, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        load_model(f"{module}:{name}")


def test_the_job_goes_before_all_and_counts_as_weights_do(module: str) -> None:
    own = load_model(f"{module}:everything")
    model = load_model(f"{module}:everything", mean=(0.5, 0.5, 0.5), input={"interpolation": "bilinear"})
    assert model.mean.tolist() == [0.5] * 3
    torch.testing.assert_close(model.std, own.std)
    assert model.geometry == Geometry((30, 40), (24, 32), "bilinear", mode="squash")
    assert model.input_source.startswith("the job, else attributes of")
    assert model.weights_hash != own.weights_hash
    again = load_model(f"{module}:everything", mean=model.mean.tolist(), std=model.std.tolist(), input=model.geometry)
    assert (again.weights_hash, again.geometry) == (model.weights_hash, model.geometry)


def test_the_job_changes_networks_of_libraries_too() -> None:
    model = load_model("torchvision:mobilenet_v3_small", "random", mean=[0.5] * 3, std=[0.5] * 3, input=96)
    assert (model.mean.tolist(), model.std.tolist()) == ([0.5] * 3, [0.5] * 3)
    assert model.geometry == Geometry((109, 109), (96, 96))
    assert model.describe_input().startswith("network input: 96 x 96, resize 109 bilinear, centre crop; mean 0.5, 0.5")
    assert "source: the job" in model.describe_input()


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({"mean": [0.5, 0.5]}, "model.mean"),
        ({"mean": "grey"}, "model.mean"),
        ({"mean": [0.5, 0.5, float("nan")]}, "model.mean"),
        ({"std": [1, 1, 0]}, "model.std"),
        ({"input": {"size": 0}}, "model.input.size"),
        ({"input": {"size": [1, 2, 3]}}, "model.input.size"),
        ({"input": {"resize": "large"}}, "model.input.resize"),
        ({"input": {"interpolation": "cubic"}}, "model.input.interpolation"),
        ({"input": {"crop": "corner"}}, "model.input.crop"),
        ({"input": {"sise": 3}}, "model.input.sise"),
    ],
)
def test_a_wrong_field_is_named(arguments: dict[str, Any], field: str) -> None:
    with pytest.raises(UsageError) as caught:
        load_model("efficientnet-lite0", "random", **arguments)
    assert caught.value.field == field


def test_another_size_keeps_the_share_of_the_crop() -> None:
    prepared = combined([Stated("it", size=(224, 224), resize=(256, 256))])
    assert overridden(prepared, by_job(None, None, 112)).geometry == Geometry((128, 128), (112, 112))
    assert overridden(prepared, by_job(None, None, {"resize": 240})).geometry == Geometry((240, 240), (224, 224))
    squashed = overridden(prepared, by_job(None, None, {"crop": "squash"}))
    assert squashed.geometry == Geometry((224, 224), (224, 224), mode="squash")
    assert overridden(prepared, by_job(None, None, None)) is prepared


@pytest.mark.parametrize("library", [v1, v2])
@pytest.mark.parametrize(
    "steps",
    [
        [("Resize", (40,)), ("CenterCrop", (32,))],
        [("Resize", ((40, 36),)), ("CenterCrop", (32,))],
        [("Resize", ((32, 48),))],
        [("Resize", (40, InterpolationMode.BICUBIC)), ("CenterCrop", ((32, 24),))],
    ],
)
def test_a_geometry_from_steps_does_what_they_do(library: Any, steps: list[tuple[str, tuple[Any, ...]]]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    compose = library.Compose([getattr(library, name)(*arguments) for name, arguments in steps])
    stated = by_transforms(library.Compose([*compose.transforms, library.ToTensor()]), "transforms", "it")
    expected = torch.from_numpy(np.array(compose(image))).permute(2, 0, 1).float() / 255
    assert torch.equal(combined([stated]).geometry.apply(image), expected)


def test_a_shorter_edge_alone_is_no_size() -> None:
    with pytest.raises(ModelError, match="a CenterCrop must follow"):
        by_transforms(v2.Compose([v2.Resize(40), v2.ToTensor()]), "transforms", "it")
    with pytest.raises(ModelError, match="returned a dict beside the network"):
        by_transforms({}, "transforms", "it")


def test_the_packages_of_weights_agree_with_their_own_transforms() -> None:
    stated = by_transforms(ResNet50_Weights.IMAGENET1K_V1, "weights", "it")
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (300, 400, 3), dtype=np.uint8))
    prepared = combined([stated])
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (prepared.mean, prepared.std))
    expected = ResNet50_Weights.IMAGENET1K_V1.transforms()(image)
    torch.testing.assert_close((prepared.geometry.apply(image) - mean) / std, expected)


def test_odd_normalisations_are_said() -> None:
    assert input_warnings((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)) == ()
    assert input_warnings((0.0, 0.0, 0.0), (1 / 255,) * 3) == ()
    assert "mean is outside [0, 1]" in input_warnings((123, 117, 104), (58, 57, 57))[0]
    assert "mean is outside [0, 1]" in input_warnings((-0.1, 0, 0), (1, 1, 1))[0]
    assert "std is above 1" in input_warnings((0, 0, 0), (255, 255, 255))[0]


def test_the_job_file_knows_the_same_fields_and_values() -> None:
    assert tuple(InputChoice.model_fields) == INPUT_FIELDS

    def choices(field: str) -> set[str]:
        hint, _ = typing.get_args(typing.get_type_hints(InputChoice)[field])
        return set(typing.get_args(hint))

    assert choices("interpolation") == set(INTERPOLATIONS)
    assert choices("crop") == set(CROPS)


def test_attributes_of_nothing_state_nothing() -> None:
    stated = by_attributes(object(), "attributes", "it")
    assert not stated.normalises
    assert not stated.resizes
