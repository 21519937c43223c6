"""Networks with answers that can be worked out by hand, in float64."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))


class Linear(nn.Module):
    """`f_y(x) = <w_y, x> + b_y`: every gradient is `w_y`."""

    def __init__(self, shape: tuple[int, int, int], classes: int = 3) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.weight = nn.Parameter(torch.randn(classes, *shape, generator=generator, dtype=torch.float64))
        self.bias = nn.Parameter(torch.randn(classes, generator=generator, dtype=torch.float64))

    def forward(self, points: Tensor) -> Tensor:
        return points.flatten(1) @ self.weight.flatten(1).T + self.bias


class Cubic(nn.Module):
    """`f_y(x) = sum_p w_yp x_p^3`: `grad = 3 w x^2`, so IG is exact with two Gauss-Legendre points."""

    def __init__(self, shape: tuple[int, int, int], classes: int = 3) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        self.weight = nn.Parameter(torch.randn(classes, *shape, generator=generator, dtype=torch.float64))

    def forward(self, points: Tensor) -> Tensor:
        return points.pow(3).flatten(1) @ self.weight.flatten(1).T


def small_cnn(channels: int = 3, classes: int = 5) -> nn.Sequential:
    """A smooth network in which pixels interact."""
    with torch.random.fork_rng():
        torch.manual_seed(2)
        network = nn.Sequential(
            nn.Conv2d(channels, 6, 3, padding=1),
            nn.Softplus(),
            nn.Conv2d(6, 8, 3, stride=2, padding=1),
            nn.Tanh(),
            nn.AdaptiveAvgPool2d(3),
            nn.Flatten(),
            nn.Linear(72, classes),
        )
    return network.double().eval().requires_grad_(False)


@pytest.fixture
def cnn() -> nn.Sequential:
    return small_cnn()


@pytest.fixture
def images() -> Tensor:
    """(5, 3, 10, 12) float64 in [0, 1], not square."""
    return torch.rand(5, 3, 10, 12, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


@pytest.fixture
def targets() -> Tensor:
    return torch.tensor([0, 1, 2, 3, 4])


@pytest.fixture
def linear() -> Linear:
    return Linear((3, 10, 12)).eval()


@pytest.fixture
def cubic() -> Cubic:
    return Cubic((3, 10, 12)).eval()
