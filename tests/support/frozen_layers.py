"""Layers with frozen weights, what they are tried on, and their answers."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn


def noise(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def frozen(layer: nn.Module) -> nn.Module:
    return layer.eval().requires_grad_(False)


def answers(layer: nn.Module, points: Tensor) -> tuple[Tensor, Tensor]:
    """Output, and the input gradient of a sum that weighs each of its numbers differently."""
    points = points.clone().requires_grad_()
    result = layer(points)
    weights = noise(*result.shape).to(result.dtype)
    return result.detach(), torch.autograd.grad((result * weights).sum(), points)[0]


def assert_rounds_alone(changed: nn.Module, layer: nn.Module, points: Tensor) -> None:
    """The changed layer's answers differ from the layer's, in float64, by no more than rounding in float32 does."""
    double = copy.deepcopy(layer).double()
    # Terms of both signs cancel: their sizes, and not that of the sum, bound what rounding does.
    sizes = copy.deepcopy(double)
    for parameter in sizes.parameters():
        parameter.data.abs_()
    exact, bounds = answers(double, points.double()), answers(sizes, points.double().abs())
    for found, expected, bound in zip(answers(changed, points), exact, bounds, strict=True):
        assert found.shape == expected.shape
        assert (found - expected).norm() <= 2e-6 * max(bound.norm(), expected.norm())


def missing(*arguments: object) -> None:
    """In place of what a processor does not have."""
    raise RuntimeError("not on this processor")
