"""Layers with frozen weights, what they are tried on, and their answers."""

from __future__ import annotations

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


def missing(*arguments: object) -> None:
    """In place of what a processor does not have."""
    raise RuntimeError("not on this processor")
