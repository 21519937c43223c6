"""Tests of a change of a network: compares logits and input gradients at points of several kinds.

    noise       the example itself
    extremes    fields of nearly black and nearly white: clamps and activations saturate, edges are hard
    smooth      waves whose strength falls with frequency, as in photographs

No area is perfectly constant, since rounding would break ties of pooling at random.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Forward = Callable[[Tensor], Tensor]
Answers = tuple[Tensor, Tensor]

# Fields and waves along each side, and the share of random noise.
FIELDS, WAVES, GRAIN = 4, 6, 0.02
_SEED = 0


def proof_points(example: Tensor) -> tuple[Tensor, ...]:
    """Points (1, C, H, W) of each kind, in the range of the example's values.

    Args:
        example: (1, C, H, W), of noise.
    """
    low, high = example.amin(), example.amax()
    generator = torch.Generator().manual_seed(_SEED)
    channels, height, width = example.shape[1:]
    rows = torch.arange(height).div(height).view(1, -1, 1)
    columns = torch.arange(width).div(width).view(1, 1, -1)
    fields = ((rows * FIELDS).floor() + (columns * FIELDS).floor() + torch.arange(channels).view(-1, 1, 1) // 2) % 2
    waves = torch.zeros(channels, height, width)
    for number in range(WAVES * WAVES):
        down, across = divmod(number, WAVES)
        phase = torch.rand(channels, 1, 1, generator=generator)
        strength = torch.randn(channels, 1, 1, generator=generator) / (1 + math.hypot(down, across))
        waves += strength * (2 * math.pi * (down * rows + across * columns + phase)).cos()
    waves = (waves - waves.amin()) / (waves.amax() - waves.amin()).clamp_min(1e-6)
    points = []
    for pattern in (fields, waves):
        grain = torch.rand(pattern.shape, generator=generator)
        unit = pattern + GRAIN * (grain - pattern)  # stays in [0, 1]
        points.append(low + (high - low) * unit.to(example).unsqueeze(0))
    return example, *points


def answers(forward: Forward, points: Tensor) -> Answers:
    """Logits (n, classes), attached to their graph, and the input gradient of their sum with unequal weights."""
    with torch.enable_grad():
        points = points.clone().requires_grad_()
        logits = forward(points)
        weights = torch.arange(1, logits.shape[1] + 1, device=logits.device, dtype=logits.dtype) / logits.shape[1]
        (gradient,) = torch.autograd.grad((logits * weights).sum(), points)
    return logits, gradient


def all_answers(forward: Forward, points: Sequence[Tensor]) -> list[Answers]:
    """The answers at each of several points, without their graphs."""
    pairs = (answers(forward, point) for point in points)
    return [(logits.detach(), gradient) for logits, gradient in pairs]


def holds(forward: Forward, points: Sequence[Tensor], expected: Sequence[Answers], tolerance: float) -> bool:
    """Whether the answers at every point equal the expected ones; stops at the first that differs."""
    return all(
        close(answers(forward, point), reference, tolerance) for point, reference in zip(points, expected, strict=True)
    )


def close(tensors: Sequence[Tensor], expected: Sequence[Tensor], tolerance: float) -> bool:
    """Whether the relative L2 distance of each tensor is within the tolerance."""
    return all(
        bool((tensor - reference).norm() <= tolerance * reference.norm())
        for tensor, reference in zip(tensors, expected, strict=True)
    )
