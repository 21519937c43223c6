"""RISE, occlusion and Score-CAM: closed forms, the peer's maps, the authors' codes, and what they cost."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from captum.attr import Occlusion
from torch import Tensor, nn
from torch.nn.functional import interpolate

from ssig import ModelError, UsageError, attribute
from ssig.methods.occlusion import count, spans
from ssig.methods.rise import RiseOptions, masks_of
from ssig.methods.score_cam import varied
from ssig.randomness import stream
from ssig.registry import METHODS
from ssig.testing import example_images, small_network
from ssig.types import Group

NAMES = ("rise", "occlusion", "score-cam")
FEW: dict[str, dict[str, Any]] = {
    "rise": {"samples": 6},
    "occlusion": {"window": 4, "stride": 3},
    "score-cam": {"channels": 3},
}


def group_of(images: Tensor, baseline: float = 0.0) -> Group:
    streams = tuple(stream(0, "", str(index), "rise") for index in range(len(images)))
    return Group(images, torch.full_like(images, baseline), streams)


# What they cost


@pytest.mark.parametrize("name", NAMES)
def test_forwards_are_what_the_listing_says_and_no_gradient_is_taken(
    cnn: nn.Sequential, images: Tensor, targets: Tensor, name: str
) -> None:
    points: list[tuple[int, bool]] = []
    cnn.register_forward_hook(lambda module, inputs, output: points.append((len(output), torch.is_grad_enabled())))

    def evaluated(method: str, **options: Any) -> int:
        points.clear()
        result = attribute(cnn, images, targets, method, ready=False, **options)
        assert result.gradient_evaluations.tolist() == [0] * 5
        assert not any(with_gradient for _, with_gradient in points)
        return sum(number for number, _ in points)

    options = FEW[name]
    spec = METHODS[name]
    parsed = spec.parse(options)
    assert spec.evaluations(parsed) == 0
    # An occlusion of another size is listed: 10 x 12 pixels have 3 x 4 squares.
    listed = 12 if name == "occlusion" else spec.forwards(parsed)
    evaluated("sobel")  # the network is checked once
    common = evaluated("sobel")
    layer = 1 if name == "score-cam" else 0  # one point finds the last feature map
    assert evaluated(name, **options) - common == 5 * listed + layer


def test_the_default_costs_are_about_those_of_32_gradients() -> None:
    listed = {name: METHODS[name].forwards(METHODS[name].parse({})) for name in NAMES}
    assert listed == {"rise": 80, "occlusion": 81, "score-cam": 81}
    paper = {"rise": 8000, "score-cam": 513}
    assert {name: METHODS[name].forwards(METHODS[name].parse({"preset": "paper"})) for name in paper} == paper
    assert METHODS["gradient"].forwards(METHODS["gradient"].parse({})) == 0
    xrai = METHODS["xrai"]
    assert xrai.forwards(xrai.parse({"base": "occlusion", "baselines": "one"})) == 81


@pytest.mark.parametrize("name", METHODS.names())
def test_no_method_evaluates_the_network_beyond_its_listing(name: str) -> None:
    """Beside the scores of the image and of at most three baselines or points of a layer."""
    network, images, spent = small_network(), example_images(), [0, 0]
    targets, spec = torch.arange(5), METHODS[name]
    try:
        attribute(network, images, targets, name, references=images.flip(0), ready=False)  # checks the network
    except ModelError:
        pytest.skip("the network has no attention")

    def count(module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        spent[0 if torch.is_grad_enabled() and inputs[0].requires_grad else 1] += len(output)

    network.register_forward_hook(count)
    attribute(network, images, targets, name, references=images.flip(0), ready=False)
    cost = spec.cost(spec.parse({}))
    assert cost.gradients is not None
    assert cost.forwards is not None
    assert spent[0] <= 5 * cost.gradients
    assert spent[1] <= 5 * (cost.forwards + 4)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("micro_batch", [1, 4, 64])
def test_a_batch_is_a_loop(cnn: nn.Module, images: Tensor, targets: Tensor, name: str, micro_batch: int) -> None:
    keys = [str(index) for index in range(5)]
    whole = attribute(cnn, images, targets, name, keys=keys, micro_batch=micro_batch, **FEW[name])
    for index in range(5):
        span = slice(index, index + 1)
        alone = attribute(cnn, images[span], targets[span], name, keys=keys[span], **FEW[name])
        torch.testing.assert_close(alone.map[0], whole.map[index], rtol=1e-9, atol=1e-13)


@pytest.mark.parametrize("name", ["occlusion", "score-cam"])
def test_an_image_that_equals_its_baseline_has_no_attributions(cnn: nn.Module, images: Tensor, name: str) -> None:
    options: dict[str, Any] = {"weights": "increase"} if name == "score-cam" else {}
    result = attribute(cnn, images, [0, 1, 2, 3, 4], name, baseline=images, **FEW[name], **options)
    assert not result.values.any()


# Occlusion


@pytest.mark.parametrize(("window", "stride"), [(4, 3), (5, 5), (3, 1), (12, 2), (40, 24)])
def test_occlusion_agrees_with_captum(
    cnn: nn.Module, images: Tensor, targets: Tensor, window: int, stride: int
) -> None:
    found = attribute(cnn, images, targets, "occlusion", window=window, stride=stride, baseline="black").map
    size = (3, min(window, 10), min(window, 12))
    expected = Occlusion(cnn).attribute(
        images, sliding_window_shapes=size, strides=(3, min(stride, size[1]), min(stride, size[2])), target=targets
    )
    torch.testing.assert_close(found, expected[:, 0].to(found), rtol=1e-6, atol=1e-8)
    assert found.any()


def test_squares_of_a_linear_network_sum_its_values(linear: nn.Module, images: Tensor) -> None:
    targets = torch.tensor([0, 1, 2, 0, 1])
    values = (linear.weight.detach()[targets] * images).sum(dim=1)
    single = attribute(linear, images, targets, "occlusion", window=1, stride=1, baseline="black")
    torch.testing.assert_close(single.map, values, rtol=1e-8, atol=1e-11)
    # Squares that meet without overlap: each pixel has its own square's sum.
    tiled = attribute(linear, images, targets, "occlusion", window=2, stride=2, baseline="black").map
    sums = values.unfold(1, 2, 2).unfold(2, 2, 2).sum(dim=(3, 4))
    torch.testing.assert_close(tiled, sums.repeat_interleave(2, 1).repeat_interleave(2, 2), rtol=1e-8, atol=1e-11)


@pytest.mark.parametrize(("size", "window", "stride"), [(10, 4, 3), (11, 4, 3), (12, 5, 5), (3, 8, 2), (224, 32, 24)])
def test_windows_cover_every_pixel_and_begin_inside(size: int, window: int, stride: int) -> None:
    covered = spans(size, window, stride)
    assert covered.shape == (count(size, window, stride), size)
    assert covered.any(dim=0).all()
    assert covered.any(dim=1).all()
    assert covered[:-1].sum(dim=1).eq(window).all()


def test_squares_that_leave_pixels_out_are_refused(cnn: nn.Module, images: Tensor) -> None:
    with pytest.raises(UsageError, match=r"stride.*at most window \(4\)"):
        attribute(cnn, images, [0] * 5, "occlusion", window=4, stride=5)


# RISE


def test_masks_are_enlarged_grids_at_random_places(images: Tensor) -> None:
    options = RiseOptions(samples=3, cells=4, probability=0.4)
    masks = masks_of(group_of(images), range(1, 3), options)
    assert masks.shape == (2, 5, 1, 10, 12)
    for row, sample in enumerate((1, 2)):
        for index in range(5):
            drawn = stream(0, "", str(index), "rise").generator(sample).random(18, dtype="float32")
            grid = torch.from_numpy(drawn[:16] < 0.4).double().view(1, 1, 4, 4)
            large = interpolate(grid, size=(15, 15), mode="bilinear", align_corners=False)[0, 0]
            top, left = int(drawn[16] * 3), int(drawn[17] * 3)
            expected = large[top : top + 10, left : left + 12]
            torch.testing.assert_close(masks[row, index, 0], expected)


@pytest.mark.parametrize(("cells", "size"), [(7, (10, 12)), (5, (224, 160)), (1, (3, 3)), (13, (10, 12))])
def test_masks_have_their_probability_and_fit_any_image(cells: int, size: tuple[int, int]) -> None:
    images = torch.rand(2, 3, *size, dtype=torch.float64)
    masks = masks_of(group_of(images), range(300), RiseOptions(cells=cells, probability=0.3))
    assert masks.shape == (300, 2, 1, *size)
    assert masks.min() >= 0
    assert masks.max() <= 1
    assert abs(float(masks.mean()) - 0.3) < 0.04


@pytest.mark.parametrize("readout", ["sum", "max-abs"])
def test_rise_is_the_mean_of_its_masks_weighed_by_scores(
    cnn: nn.Module, images: Tensor, targets: Tensor, readout: str
) -> None:
    options: dict[str, Any] = {"samples": 9, "cells": 3, "probability": 0.4, "score": "probability"}
    keys = [str(index) for index in range(5)]
    found = attribute(cnn, images, targets, "rise", baseline="black", keys=keys, readout=readout, **options)
    masks = masks_of(group_of(images), range(9), RiseOptions(cells=3, probability=0.4)).flatten(0, 1)
    probabilities = cnn(images.repeat(9, 1, 1, 1) * masks).softmax(dim=1)
    weights = probabilities.gather(1, targets.repeat(9)[:, None])[:, :, None, None]
    expected = (weights * masks).view(9, 5, 10, 12)
    torch.testing.assert_close(found.values.sum(dim=1), expected.mean(dim=0) / 0.4, rtol=1e-6, atol=1e-8)
    assert found.standard_error is not None
    if readout == "sum":
        error = expected.std(dim=0) / 0.4 / 3
        torch.testing.assert_close(found.standard_error, error, rtol=1e-5, atol=1e-8)


def test_more_masks_of_a_linear_network_give_its_regions(linear: nn.Module, images: Tensor) -> None:
    # E[f m_p] / p = b' + covariances: pixels of the same cells as heavy ones are higher.
    targets = torch.tensor([0, 1, 2, 0, 1])
    options: dict[str, Any] = {"cells": 3, "baseline": "black", "micro_batch": 64}
    first, second = (attribute(linear, images, targets, "rise", samples=800, seed=seed, **options) for seed in (1, 2))
    assert first.standard_error is not None
    gap = (first.map - second.map).norm() / 2**0.5
    assert 0.5 * gap < first.standard_error.norm() < 2 * gap


# Score-CAM


def expected_score_cam(cnn: nn.Sequential, image: Tensor, target: int, weights: str) -> Tensor:
    """The map (h, w) before its ReLU, channel by channel as in the paper, or for `score` as in the authors' code."""
    activations = cnn[:2](image[None])[0]
    found = []
    for activation in activations:
        mask = interpolate(activation[None, None], size=(10, 12), mode="bilinear", align_corners=False)[0, 0]
        mask = (mask - mask.min()) / (mask.max() - mask.min())
        logits = cnn((image * mask)[None])[0]
        found.append(logits.softmax(dim=0)[target] if weights == "score" else logits[target])
    scores = torch.stack(found)
    if weights == "increase":
        scores = scores - cnn(torch.zeros_like(image)[None])[0, target]
    if weights == "softmax":
        scores = scores.exp() / scores.exp().sum()
    return (scores[:, None, None] * activations).sum(dim=0)


