"""PAIR's `saliency` package on present-day NumPy, and torch networks in the form in which it calls them.

The package (0.2.1) knows `np.trapz` and `np.quantile(interpolation=...)`, which NumPy has renamed. It attributes one
image at a time, (H, W, C), in the network's own input space.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import numpy as np
import saliency.core
import torch
from torch import Tensor

from ssig.scores import score

ModelFunction = Callable[..., dict[str, np.ndarray]]


@contextmanager
def numpy_of_its_time() -> Iterator[None]:
    """Gives NumPy's functions their former names back during the body."""
    quantile = np.quantile

    def former_quantile(*args: Any, interpolation: str = "linear", **kwargs: Any) -> Any:
        return quantile(*args, method=interpolation, **kwargs)

    with patch.object(np, "quantile", former_quantile), patch.object(np, "trapz", np.trapezoid, create=True):
        yield


def call_model_function(network: Callable[[Tensor], Tensor], target: int, score_name: str = "logit") -> ModelFunction:
    """`network`, a callable from (n, C, H, W) to logits, as a function from (n, H, W, C) to its score's gradients."""

    def call(
        x_value_batch: np.ndarray, call_model_args: object = None, expected_keys: object = None
    ) -> dict[str, np.ndarray]:
        points = torch.as_tensor(x_value_batch).movedim(-1, 1).requires_grad_()
        targets = torch.full((len(points),), target)
        (gradients,) = torch.autograd.grad(score(network(points), targets, score_name).sum(), points)
        return {saliency.core.INPUT_OUTPUT_GRADIENTS: gradients.movedim(1, -1).numpy()}

    return call


def guided_ig(function: ModelFunction, image: Tensor, baseline: Tensor, **settings: Any) -> Tensor:
    """PAIR's Guided IG of one image (C, H, W); `settings` are x_steps, fraction, max_dist."""
    with numpy_of_its_time():
        mask = saliency.core.GuidedIG().GetMask(
            channels_last(image), function, x_baseline=channels_last(baseline), **settings
        )
    return torch.from_numpy(mask).movedim(-1, 0)


def blur_ig(function: ModelFunction, image: Tensor, **settings: Any) -> Tensor:
    """PAIR's Blur IG of one image (C, H, W); `settings` are max_sigma, steps, grad_step, sqrt, batch_size."""
    mask = saliency.core.BlurIG().GetMask(channels_last(image), function, **settings)
    return torch.from_numpy(mask).movedim(-1, 0)


def channels_last(image: Tensor) -> np.ndarray:
    return image.movedim(0, -1).numpy()
