"""Spectral IG: the path, its gates, its limit in straight-line IG, and images whose decomposition is not unique."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ssig import attribute
from ssig.errors import UsageError
from ssig.methods.spectral_ig import GATES, SpectralPath


def by_definition(network: nn.Module, image: Tensor, target: int, steps: int, overlap: float) -> Tensor:
    """Spectral IG of one image (C, H, W) from black, linear gate."""

    def point(alpha: float) -> np.ndarray:
        channels = []
        for channel in image.numpy():
            left, values, right = np.linalg.svd(channel, full_matrices=False)
            starts = (1 - overlap) * (1 - values / values[0])
            channels.append(left @ np.diag(values * np.clip((alpha - starts) / overlap, 0, 1)) @ right)
        return np.stack(channels)

    total = torch.zeros_like(image)
    for k in range(steps):
        here, following = (torch.from_numpy(point(alpha / steps)) for alpha in (k, k + 1))
        variable = here[None].requires_grad_()
        (gradient,) = torch.autograd.grad(network(variable)[0, target], variable)
        total += (following - here) * gradient[0]
    return total.detach()


@pytest.mark.parametrize("overlap", [0.1, 0.4, 1.0])
def test_it_is_its_definition(cnn: nn.Module, images: Tensor, targets: Tensor, overlap: float) -> None:
    found = attribute(cnn, images, targets, "spectral-ig", baseline="black", steps=7, overlap=overlap)
    assert found.gradient_evaluations.tolist() == [7] * 5
    for image, target, values in zip(images, targets.tolist(), found.values, strict=True):
        expected = by_definition(cnn, image, target, 7, overlap)
        assert torch.allclose(values, expected, rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize("micro_batch", [1, 4, 64])
def test_full_overlap_is_ig_by_the_left_rule(
    cnn: nn.Module, images: Tensor, targets: Tensor, micro_batch: int
) -> None:
    found = attribute(cnn, images, targets, "spectral-ig", overlap=1, steps=13, micro_batch=micro_batch)
    line = attribute(cnn, images, targets, "ig", rule="left", steps=13)
    assert torch.allclose(found.values, line.values, rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize("overlap", [0.05, 0.4, 1.0])
def test_paths_go_from_the_baseline_to_the_image(images: Tensor, gate: str, overlap: float) -> None:
    path = SpectralPath.of(images, overlap, gate)
    assert path.at(0.0).abs().max() == 0
    assert (path.at(1.0) - images).abs().max() < 1e-13
    # Components come in one way, the strong ones first.
    sizes = torch.stack([torch.linalg.svdvals(path.at(alpha)) for alpha in np.linspace(0, 1, 9)])
    assert (sizes.diff(dim=0) > -1e-12).all()
    early = path.at(overlap * 0.999 if overlap < 1 else 0.5)
    assert torch.linalg.svdvals(early)[..., 0].min() > 0


@pytest.mark.parametrize("gate", GATES)
def test_gates(gate: str) -> None:
    progress = torch.linspace(0, 1, 101, dtype=torch.float64)
    values = GATES[gate](progress)
    assert abs(values[0]) < 1e-15
    assert abs(values[-1] - 1) < 1e-15
    assert (values.diff() > 0).all()
    assert torch.allclose(values + values.flip(0), torch.ones_like(values))


def test_equal_singular_values_come_in_together() -> None:
    # Any orthogonal basis decomposes an orthogonal matrix, and a rank-one matrix has a single component.
    size = 8
    orthogonal = torch.linalg.qr(torch.randn(size, size, generator=torch.Generator().manual_seed(0)).double())[0]
    single = torch.outer(torch.arange(1.0, 9), torch.arange(8.0, 0, -1)).double()
    for matrix in (orthogonal, torch.eye(size, dtype=torch.float64), single):
        path = SpectralPath.of(matrix[None, None], 0.4, "linear")
        for alpha in (0.0, 0.1, 0.3, 0.4, 0.9):
            assert torch.allclose(path.at(alpha)[0, 0], min(alpha / 0.4, 1) * matrix, atol=1e-13)


@pytest.mark.parametrize("gate", GATES)
def test_the_sum_tends_to_the_difference_of_scores(cnn: nn.Module, images: Tensor, targets: Tensor, gate: str) -> None:
    def residual(steps: int) -> float:
        found = attribute(cnn, images, targets, "spectral-ig", steps=steps, gate=gate)
        assert found.completeness_residual is not None
        return float(found.completeness_residual.abs().max())

    assert residual(160) < residual(10) / 8


def test_a_linear_network_is_attributed_exactly(linear: nn.Module, images: Tensor, targets: Tensor) -> None:
    targets = targets % 3
    found = attribute(linear, images, targets, "spectral-ig", baseline="black")
    assert torch.allclose(found.values, linear.weight.detach()[targets] * images, rtol=1e-9, atol=1e-12)


def test_the_hard_step_is_refused(cnn: nn.Module, images: Tensor, targets: Tensor) -> None:
    with pytest.raises(UsageError, match="overlap"):
        attribute(cnn, images, targets, "spectral-ig", overlap=0.0)


def test_corners(cnn: nn.Module, linear: nn.Module, images: Tensor, targets: Tensor) -> None:
    assert not attribute(cnn, images, targets, "spectral-ig", baseline=images).values.any()
    assert not attribute(lambda points: cnn(points * 0), images, targets, "spectral-ig").values.any()
    # One channel equals the baseline's.
    baseline = torch.zeros_like(images)
    baseline[:, 1] = images[:, 1]
    partly = attribute(cnn, images, targets, "spectral-ig", baseline=baseline).values
    assert partly.isfinite().all()
    assert not partly[:, 1].any()
    broken = attribute(lambda points: linear(points) * torch.nan, images, targets % 3, "spectral-ig")
    assert broken.map.isnan().flatten(1).any(dim=1).all()
    assert attribute(cnn.float(), images.float(), targets, "spectral-ig").values.dtype == torch.float32
