"""Saturation: score and gradients of a network as a sampler departs further from the image.

    probability  softmax probability of the target at the samples
    gradient     mean |grad f_y| over pixels and channels, f_y the logit
    dead         share of the network's ReLU units whose derivative is 0 (of clamps such as ReLU6 also the upper kink)
    change       root mean square difference of sample and image, over pixels and channels

each a function of the sampler's strength, for the laws

    noise            x + s (max x - min x) eps,   eps ~ N(0, 1)
    uniform          m ~ U(1 - s, 1) per pixel        x' + m (x - x')
    uniform-channel  m ~ U(1 - s, 1) per pixel and channel
    fade             m = 1 - s, the straight path

Luo, McDermott, O'Riordan, *Sampling Matters in Explanations* (2025), hold that noise adds information that saturates
the network, and that suppression does not. Strengths of different laws are no common scale: compare at equal `change`.
Equal change is equal energy, not equal distance to natural images. The dead share is over all units, so early layers
with many units weigh most, and a network without ReLUs has none (NaN).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from ssig.estimators.samplers import Noise, Sampler, Uniform
from ssig.types import Group

QUANTITIES = ("change", "probability", "gradient", "dead")

LAWS: Mapping[str, Callable[[float], Sampler]] = {
    "noise": Noise,
    "uniform": lambda strength: Uniform(1 - strength, 1.0),
    "uniform-channel": lambda strength: Uniform(1 - strength, 1.0, per_channel=True),
    "fade": lambda strength: Uniform(1 - strength, 1 - strength),
}

_RELUS = (F.relu, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_)
_INFINITY = float("inf")


@dataclass(frozen=True)
class Saturation:
    """Means over the samples of each image at each strength, (B, S) float64; `dead` is NaN without ReLUs."""

    change: np.ndarray
    probability: np.ndarray
    gradient: np.ndarray
    dead: np.ndarray


def saturation(
    model: Callable[[Tensor], Tensor],
    group: Group,
    targets: Tensor,
    law: str | Callable[[float], Sampler],
    strengths: Sequence[float],
    *,
    samples: int = 4,
    micro_batch: int = 4,
) -> Saturation:
    """The curves of one law for each image of a group.

    Sample k of an image has the same random numbers at every strength, and its own stream makes it independent of the
    batch.

    Args:
        model: pixel-space points (n, C, H, W) -> logits; eager, so that its activations can be watched.
        group: images, baselines and streams.
        targets: (B,) int64.
        law: one of `LAWS`, or the sampler of each strength.
        strengths: of the law; those of suppression are in [0, 1].
        samples: draws for each image and strength.
        micro_batch: points evaluated at once.
    """
    sums = {name: np.zeros((len(group), len(strengths))) for name in QUANTITIES}
    for column, strength in enumerate(strengths):
        sampler = (LAWS[law] if isinstance(law, str) else law)(strength)
        for k in range(samples):
            points = sampler.point(group, k, samples)
            change = (points - group.images).double().square().mean(dim=(1, 2, 3)).sqrt()
            sums["change"][:, column] += change.cpu().numpy()
            for start in range(0, len(group), micro_batch):
                rows = slice(start, start + micro_batch)
                for name, values in _at(model, points[rows], targets[rows]).items():
                    sums[name][rows, column] += values
    return Saturation(**{name: total / samples for name, total in sums.items()})


def _at(model: Callable[[Tensor], Tensor], points: Tensor, targets: Tensor) -> dict[str, np.ndarray]:
    """(n,) of each quantity at points (n, C, H, W)."""
    places = targets.to(points.device).unsqueeze(1)
    with torch.enable_grad():
        points = points.detach().requires_grad_()
        with DeadUnits(len(points)) as units:
            logits = model(points)
        (gradient,) = torch.autograd.grad(logits.gather(1, places).sum(), points)
    probability = logits.detach().double().softmax(dim=1).gather(1, places)[:, 0]
    return {
        "probability": probability.cpu().numpy(),
        "gradient": gradient.double().abs().mean(dim=(1, 2, 3)).cpu().numpy(),
        "dead": units.share(),
    }


class DeadUnits(TorchFunctionMode):
    """While active, counts the units of ReLUs and clamps (`relu6`, `hardtanh`) that pass no gradient.

    Args:
        count: points of the batch; activations of another number are not counted.
    """

    def __init__(self, count: int) -> None:
        super().__init__()
        self.dead = torch.zeros(count, dtype=torch.float64)
        self.units = 0

    def share(self) -> np.ndarray:
        """(n,) share of all counted units that are dead at each point; NaN if there are none."""
        share: np.ndarray = (self.dead / self.units if self.units else torch.full_like(self.dead, torch.nan)).numpy()
        return share

    def __torch_function__(
        self, func: Callable[..., Any], types: object, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        limits = _limits(func, args, kwargs or {})
        if limits is not None and isinstance(result, Tensor) and len(result) == len(self.dead):
            units = result.detach().flatten(1)
            dead = (units <= limits[0]) | (units >= limits[1])
            self.dead += dead.sum(dim=1).double().cpu()
            self.units += units.shape[1]
        return result


def _limits(func: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[float, float] | None:
    """The outputs outside of which a function has derivative 0; None for other functions."""
    if func in _RELUS:
        return 0.0, _INFINITY
    if func is F.relu6:
        return 0.0, 6.0
    if func is F.hardtanh:
        arguments = {**dict(zip(("input", "min_val", "max_val"), args, strict=False)), **kwargs}
        return float(arguments.get("min_val", -1.0)), float(arguments.get("max_val", 1.0))
    return None
