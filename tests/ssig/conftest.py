"""Networks with answers that can be worked out by hand, in float64."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from ssig.testing import example_images, small_network

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


@pytest.fixture
def cnn() -> nn.Sequential:
    return small_network()


@pytest.fixture
def images() -> Tensor:
    """(5, 3, 10, 12) float64 in [0, 1], not square."""
    return example_images()


@pytest.fixture
def targets() -> Tensor:
    return torch.tensor([0, 1, 2, 3, 4])


@pytest.fixture
def linear() -> Linear:
    return Linear((3, 10, 12)).eval()


@pytest.fixture
def cubic() -> Cubic:
    return Cubic((3, 10, 12)).eval()
