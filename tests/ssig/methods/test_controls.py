"""Maps that know nothing of the network: their closed forms, and that they cost no gradient."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import kstest
from skimage.color import rgb2gray
from skimage.filters import sobel
from torch import Tensor, nn

from ssig import attribute
from ssig.registry import METHODS

CONTROLS = ("random", "sobel", "centre")


@pytest.mark.parametrize("method", CONTROLS)
def test_controls_cost_no_gradient_and_know_no_target(
    cnn: nn.Module, images: Tensor, targets: Tensor, method: str
) -> None:
    result = attribute(cnn, images, targets, method, keys=list("abcde"))
    assert result.gradient_evaluations.tolist() == [0] * 5
    assert METHODS[method].evaluations(METHODS[method].parse({})) == 0
    assert torch.allclose(result.score, cnn(images).gather(1, targets[:, None])[:, 0])
    grey = torch.full_like(images, 0.5)
    assert torch.allclose(result.baseline_score, cnn(grey).gather(1, targets[:, None])[:, 0])
    assert result.completeness_residual is None
    assert result.standard_error is None
    assert result.values.dtype == torch.float64
    assert torch.allclose(result.values, result.map[:, None] / 3)
    assert (result.map >= 0).all()
    other = attribute(cnn, images, targets.flip(0), method, keys=list("abcde"))
    assert torch.equal(other.map, result.map)


@pytest.mark.parametrize("method", CONTROLS)
@pytest.mark.parametrize("channels", [1, 2, 3])
def test_any_number_of_channels(method: str, channels: int) -> None:
    images = torch.rand(2, channels, 7, 5)
    result = attribute(lambda points: points.flatten(1), images, [0, 1], method)
    assert result.map.shape == (2, 7, 5)
    assert result.map.dtype == torch.float32


def test_random_maps_are_uniform_and_the_images_own(cnn: nn.Module, targets: Tensor) -> None:
    images = torch.rand(5, 3, 60, 70, dtype=torch.float64)
    keys = list("abcde")
    maps = attribute(cnn, images, targets, "random", keys=keys).map
    assert kstest(maps.flatten().numpy(), "uniform").pvalue > 0.01
    assert abs(np.corrcoef(maps.flatten(1).numpy())[np.triu_indices(5, 1)]).max() < 0.1
    alone = attribute(cnn, images[3:4], targets[3:4], "random", keys=keys[3:4]).map
    assert torch.allclose(alone[0], maps[3])
    assert not torch.allclose(attribute(cnn, images, targets, "random", keys=keys, seed=1).map, maps)


def test_sobel_is_scikit_images(cnn: nn.Module, images: Tensor, targets: Tensor) -> None:
    maps = attribute(cnn, images, targets, "sobel").map
    for found, image in zip(maps, images, strict=True):
        assert found.numpy() == pytest.approx(sobel(rgb2gray(image.permute(1, 2, 0).numpy())), rel=1e-6, abs=1e-9)


def test_sobel_of_a_ramp_is_its_slope(linear: nn.Module, targets: Tensor) -> None:
    ramp = (torch.arange(12, dtype=torch.float64) / 20).expand(5, 3, 10, 12)
    maps = attribute(linear, ramp, targets % 3, "sobel").map
    assert torch.allclose(maps[:, :, 1:-1], torch.tensor(0.1 / 2**0.5, dtype=torch.float64))


def test_an_even_image_has_no_edges(cnn: nn.Module, targets: Tensor) -> None:
    even = torch.full((5, 3, 10, 12), 0.3, dtype=torch.float64)
    assert attribute(cnn, even, targets, "sobel").map.abs().max() < 1e-15


def test_the_centre_is_a_gaussian(cnn: nn.Module, images: Tensor, targets: Tensor) -> None:
    maps = attribute(cnn, images[..., :9, :11], targets, "centre", sigma=0.5).map
    assert torch.allclose(maps[:, 4, 5], torch.ones(5, dtype=torch.float64))
    assert torch.allclose(maps[0, 4, 5 + 2], torch.tensor(np.exp(-0.5 * (2 / 4.5) ** 2)))
    assert torch.allclose(maps[0, 4 - 3, 5 + 4], torch.tensor(np.exp(-0.5 * (5 / 4.5) ** 2)))
    assert torch.equal(maps, maps.flip(1, 2))
