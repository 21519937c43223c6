"""Noisy gradient times difference:  (x - x') * mean over k of grad f_y(x + s e_k),  e_k ~ N(0, 1)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ssig.extend import method


@method(
    equation="(x - x') * mean over k of grad f(x + s e_k)",
    paper="an example",
    evaluations=lambda options: int(options.samples),
)
def my_method(
    model: Callable[[Tensor], Tensor],
    images: Tensor,
    targets: Tensor,
    baselines: Tensor,
    generator: torch.Generator,
    samples: int = 4,
    sigma: float = 0.1,
) -> Tensor:
    """Noisy gradient times difference.

    Args:
        model: points (n, C, H, W) in [0, 1] -> (n, classes).
        images: (B, C, H, W); B is 1, because a generator is asked for.
        targets: (B,) the explained class.
        baselines: (B, C, H, W).
        generator: the image's own random numbers.
        samples: gradient evaluations per image
        sigma: noise, in units of pixels
    """
    total = torch.zeros_like(images)
    for _ in range(samples):
        noise = torch.randn(images.shape, generator=generator, dtype=images.dtype).to(images.device)
        points = (images + sigma * noise).requires_grad_()
        score = model(points).gather(1, targets[:, None]).sum()
        total += torch.autograd.grad(score, points)[0]
    return total / samples * (images - baselines)
