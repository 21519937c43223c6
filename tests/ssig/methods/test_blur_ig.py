"""Blur IG: parity with PAIR's implementation and with SciPy's filter, closed forms, completeness."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor, nn

from ssig import attribute
from ssig.engine.micro_batches import Job, run
from ssig.engine.replica import Replica
from ssig.methods.blur_ig import BlurOptions, blur_ig, blur_path, blurred
from ssig.types import Group

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "support"))
import pair


def filtered(images: Tensor, sigma: float) -> Tensor:
    """SciPy's blur of (B, C, H, W)."""
    return torch.from_numpy(gaussian_filter(images.numpy(), sigma=(0, 0, sigma, sigma), mode="constant"))


def reference(network: nn.Module, images: Tensor, targets: Tensor, score: str = "logit", **settings: float) -> Tensor:
    """PAIR's attribution of each image."""
    masks = [
        pair.blur_ig(pair.call_model_function(network, int(target), score), image, **settings)
        for image, target in zip(images, targets, strict=True)
    ]
    return torch.stack(masks)


@pytest.mark.parametrize("sigma", [0.0, 0.01, 0.124, 0.126, 0.7, 3.2, 50.0])
def test_the_blur_is_scipys(images: Tensor, sigma: float) -> None:
    assert (blurred(images, sigma) - filtered(images, sigma)).abs().max() < 1e-15
    assert (blurred(images.float(), sigma) - filtered(images, sigma)).abs().max() < 1e-6


@pytest.mark.parametrize("spacing", ["linear", "sqrt"])
@pytest.mark.parametrize("max_sigma", [4.0, 50.0])
def test_the_left_rule_agrees_with_pair(
    cnn: nn.Module, images: Tensor, targets: Tensor, spacing: str, max_sigma: float
) -> None:
    found = attribute(
        cnn, images, targets, "blur-ig", baseline="black", rule="left", spacing=spacing, max_sigma=max_sigma, steps=12
    ).values
    expected = reference(cnn, images, targets, max_sigma=max_sigma, steps=12, sqrt=spacing == "sqrt")
    assert (found - expected).abs().max() < 1e-12 * expected.abs().max()


def test_the_mean_baseline_blurs_the_normalised_image(cnn: nn.Module, images: Tensor, targets: Tensor) -> None:
    mean, std = (torch.tensor(values).view(3, 1, 1).double() for values in ([0.4, 0.5, 0.6], [0.2, 0.25, 0.3]))

    class Normalised(nn.Module):
        def forward(self, points: Tensor) -> Tensor:
            return cnn((points - mean) / std)

    network = Normalised().eval()
    network.mean = mean.flatten()
    found = attribute(network, images, targets, "blur-ig", rule="left", spacing="linear", steps=12).values
    expected = reference(cnn, (images - mean) / std, targets, max_sigma=50, steps=12)
    assert (found - expected).abs().max() < 1e-11 * expected.abs().max()


def test_the_paper_preset_is_pairs_default(cnn: nn.Module, images: Tensor, targets: Tensor) -> None:
    found = attribute(cnn, images[:2], targets[:2], "blur-ig", preset="paper", baseline="black").values
    expected = reference(cnn, images[:2], targets[:2], score="probability")
    assert (found - expected).abs().max() < 1e-12 * expected.abs().max()


