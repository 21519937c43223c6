"""SPI and SPI-P: the definition, the law of the paths, their limits, and what is exact."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.stats import norm
from torch import Tensor, nn

from ssig import attribute
from ssig.errors import UsageError
from ssig.methods.spi import StochasticOptions, progress
from ssig.methods.spi_p import exceedance
from ssig.randomness import stream
from ssig.types import Group

KEY = ("", "image")
GREY = 0.5


def path_by_definition(
    network: nn.Module, image: Tensor, target: int, method: str, path: int, *, steps: int, atoms: int, left: bool
) -> Tensor:
    """The integral along one random path of one image (C, H, W), written with NumPy's stream."""
    drawn = [
        stream(0, *KEY, method).generator(path * atoms + k).random((2, 1, *image.shape[1:]), dtype=np.float32)
        for k in range(atoms)
    ]
    alpha = 10.0
    left_over = np.ones((1, *image.shape[1:]))
    rises, times = [], []
    for broken, time in np.array(drawn, dtype=np.float64):
        beta = 1 - (1 - broken) ** (1 / alpha)
        rises.append(left_over * beta)
        times.append(time)
        left_over = left_over * (1 - beta)

    def position(at: float) -> Tensor:
        share = sum(rise * (time < at) for rise, time in zip(rises, times, strict=True)) + left_over * at
        return GREY + torch.from_numpy(share) * (image - GREY)

    total = torch.zeros_like(image)
    for k in range(steps):
        start, stop = position(k / steps), position((k + 1) / steps)
        variable = (start if left else (start + stop) / 2)[None].requires_grad_()
        (gradient,) = torch.autograd.grad(network(variable)[0, target], variable)
        total += gradient[0] * (stop - start)
    return total


@pytest.mark.parametrize("rule", ["midpoint", "left"])
@pytest.mark.parametrize("micro_batch", [1, 64])
def test_spi_is_its_definition(cnn: nn.Module, images: Tensor, rule: str, micro_batch: int) -> None:
    options = {"samples": 12, "paths": 3, "atoms": 5, "rule": rule}
    found = attribute(cnn, images[:1], [2], "spi", keys=[KEY], micro_batch=micro_batch, **options)
    parts = [
        path_by_definition(cnn, images[0], 2, "spi", path, steps=4, atoms=5, left=rule == "left") for path in range(3)
    ]
    assert torch.allclose(found.values[0], torch.stack(parts).mean(dim=0), rtol=1e-9, atol=1e-14)
    maps = torch.stack(parts).sum(dim=1)
    assert found.standard_error is not None
    assert torch.allclose(found.standard_error[0], maps.std(dim=0) / math.sqrt(3), rtol=1e-9, atol=1e-14)
    assert found.gradient_evaluations.tolist() == [12]


def test_spi_p_is_its_definition(cnn: nn.Module, images: Tensor) -> None:
    found = attribute(cnn, images[:1], [2], "spi-p", keys=[KEY], samples=12, paths=4, atoms=5, share=0.1)
    parts = [path_by_definition(cnn, images[0], 2, "spi-p", path, steps=3, atoms=5, left=False) for path in range(4)]
    maps = torch.stack(parts).sum(dim=1)
    mean, deviation = maps.mean(dim=0), maps.std(dim=0)
    theta = mean.flatten().sort(descending=True).values[11]
    expected = torch.from_numpy(norm.sf(theta, mean, deviation))
    assert torch.allclose(found.map[0], expected, rtol=1e-7, atol=1e-12)
    assert torch.equal(found.map, found.values.sum(dim=1))
    assert found.completeness_residual is None


