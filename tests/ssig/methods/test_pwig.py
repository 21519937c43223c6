"""Path-weighted integrated gradients: closed forms, its limits, and the mean over baselines that it is."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ssig import attribute
from ssig.errors import UsageError
from ssig.registry import METHODS


@pytest.mark.parametrize(("p", "mean"), [(1.0, 1 / 2), (2.0, 1 / 3), (0.5, 2 / 3)])
def test_a_linear_network_has_the_integral_of_the_weights(
    linear: nn.Module, images: Tensor, targets: Tensor, p: float, mean: float
) -> None:
    # F = a^p has the integral 1 / (p + 1).
    targets = targets % 3
    found = attribute(linear, images, targets, "pwig", baseline="black", p=p, steps=64)
    assert torch.allclose(found.values, linear.weight.detach()[targets] * images * mean, rtol=1e-5, atol=1e-12)
    assert found.completeness_residual is None
    assert found.gradient_evaluations.tolist() == [64] * 5


def test_a_cubic_network_is_attributed_exactly(cubic: nn.Module, images: Tensor, targets: Tensor) -> None:
    # grad f(a x) = 3 a^2 w x^2, times a: 3/4 w x^3.
    targets = targets % 3
    found = attribute(cubic, images, targets, "pwig", baseline="black", steps=2)
    assert torch.allclose(found.values, 0.75 * cubic.weight.detach()[targets] * images**3, rtol=1e-10)


def test_its_limits_are_ig_and_nothing(cnn: nn.Module, images: Tensor, targets: Tensor) -> None:
    line = attribute(cnn, images, targets, "ig").values
    assert torch.allclose(attribute(cnn, images, targets, "pwig", p=1e-9).values, line, rtol=1e-6, atol=1e-12)
    assert torch.allclose(attribute(cnn, images, targets, "pwig", q=1e7).values, line, rtol=1e-9, atol=1e-12)
    assert attribute(cnn, images, targets, "pwig", q=1e-9).values.abs().max() < 1e-6 * line.abs().max()


def test_it_is_the_mean_of_ig_over_baselines_on_the_path(cnn: nn.Module, images: Tensor, targets: Tensor) -> None:
    nodes, weights = np.polynomial.legendre.leggauss(12)
    expected = torch.zeros_like(images)
    for node, weight in zip((nodes + 1) / 2, weights / 2, strict=True):
        # The law Beta(2, 1) has the density 2 s.
        between = 0.5 + node * (images - 0.5)
        expected += 2 * node * weight * attribute(cnn, images, targets, "ig", baseline=between).values
    found = attribute(cnn, images, targets, "pwig", p=2.0, q=1.0, baseline=torch.full_like(images, 0.5)).values
    assert torch.allclose(found, expected, rtol=1e-6, atol=1e-10)


def test_it_takes_the_points_of_ig(cnn: nn.Module, images: Tensor, targets: Tensor) -> None:
    def path(method: str, rule: str) -> object:
        spec = METHODS[method]
        return spec.path(spec.parse({"rule": rule}))

    assert path("pwig", "left") == path("ig", "left") != path("pwig", "midpoint")
    with pytest.raises(UsageError, match="rule"):
        attribute(cnn, images, targets, "pwig", rule="trapezoid", steps=1)
