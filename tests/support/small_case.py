"""A small smooth network on one image, for comparisons in float64."""

from __future__ import annotations

import torch
from torch import nn

from jobs.bench.networks import Case, case_of


def small_case() -> Case:
    """A smooth network in which pixels interact, on one image that is not square, in float64."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(
            nn.Conv2d(3, 6, 3, padding=1),
            nn.Softplus(),
            nn.Conv2d(6, 8, 3, stride=2, padding=1),
            nn.Tanh(),
            nn.AdaptiveAvgPool2d(3),
            nn.Flatten(),
            nn.Linear(72, 5),
        )
        images, baselines = torch.rand(2, 1, 3, 14, 12, dtype=torch.float64)
    return case_of(model.double().eval().requires_grad_(False), images, baselines, "a random image")
