"""Geometry: the same pixels as torchvision and timm, and boxes and masks that go where the pixels go."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from timm.data.transforms_factory import create_transform
from torchvision import models as vision

from ssig.errors import ModelError
from ssig.models import Geometry, geometry, load_model, mask_to_input, to_input

SIZES = [(1, 1), (1, 7), (500, 3), (3, 500), (224, 224), (256, 256), (333, 500), (500, 375), (257, 1001)]

GEOMETRIES = [
    Geometry((256, 256), (224, 224)),
    Geometry((36, 36), (32, 32), "bicubic"),
    Geometry((40, 40), (40, 40), "nearest", mode="squash"),
    Geometry((48, 40), (40, 32), "bilinear"),
    Geometry((48, 40), (40, 32), "bicubic", mode="squash"),
    Geometry((20, 20), (32, 25)),
]
RESOLUTIONS = [geometry for geometry in GEOMETRIES if geometry.resize >= geometry.crop]

geometries = st.sampled_from(RESOLUTIONS)
edges = st.integers(1, 600)


def photograph(width: int, height: int) -> Image.Image:
    pixels = np.random.default_rng(width * 1000 + height).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    "weights",
    [
        vision.ResNet50_Weights.IMAGENET1K_V2,
        vision.ViT_B_16_Weights.IMAGENET1K_SWAG_E2E_V1,
        vision.Swin_T_Weights.DEFAULT,
    ],
)
def test_pixels_equal_torchvision(weights: vision.WeightsEnum, size: tuple[int, int]) -> None:
    transforms = weights.transforms(mean=(0.0,) * 3, std=(1.0,) * 3)
    ours = Geometry((*transforms.resize_size,) * 2, (*transforms.crop_size,) * 2, transforms.interpolation.value)
    image = photograph(*size)
    assert torch.equal(ours.apply(image), transforms(image))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("mode", ["center", "squash"])
@pytest.mark.parametrize(("input_size", "fraction"), [((240, 240), 0.882), ((64, 48), 0.9), ((40, 40), 1.0)])
def test_pixels_equal_timm(input_size: tuple[int, int], fraction: float, mode: str, size: tuple[int, int]) -> None:
    transform = create_transform(
        (3, *input_size), interpolation="bicubic", crop_pct=fraction, crop_mode=mode, mean=(0.0,) * 3, std=(1.0,) * 3
    )
    height, width = (int(edge / fraction) for edge in input_size)
    image = photograph(*size)
    assert torch.equal(Geometry((height, width), input_size, "bicubic", mode=mode).apply(image), transform(image))


@pytest.mark.parametrize("name", ["torchvision:resnet18", "torchvision:efficientnet_b0", "timm:resnet18.tv_in1k"])
def test_metadata_of_the_weights_decide(name: str) -> None:
    source, _, bare = name.partition(":")
    model = load_model(name, "random")
    image = photograph(500, 333)
    if source == "torchvision":
        expected = vision.get_model_weights(bare).DEFAULT.transforms()(image)
    else:
        expected = create_transform((3, 224, 224), interpolation="bilinear", crop_pct=0.875)(image)
    normalised = (model.preprocess(image) - model.mean.view(3, 1, 1)) / model.std.view(3, 1, 1)
    torch.testing.assert_close(normalised, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "YCbCr", "I;16", "F"])
def test_any_mode_becomes_rgb_in_unit_range(mode: str) -> None:
    image = Image.new(mode, (9, 5))
    pixels = GEOMETRIES[1].apply(image)
    assert pixels.shape == (3, 32, 32)
    assert pixels.dtype == torch.float32
    assert 0 <= pixels.min() <= pixels.max() <= 1


def test_values_are_exact_bytes() -> None:
    image = Image.new("RGB", (40, 40), (0, 127, 255))
    pixels = Geometry((40, 40), (32, 32)).apply(image)
    assert [float(channel.unique()) for channel in pixels] == [0.0, float(torch.tensor(127.0) / 255), 1.0]


def test_crop_boxes_worked_by_hand() -> None:
    # 400 x 300 is resized by 256/300 to 341 x 256; 224 columns start at round(58.5) = 58.
    across = 400 / 341
    box = (58 * across, 16 * 300 / 256, 282 * across, 240 * 300 / 256)
    assert Geometry((256, 256), (224, 224)).crop_box(400, 300) == pytest.approx(box)
    assert Geometry((32, 32), (32, 32), mode="squash").crop_box(400, 300) == (0, 0, 400, 300)
    # A resized image that is smaller than the input is padded: 6 of 12 pixels on the left, in original pixels 60.
    assert Geometry((20, 20), (32, 32)).crop_box(200, 200) == (-60, -60, 260, 260)


@given(geometries, edges, edges)
def test_the_crop_lies_in_the_image_and_fills_the_input(ours: Geometry, width: int, height: int) -> None:
    x0, y0, x1, y1 = crop = ours.crop_box(width, height)
    tiny = 1e-9 * max(width, height)
    assert -tiny <= x0 < x1 <= width + tiny
    assert -tiny <= y0 < y1 <= height + tiny
    tall, wide = ours.crop
    assert to_input((-10.0, -10.0, width + 10.0, height + 10.0), crop, ours.crop) == (0, 0, wide, tall)
    assert to_input(crop, crop, ours.crop) == pytest.approx((0, 0, wide, tall))


@given(geometries, edges, edges, st.tuples(*[st.floats(0.001, 0.999)] * 4))
def test_boxes_inside_the_crop_come_back(
    ours: Geometry, width: int, height: int, inner: tuple[float, float, float, float]
) -> None:
    x0, y0, x1, y1 = crop = ours.crop_box(width, height)
    left, right = sorted((inner[0], inner[2] + 1e-4))
    top, bottom = sorted((inner[1], inner[3] + 1e-4))
    across, down = x1 - x0, y1 - y0
    box = (x0 + left * across, y0 + top * down, x0 + right * across, y0 + bottom * down)
    tall, wide = ours.crop
    expected = (left * wide, top * tall, right * wide, bottom * tall)
    assert to_input(box, crop, ours.crop) == pytest.approx(expected, abs=1e-6)


def test_boxes_outside_the_crop_are_none() -> None:
    crop = (50.0, 0.0, 150.0, 100.0)
    assert to_input((0, 0, 50, 100), crop, (10, 10)) is None
    assert to_input((60, 40, 60, 80), crop, (10, 10)) is None
    assert to_input((40, 20, 70, 30), crop, (10, 10)) == (0, 2, 2, 3)


@pytest.mark.parametrize("ours", GEOMETRIES, ids=str)
@pytest.mark.parametrize("size", [(400, 300), (123, 457), (50, 50)])
def test_boxes_and_masks_follow_the_pixels(ours: Geometry, size: tuple[int, int]) -> None:
    width, height = size
    x0, y0, x1, y1 = (width // 3, height // 4, width * 3 // 4, height * 2 // 3)
    mask = np.zeros((height, width), dtype=bool)
    mask[y0:y1, x0:x1] = True
    pixels = ours.apply(Image.fromarray(mask.astype(np.uint8) * 255)).mean(0).numpy()
    crop = ours.crop_box(width, height)
    box = to_input((x0, y0, x1, y1), crop, ours.crop)
    assert box is not None
    # One pixel of the input, or of the original where that is the coarser, is the width of an edge.
    margin = 1 + max(ours.crop[1] / (crop[2] - crop[0]), ours.crop[0] / (crop[3] - crop[1]))
    rows, columns = np.mgrid[: ours.crop[0], : ours.crop[1]] + 0.5
    depth = np.minimum.reduce([columns - box[0], box[2] - columns, rows - box[1], box[3] - rows])
    assert (pixels[depth > margin] > 0.99).all()
    assert (pixels[depth < -margin] < 0.01).all()
    assert np.array_equal(mask_to_input(mask, crop, ours.crop), depth > 0)


def test_masks_equal_nearest_resizing() -> None:
    mask = np.random.default_rng(0).random((300, 400)) < 0.3
    ours = Geometry((32, 32), (32, 32), "nearest", mode="squash")
    resized = ours.apply(Image.fromarray(mask.astype(np.uint8) * 255))[0] == 1
    assert np.array_equal(mask_to_input(mask, ours.crop_box(400, 300), (32, 32)), resized.numpy())


def test_the_json_form_comes_back() -> None:
    for ours in GEOMETRIES:
        assert Geometry.from_dict(json.loads(json.dumps(ours.as_dict()))) == ours


def test_elongated_images_do_not_fill_the_memory() -> None:
    pixels = GEOMETRIES[0].apply(Image.new("RGB", (1, 1_000_000), (51, 51, 51)))
    assert pixels.shape == (3, 224, 224)
    assert torch.equal(pixels, torch.full_like(pixels, 0.2))


def test_resizing_the_crop_alone_agrees_but_for_its_border(monkeypatch: pytest.MonkeyPatch) -> None:
    # In mid greys: where bicubic overshoots are cut off at black and white, the order of the two passes shows.
    image = photograph(120, 600).point(lambda value: 96 + value // 4)
    ours = Geometry((256, 256), (224, 224), "bicubic")
    whole = ours.apply(image)
    monkeypatch.setattr(geometry, "LARGEST_RESIZED", 0)
    alone = ours.apply(image)
    assert (whole - alone)[:, 8:-8, 8:-8].abs().max() <= 1.5 / 255


@pytest.mark.parametrize("fault", [{"mode": "border"}, {"interpolation": "random"}])
def test_unknown_metadata_are_refused(fault: dict[str, str]) -> None:
    with pytest.raises(ModelError, match=next(iter(fault.values()))):
        Geometry((256, 256), (224, 224), **fault)