@pytest.mark.parametrize(
    ("given", "weights"),
    [
        ({"preset": "paper"}, "softmax"),
        ({}, "softmax"),
        ({"weights": "increase"}, "increase"),
        ({"preset": "code"}, "score"),
    ],
)
def test_score_cam_is_the_papers(
    cnn: nn.Sequential, images: Tensor, targets: Tensor, given: dict[str, str], weights: str
) -> None:
    found = attribute(cnn, images, targets, "score-cam", layer="1", relu=False, baseline="black", **given).map
    for index in range(5):
        maps = expected_score_cam(cnn, images[index], int(targets[index]), weights).detach()
        expected = interpolate(maps[None, None], size=(10, 12), mode="bilinear", align_corners=False)[0, 0]
        torch.testing.assert_close(found[index], expected, rtol=1e-8, atol=1e-12)


def test_score_cam_shows_the_image_before_its_baseline(cnn: nn.Module, images: Tensor, targets: Tensor) -> None:
    black, white = (
        attribute(cnn, images, targets, "score-cam", layer="1", baseline=name).map for name in ("black", "white")
    )
    assert (black - white).abs().max() > 1e-4


def test_score_cam_of_a_constant_network_is_the_mean_of_the_channels(
    cnn: nn.Sequential, images: Tensor, targets: Tensor
) -> None:
    cnn[-1].weight.data.zero_()
    found = attribute(cnn, images, targets, "score-cam", layer="1").map
    torch.testing.assert_close(found, cnn[:2](images).mean(dim=1))
    assert not attribute(cnn, images, targets, "score-cam", layer="1", weights="increase").map.any()


def test_the_channels_that_vary_most_are_weighed_in_their_order() -> None:
    activations = torch.zeros(2, 4, 2, 2)
    activations[0, :, 0, 0] = torch.tensor([1.0, 4.0, 2.0, 3.0])
    activations[1, :, 1, 1] = torch.tensor([9.0, 0.0, 5.0, 7.0])
    found = varied(activations, 2)
    assert found[0, :, 0, 0].tolist() == [4.0, 3.0]
    assert found[1, :, 1, 1].tolist() == [9.0, 7.0]
    assert varied(activations, "all") is activations
    assert varied(activations, 9) is activations


@pytest.mark.parametrize("weights", ["softmax", "increase", "score"])
def test_channels_that_are_the_same_everywhere_have_no_weight(cnn: nn.Sequential, weights: str) -> None:
    constant = torch.full((2, 3, 10, 12), 0.5, dtype=torch.float64)
    network = nn.Sequential(nn.Conv2d(3, 4, 1).double(), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    result = attribute(network, constant, [0, 1], "score-cam", weights=weights, baseline="black", relu=False)
    assert not result.map.any()