def group_of(size: int, images: int = 4) -> Group:
    pictures = torch.rand(images, 3, size, size, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    streams = tuple(stream(0, "s.tar", str(index), "spi") for index in range(images))
    return Group(pictures, torch.zeros_like(pictures), streams)


@pytest.mark.parametrize(("alpha", "atoms"), [(0.3, 8), (10.0, 20), (10.0, 3), (100.0, 5)])
def test_paths_have_the_moments_of_a_dirichlet_process(alpha: float, atoms: int) -> None:
    options = StochasticOptions(samples=8, paths=1, concentration=alpha, atoms=atoms, per_channel=True)
    edges = progress(group_of(32), 0, options).flatten(1)
    assert (edges[0] == 0).all()
    assert (edges[-1] == 1).all()
    assert (edges.diff(dim=0) > -1e-12).all()
    kept = 1 - (alpha / (alpha + 2)) ** atoms
    for k in range(1, 8):
        time = k / 8
        variance = time * (1 - time) / (alpha + 1) * kept
        tolerance = 5 / math.sqrt(edges.shape[1])
        assert abs(edges[k].mean() - time) < tolerance * math.sqrt(variance)
        assert abs(edges[k].var() / variance - 1) < 6 * tolerance


def test_the_limits_are_one_jump_and_the_straight_line(cnn: nn.Module, images: Tensor, targets: Tensor) -> None:
    jumps = progress(group_of(16), 0, StochasticOptions(samples=8, paths=1, concentration=1e-9))
    assert ((jumps == 0) | ((jumps - 1).abs() < 1e-12)).all()
    found = attribute(cnn, images, targets, "spi", samples=8, paths=1, concentration=1e9).values
    line = attribute(cnn, images, targets, "ig", steps=8, rule="midpoint").values
    assert torch.allclose(found, line, rtol=1e-6, atol=1e-12)


def test_channels_share_a_path_or_have_their_own() -> None:
    shared = progress(group_of(8), 0, StochasticOptions())
    own = progress(group_of(8), 0, StochasticOptions(per_channel=True))
    assert shared.shape == (9, 4, 1, 8, 8)
    assert own.shape == (9, 4, 3, 8, 8)
    assert not torch.allclose(own[4, :, 0], own[4, :, 1])
    assert not torch.allclose(progress(group_of(8), 1, StochasticOptions())[4], shared[4])


@pytest.mark.parametrize("alpha", [0.1, 10.0])
def test_the_midpoint_rule_is_exact_for_quadratic_functions(images: Tensor, alpha: float) -> None:
    weight = torch.randn(4, 360, generator=torch.Generator().manual_seed(6), dtype=torch.float64)

    def network(points: Tensor) -> Tensor:
        return (points.flatten(1) @ weight.T).square().sum(dim=1, keepdim=True)

    found = attribute(network, images, [0] * 5, "spi", samples=6, paths=2, concentration=alpha)
    assert found.completeness_residual is not None
    assert found.completeness_residual.abs().max() < 1e-11 * found.score.abs().max()


def test_probabilities_of_pixels() -> None:
    mean = torch.tensor([[[3.0, 2, 1, 0], [-1, 1, 1, 1]]], dtype=torch.float64)
    deviation = torch.tensor([[[0.0, 2, 4, 0], [1, 0, 1e-9, 1]]], dtype=torch.float64)
    # The third of eight means is 1.
    found = exceedance(mean, deviation, 3 / 8)
    expected = [[1, norm.cdf(0.5), 0.5, 0], [norm.cdf(-2), 0, 0.5, 0.5]]
    assert torch.allclose(found[0], torch.tensor(expected, dtype=torch.float64))
    mean[0, 0, 0] = math.nan
    assert exceedance(mean, deviation, 3 / 8).isnan().all()
    assert not exceedance(torch.zeros(2, 3, 3), torch.zeros(2, 3, 3), 0.05).any()


@pytest.mark.parametrize("method", ["spi", "spi-p"])
def test_corners(cnn: nn.Module, linear: nn.Module, images: Tensor, targets: Tensor, method: str) -> None:
    assert not attribute(cnn, images, targets, method, baseline=images).values.any()
    assert not attribute(lambda points: cnn(points * 0), images, targets, method).values.any()
    broken = attribute(lambda points: linear(points) * torch.nan, images, targets % 3, method)
    assert broken.map.isnan().all()
    with pytest.raises(UsageError, match="paths"):
        attribute(cnn, images, targets, method, paths=5)
    assert attribute(cnn.float(), images.float(), targets, method).values.dtype == torch.float32
