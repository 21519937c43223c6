"""PAIR's `saliency` package for tests, and torch networks in the form in which it calls them.

It attributes one image at a time, (H, W, C), in the network's own input space.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from jobs.bench.peers import GRADIENTS, package
from ssig.models.scores import score

ModelFunction = Callable[..., dict[str, np.ndarray]]
SALIENCY = package("pair")


def call_model_function(network: Callable[[Tensor], Tensor], target: int, score_name: str = "logit") -> ModelFunction:
    """`network`, a callable from (n, C, H, W) to logits, as a function from (n, H, W, C) to its score's gradients."""

    def call(
        x_value_batch: np.ndarray, call_model_args: object = None, expected_keys: object = None
    ) -> dict[str, np.ndarray]:
        points = torch.as_tensor(x_value_batch).movedim(-1, 1).requires_grad_()
        targets = torch.full((len(points),), target)
        (gradients,) = torch.autograd.grad(score(network(points), targets, score_name).sum(), points)
        return {GRADIENTS: gradients.movedim(1, -1).numpy()}

    return call


def guided_ig(function: ModelFunction, image: Tensor, baseline: Tensor, **settings: Any) -> Tensor:
    """PAIR's Guided IG of one image (C, H, W); `settings` are x_steps, fraction, max_dist."""
    mask = SALIENCY.GuidedIG().GetMask(channels_last(image), function, x_baseline=channels_last(baseline), **settings)
    return torch.from_numpy(mask).movedim(-1, 0)


def blur_ig(function: ModelFunction, image: Tensor, **settings: Any) -> Tensor:
    """PAIR's Blur IG of one image (C, H, W); `settings` are max_sigma, steps, grad_step, sqrt, batch_size."""
    mask = SALIENCY.BlurIG().GetMask(channels_last(image), function, **settings)
    return torch.from_numpy(mask).movedim(-1, 0)


def channels_last(image: Tensor) -> np.ndarray:
    return image.movedim(0, -1).numpy()