def test_each_step_has_its_own_interval_where_pair_takes_the_batchs_last(
    cnn: nn.Module, images: Tensor, targets: Tensor
) -> None:
    steps, budget = 12, 4
    options = BlurOptions(rule="left", spacing="sqrt", steps=steps)
    group = Group(images, torch.zeros_like(images), streams=(), budget=budget)
    replica = Replica(cnn)
    ((_, found),) = run(replica, [Job(0, blur_ig(group, options), targets)])

    widths = [math.sqrt(50 * k / steps) for k in range(steps + 1)]
    by_formula, as_in_pair = torch.zeros_like(images), torch.zeros_like(images)
    for k in range(steps):
        point = filtered(images, widths[k])
        derivative = (filtered(images, widths[k] + 0.01) - point) / 0.01
        gradient = replica.evaluate(point, targets, "logit", frozenset({"gradient"})).gradients
        assert gradient is not None
        by_formula -= (widths[k + 1] - widths[k]) * derivative * gradient
        last = budget * (k // budget) + budget - 1
        as_in_pair -= (widths[last + 1] - widths[last]) * derivative * gradient

    scale = by_formula.abs().max()
    pair_alone = reference(cnn, images, targets, steps=steps, sqrt=True, batch_size=1)
    pair_batched = reference(cnn, images, targets, steps=steps, sqrt=True, batch_size=budget)
    for one, other in ((found.values, by_formula), (pair_alone, by_formula), (pair_batched, as_in_pair)):
        assert (one - other).abs().max() < 1e-11 * scale
    assert (pair_batched - pair_alone).abs().max() > 0.1 * scale


@pytest.mark.parametrize("spacing", ["square", "linear", "sqrt"])
def test_a_linear_network_is_attributed_exactly(
    linear: nn.Module, images: Tensor, targets: Tensor, spacing: str
) -> None:
    targets = targets % 3
    result = attribute(linear, images, targets, "blur-ig", baseline="black", spacing=spacing, max_sigma=9.0, steps=5)
    softest = filtered(images, 3.0 if spacing == "sqrt" else 9.0)
    weight = linear.weight.detach()[targets]
    assert torch.allclose(result.values, weight * (images - softest), rtol=1e-9, atol=1e-12)
    assert torch.allclose(result.baseline_score, linear(softest).gather(1, targets[:, None])[:, 0])
    assert result.completeness_residual is not None
    assert result.completeness_residual.abs().max() < 1e-9
    assert torch.equal(result.map, result.values.sum(dim=1))
    assert result.standard_error is None
    assert result.gradient_evaluations.tolist() == [5] * 5


@pytest.mark.parametrize("spacing", ["square", "linear"])
def test_completeness_falls_at_second_order(cnn: nn.Module, images: Tensor, targets: Tensor, spacing: str) -> None:
    def residual(steps: int) -> float:
        result = attribute(cnn, images, targets, "blur-ig", steps=steps, spacing=spacing, max_sigma=4.0)
        assert result.completeness_residual is not None
        return float(result.completeness_residual.abs().mean())

    assert residual(64) < residual(8) / 16


def test_the_left_rule_comes_to_the_same_limit(cnn: nn.Module, images: Tensor, targets: Tensor) -> None:
    def distance(steps: int) -> float:
        rules = ("left", "midpoint")
        left, middle = (
            attribute(cnn, images, targets, "blur-ig", steps=steps, spacing="linear", max_sigma=4.0, rule=rule).values
            for rule in rules
        )
        return float((left - middle).norm() / middle.norm())

    assert distance(256) < distance(16) / 4


def test_batch_equals_loop(cnn: nn.Module, images: Tensor, targets: Tensor) -> None:
    whole = attribute(cnn, images, targets, "blur-ig", micro_batch=5)
    for index in range(5):
        span = slice(index, index + 1)
        alone = attribute(cnn, images[span], targets[span], "blur-ig")
        assert torch.allclose(alone.values[0], whole.values[index], rtol=1e-9, atol=1e-15)


def test_borders_fade_to_the_baselines_colour(images: Tensor) -> None:
    colour = torch.tensor([0.1, 0.5, 0.9]).double().view(1, 3, 1, 1).expand_as(images)
    softest = colour + blurred(images - colour, 500.0)
    assert (softest - colour).abs().max() < 0.01
    assert torch.equal(colour + blurred(colour - colour, 3.0), colour)


def test_an_image_equal_to_its_baseline_gets_zeros(cnn: nn.Module, images: Tensor, targets: Tensor) -> None:
    for rule in ("midpoint", "left"):
        result = attribute(cnn, images, targets, "blur-ig", baseline=images, rule=rule)
        assert (result.values == 0).all()
        assert result.completeness_residual is not None
        assert (result.completeness_residual == 0).all()


def test_gradients_that_are_no_numbers_show(linear: nn.Module, images: Tensor, targets: Tensor) -> None:
    def poisoned(points: Tensor) -> Tensor:
        return linear(points) * torch.where(points[:, 0, 0, :1] > 0.5, math.nan, 1.0)

    whole = attribute(poisoned, images, targets % 3, "blur-ig", baseline="black").values
    spoilt = images[:, 0, 0, 0] > 0.5
    assert 0 < spoilt.sum() < 5
    assert torch.equal(torch.isfinite(whole).all(dim=(1, 2, 3)), ~spoilt)


@pytest.mark.parametrize("rule", ["midpoint", "left"])
def test_changes_keep_their_digits_in_float32(images: Tensor, rule: str) -> None:
    # Their difference quotient in float32 would be off by parts in a thousand.
    large = torch.nn.functional.interpolate(images, size=(60, 70), mode="bilinear")
    options = BlurOptions(rule=rule, spacing="linear")
    exact, single = blur_path(large.float().double(), options), blur_path(large.float(), options)
    for (_, change), (_, found) in zip(exact, single, strict=True):
        assert found.dtype == torch.float32
        assert (found - change).abs().max() <= 1e-4 * change.abs().max()


def test_points_run_from_sharp_to_blurred(images: Tensor) -> None:
    for spacing, last in (("square", 50 * (31.5 / 32) ** 2), ("linear", 50 * 31.5 / 32), ("sqrt", 7.0156076)):
        points = [point for point, _ in blur_path(images, BlurOptions(spacing=spacing))]
        assert len(points) == 32
        assert torch.allclose(points[-1], filtered(images, last), rtol=1e-6, atol=1e-9)
        energy = np.array([float(point.square().sum()) for point in points])
        assert (np.diff(energy) <= 0).all()
