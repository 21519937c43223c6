"""Closed forms, axioms and limits of integrated gradients and the suppression family, in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from captum.attr import IntegratedGradients as CaptumIntegratedGradients
from captum.attr import Saliency
from torch import Tensor, nn

from ssig import attribute
from ssig.estimators.quadrature import RULES

CAPTUM = {
    "gauss-legendre": "gausslegendre",
    "left": "riemann_left",
    "right": "riemann_right",
    "midpoint": "riemann_middle",
}


@pytest.mark.parametrize("rule", sorted(CAPTUM))
@pytest.mark.parametrize("steps", [2, 7, 32])
def test_ig_agrees_with_captum(cnn: nn.Module, images: Tensor, targets: Tensor, rule: str, steps: int) -> None:
    baseline = torch.rand(1, 3, 10, 12, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    found = attribute(cnn, images, targets, "ig", steps=steps, rule=rule, baseline=baseline).values
    expected = CaptumIntegratedGradients(cnn).attribute(
        images, baselines=baseline.expand_as(images), target=targets, n_steps=steps, method=CAPTUM[rule]
    )
    assert relative(found, expected) < 1e-6


def test_our_trapezoid_differs_from_captums_by_its_missing_weight(
    cnn: nn.Module, images: Tensor, targets: Tensor
) -> None:
    # Captum's weights sum to (n - 1) / n, so it misses completeness by that factor; ours does not.
    found = attribute(cnn, images, targets, "ig", steps=10, rule="trapezoid", baseline="black")
    captum = CaptumIntegratedGradients(cnn).attribute(images, target=targets, n_steps=10, method="riemann_trapezoid")
    assert relative(found.values * 9 / 10, captum) < 1e-6


@pytest.mark.parametrize("rule", ["midpoint", "trapezoid"])
def test_ig_completeness_falls_at_second_order(cnn: nn.Module, images: Tensor, targets: Tensor, rule: str) -> None:
    few, many = (attribute(cnn, images, targets, "ig", steps=steps, rule=rule) for steps in (4, 64))
    assert few.completeness_residual is not None
    assert many.completeness_residual is not None
    assert (many.completeness_residual.abs() < few.completeness_residual.abs() / 100).all()


@pytest.mark.parametrize("rule", RULES)
def test_ig_completeness_falls_with_steps(cnn: nn.Module, images: Tensor, targets: Tensor, rule: str) -> None:
    def residual(steps: int) -> float:
        result = attribute(cnn, images, targets, "ig", steps=steps, rule=rule)
        assert result.completeness_residual is not None
        return float(result.completeness_residual.abs().max())

    assert residual(64) < residual(4) / 8
    assert residual(64) < 2e-2


def test_gauss_legendre_is_exact_for_a_cubic(cubic: nn.Module, images: Tensor, targets: Tensor) -> None:
    targets = targets % 3
    result = attribute(cubic, images, targets, "ig", steps=2, baseline="black")
    assert torch.allclose(result.values, cubic.weight.detach()[targets] * images**3, rtol=1e-10)


def test_gradient_agrees_with_captum(cnn: nn.Module, images: Tensor, targets: Tensor) -> None:
    found = attribute(cnn, images, targets, "gradient").values
    assert torch.allclose(found, Saliency(cnn).attribute(images.clone(), targets, abs=False))


def test_signed_suppression_on_a_line_is_midpoint_ig(cnn: nn.Module, images: Tensor, targets: Tensor) -> None:
    line = attribute(cnn, images, targets, "ssig-signed", sampler="line", samples=9)
    midpoint = attribute(cnn, images, targets, "ig", rule="midpoint", steps=9)
    assert torch.allclose(line.values, midpoint.values, rtol=1e-12, atol=1e-15)
    assert line.standard_error is None


@pytest.mark.parametrize("method", ["ssig", "ssig-signed", "smoothgrad"])
def test_expectations_on_a_cubic_have_their_closed_form(cubic: nn.Module, targets: Tensor, method: str) -> None:
    # grad = 3 w (m x)^2 with E[m^2] = 1/3 under U(0, 1); under noise E[(x + s e)^2] = x^2 + s^2.
    images = torch.rand(5, 3, 10, 12, generator=torch.Generator().manual_seed(4), dtype=torch.float64) + 0.5
    targets = targets % 3
    weight = cubic.weight.detach()[targets]
    result = attribute(cubic, images, targets, method, samples=4000, baseline="black")
    spread = 0.15 * (images.amax((1, 2, 3), True) - images.amin((1, 2, 3), True))
    expected = {
        "ssig": weight.abs() * images**2,
        "ssig-signed": weight * images**3,
        "smoothgrad": 3 * weight * (images**2 + spread**2),
    }[method]
    assert relative(result.values, expected) < 0.03


def test_standard_errors_cover_the_truth(cubic: nn.Module, targets: Tensor) -> None:
    images = torch.rand(5, 3, 10, 12, generator=torch.Generator().manual_seed(4), dtype=torch.float64) + 0.5
    targets = targets % 3
    truth = (cubic.weight.detach()[targets].abs() * images**2).sum(dim=1)
    result = attribute(cubic, images, targets, "ssig", samples=256, baseline="black")
    assert result.standard_error is not None
    within = ((result.map - truth).abs() < 1.96 * result.standard_error).double().mean()
    assert 0.92 < within.item() < 0.98


def test_shapley_values_of_a_multilinear_game() -> None:
    # f = x0 x1 + x0 x1 x2 over three pixels: the Shapley values from x = 1 are 1/2 + 1/3, 1/2 + 1/3, 1/3.
    def game(points: Tensor) -> Tensor:
        flat = points.flatten(1)
        return (flat[:, 0] * flat[:, 1] + flat[:, 0] * flat[:, 1] * flat[:, 2]).unsqueeze(1)

    ones = torch.ones(1, 1, 1, 3, dtype=torch.float64)
    result = attribute(game, ones, [0], "ssig-shapley", samples=20_000, baseline="black", micro_batch=1)
    expected = torch.tensor([5 / 6, 5 / 6, 1 / 3], dtype=torch.float64)
    assert torch.allclose(result.values.flatten(), expected, atol=0.02)
    assert result.completeness_residual is not None
    assert abs(result.completeness_residual.item()) < 0.03


def test_path_completeness_falls_at_second_order(cnn: nn.Module, images: Tensor, targets: Tensor) -> None:
    def residual(segments: int) -> float:
        result = attribute(cnn, images, targets, "ssig-path", samples=2 * segments, paths=2)
        assert result.completeness_residual is not None
        return float(result.completeness_residual.abs().mean())

    residuals = [residual(segments) for segments in (4, 16, 64)]
    assert residuals[1] < residuals[0] / 8
    assert residuals[2] < residuals[1] / 8


def test_a_wide_ramp_is_ig(cnn: nn.Module, images: Tensor, targets: Tensor) -> None:
    path = attribute(cnn, images, targets, "ssig-path", samples=16, paths=1, width=1e7)
    line = attribute(cnn, images, targets, "ig", rule="midpoint", steps=16)
    assert relative(path.values, line.values) < 1e-5
    assert path.standard_error is None


@pytest.mark.parametrize("method", ["ssig", "ssig-signed", "smoothgrad"])
def test_more_samples_extend_fewer(cnn: nn.Module, images: Tensor, targets: Tensor, method: str) -> None:
    few = attribute(cnn, images, targets, method, samples=4).values
    ones = [attribute(cnn, images, targets, method, samples=8, seed=0).values]
    other = attribute(cnn, images, targets, method, samples=8, seed=1).values
    assert not torch.allclose(ones[0], other)
    # The second half follows from both, and must itself be an average of gradients: of the size of the first.
    second = 2 * ones[0] - few
    assert second.norm() < 3 * few.norm()


@pytest.mark.parametrize("score", ["logit", "log-probability", "probability"])
def test_scores(cnn: nn.Module, images: Tensor, targets: Tensor, score: str) -> None:
    result = attribute(cnn, images, targets, "ig", score=score, steps=64)
    logits = cnn(images)
    rows = {"logit": logits, "log-probability": logits.log_softmax(1), "probability": logits.softmax(1)}[score]
    assert torch.allclose(result.score, rows.gather(1, targets[:, None])[:, 0])
    assert result.completeness_residual is not None
    assert result.completeness_residual.abs().max() < 1e-6


def test_the_paper_preset_is_the_reference_rule(cnn: nn.Module, images: Tensor, targets: Tensor) -> None:
    found = attribute(cnn, images, targets, "ig", preset="paper").values
    total = torch.zeros_like(images)
    for alpha in np.linspace(0, 1, 25):
        point = (alpha * images).requires_grad_()
        score = cnn(point).softmax(1).gather(1, targets[:, None]).sum()
        total += torch.autograd.grad(score, point)[0] / 25
    assert torch.allclose(found, total * images, rtol=1e-9, atol=1e-14)


def relative(found: Tensor, expected: Tensor) -> float:
    """Largest relative L2 difference over the images."""
    return float(((found - expected).flatten(1).norm(dim=1) / expected.flatten(1).norm(dim=1)).max())
