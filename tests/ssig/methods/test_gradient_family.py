"""Gradient x input, SmoothGrad-Squared, VarGrad and expected gradients: closed forms, limits, and Captum's numbers."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from captum.attr import GradientShap, InputXGradient, NoiseTunnel, Saliency
from torch import Tensor, nn

from ssig import Attribution, UsageError, attribute
from ssig.randomness import stream
from ssig.registry import METHODS

FAMILY = ["gradient-x-input", "smoothgrad-squared", "vargrad", "expected-gradients"]
SAMPLED = FAMILY[1:]
KEYS = list("abcde")

SCORES = ["logit", "log-probability", "probability"]

Network = Callable[[Tensor], Tensor]


@pytest.fixture
def pool() -> Tensor:
    """(7, 3, 10, 12), the references."""
    return torch.rand(7, 3, 10, 12, generator=torch.Generator().manual_seed(5), dtype=torch.float64)


def explain(network: Network, images: Tensor, targets: Tensor, method: str, **options: object) -> Attribution:
    return attribute(network, images, targets, method, keys=KEYS, micro_batch=64, **options)  # type: ignore[arg-type]


def relative(found: Tensor, expected: Tensor) -> float:
    """Largest relative L2 difference over the images."""
    return float(((found - expected).flatten(1).norm(dim=1) / expected.flatten(1).norm(dim=1)).max())


def noise(method: str, key: str, samples: int) -> Tensor:
    """(samples, 3, 10, 12), the standard normal draws of an image."""
    source = stream(0, "", key, method)
    draws = [source.generator(k).standard_normal((3, 10, 12), dtype=np.float32) for k in range(samples)]
    return torch.from_numpy(np.stack(draws)).double()


# What all have in common


@pytest.mark.parametrize("method", FAMILY)
@pytest.mark.parametrize("micro_batch", [1, 3, 16])
def test_batch_and_micro_batch_do_not_matter(
    cnn: nn.Module, images: Tensor, targets: Tensor, pool: Tensor, method: str, micro_batch: int
) -> None:
    whole = explain(cnn, images, targets, method, references=pool)
    for index in range(5):
        span = slice(index, index + 1)
        alone = attribute(
            cnn,
            images[span],
            targets[span],
            method,
            keys=KEYS[span],
            references=pool,
            micro_batch=micro_batch,
        )
        assert torch.allclose(alone.values[0], whole.values[index], rtol=1e-9, atol=1e-14)
        assert torch.allclose(alone.baseline_score[0], whole.baseline_score[index])
        if method in SAMPLED:
            assert alone.standard_error is not None
            assert whole.standard_error is not None
            assert torch.allclose(alone.standard_error[0], whole.standard_error[index], rtol=1e-7, atol=1e-13)
        else:
            assert whole.standard_error is None


@pytest.mark.parametrize("method", FAMILY)
def test_evaluations_are_counted_and_at_most_32(
    cnn: nn.Module, images: Tensor, targets: Tensor, pool: Tensor, method: str
) -> None:
    spec = METHODS[method]
    result = explain(cnn, images, targets, method, references=pool)
    assert result.gradient_evaluations.tolist() == [spec.evaluations(spec.parse({}))] * 5
    assert (result.gradient_evaluations <= 32).all()
    presets = {name: spec.evaluations(spec.parse({"preset": name})) for name in spec.presets}
    expected = {"smoothgrad-squared": 25, "vargrad": 50, "expected-gradients": 200}
    assert presets == ({"paper": expected[method]} if method in expected else {})


@pytest.mark.parametrize("method", FAMILY)
@pytest.mark.parametrize("value", [0.0, 0.5])
def test_a_constant_image_that_is_its_baseline_is_finite(
    cnn: nn.Module, targets: Tensor, method: str, value: float
) -> None:
    constant = torch.full((5, 3, 10, 12), value, dtype=torch.float64)
    result = explain(cnn, constant, targets, method, baseline=constant, references=constant[:2])
    assert torch.isfinite(result.values).all()
    if method != "smoothgrad-squared":  # without noise every gradient is the same, but not 0
        assert (result.values == 0).all()
    if result.completeness_residual is not None:
        assert result.completeness_residual.abs().max() < 1e-12


@pytest.mark.parametrize("method", FAMILY)
def test_no_gradient_is_no_attribution(images: Tensor, targets: Tensor, pool: Tensor, method: str) -> None:
    def flat(points: Tensor) -> Tensor:
        return 0 * points.flatten(1)[:, :5] + 1

    result = explain(flat, images, targets, method, references=pool)
    assert (result.values == 0).all()
    assert result.standard_error_mean is None or (result.standard_error_mean == 0).all()


@pytest.mark.parametrize("method", FAMILY)
def test_what_is_not_a_number_reaches_the_map(images: Tensor, targets: Tensor, pool: Tensor, method: str) -> None:
    def poisoned(points: Tensor) -> Tensor:
        return points.flatten(1)[:, :5] * torch.nan

    assert torch.isnan(explain(poisoned, images, targets, method, references=pool).map).any()


# Gradient x input


@pytest.mark.parametrize("score", ["logit", "probability"])
def test_gradient_x_input_agrees_with_captum(cnn: nn.Module, images: Tensor, targets: Tensor, score: str) -> None:
    network = cnn if score == "logit" else nn.Sequential(cnn, nn.Softmax(dim=1))
    found = explain(cnn, images, targets, "gradient-x-input", baseline="black", score=score).values
    expected = InputXGradient(network).attribute(images.requires_grad_(), targets)
    assert torch.allclose(found, expected, rtol=1e-12, atol=1e-16)


def test_gradient_x_input_from_the_mean_is_that_of_normalised_inputs(
    cnn: nn.Module, images: Tensor, targets: Tensor
) -> None:
    mean, std = torch.tensor([[0.4, 0.5, 0.6], [0.2, 0.3, 0.4]], dtype=torch.float64).view(2, 3, 1, 1)
    normalised = (images - mean) / std

    def whole(points: Tensor) -> Tensor:
        return cnn((points - mean) / std)

    found = explain(whole, images, targets, "gradient-x-input", baseline=mean.flatten().tolist())
    assert relative(found.values, InputXGradient(cnn).attribute(normalised.requires_grad_(), targets).detach()) < 1e-12


def test_gradient_x_input_is_complete_for_a_linear_network_only(
    linear: nn.Module, cnn: nn.Module, images: Tensor, targets: Tensor
) -> None:
    exact = explain(linear, images, targets % 3, "gradient-x-input", baseline="black")
    assert torch.allclose(exact.values, linear.weight.detach()[targets % 3] * images)
    assert exact.completeness_residual is not None
    assert exact.completeness_residual.abs().max() < 1e-10
    bent = explain(cnn, images, targets, "gradient-x-input").completeness_residual
    assert bent is not None
    assert bent.abs().min() > 1e-6


# SmoothGrad-Squared and VarGrad


@pytest.mark.parametrize(
    ("method", "kind", "options"),
    [("smoothgrad-squared", "smoothgrad_sq", {}), ("vargrad", "vargrad", {"ddof": 0})],
)
@pytest.mark.parametrize("samples", [1, 2, 5, 9])
def test_noise_methods_agree_with_captum(
    cnn: nn.Module,
    images: Tensor,
    targets: Tensor,
    method: str,
    kind: str,
    options: dict[str, int],
    samples: int,
) -> None:
    found = explain(cnn, images, targets, method, samples=samples, **options).values
    tunnel = NoiseTunnel(Saliency(cnn))
    for index, key in enumerate(KEYS):
        draws = noise(method, key, samples)
        tunnel._add_noise_to_input = lambda image, stdev, count, draws=draws: image + stdev * draws
        image = images[index : index + 1]
        spread = 0.15 * float(image.max() - image.min())
        expected = tunnel.attribute(
            image, nt_type=kind, nt_samples=samples, stdevs=spread, target=targets[index : index + 1], abs=False
        )
        assert torch.allclose(found[index], expected[0], rtol=1e-7, atol=1e-14)


def test_squares_are_those_of_smoothgrad(cnn: nn.Module, images: Tensor, targets: Tensor) -> None:
    # Same law, other draws.
    found = explain(cnn, images, targets, "smoothgrad-squared", samples=200)
    other = explain(cnn, images, targets, "smoothgrad", integrand="squared", samples=200)
    assert relative(found.map, other.map) < 0.1
    assert (found.values >= 0).all()
    assert torch.allclose(found.map, found.values.sum(dim=1))


def test_variance_has_its_closed_form_on_a_cubic(cubic: nn.Module, targets: Tensor) -> None:
    # g = 3 w (x + s e)^2, so Var g = 9 w^2 (4 x^2 s^2 + 2 s^4), and E[g^2] = 9 w^2 (x^4 + 6 x^2 s^2 + 3 s^4).
    images = torch.rand(5, 3, 10, 12, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    weight = cubic.weight.detach()[targets % 3]
    spread = 0.15 * (images.amax((1, 2, 3), True) - images.amin((1, 2, 3), True))
    variance = 9 * weight**2 * (4 * images**2 * spread**2 + 2 * spread**4)
    square = 9 * weight**2 * (images**4 + 6 * images**2 * spread**2 + 3 * spread**4)
    assert relative(explain(cubic, images, targets % 3, "vargrad", samples=1000).values, variance) < 0.08
    assert relative(explain(cubic, images, targets % 3, "smoothgrad-squared", samples=1000).values, square) < 0.04


@pytest.mark.parametrize("samples", [5, 6])
def test_variance_is_that_of_torch(cnn: nn.Module, images: Tensor, targets: Tensor, samples: int) -> None:
    spread = 0.15 * (images.amax((1, 2, 3)) - images.amin((1, 2, 3)))
    for ddof in (0, 1):
        found = explain(cnn, images, targets, "vargrad", samples=samples, ddof=ddof)
        for index, key in enumerate(KEYS):
            points = (images[index] + spread[index] * noise("vargrad", key, samples)).requires_grad_()
            (gradients,) = torch.autograd.grad(cnn(points)[:, targets[index]].sum(), points)
            assert torch.allclose(found.values[index], gradients.var(dim=0, correction=ddof), rtol=1e-8, atol=1e-15)


def test_variance_does_not_cancel() -> None:
    # Gradients 1e6 + noise: in float32, E[g^2] - E[g]^2 has lost all digits, and sums of deviations have not.
    def steep(points: Tensor) -> Tensor:
        return (1e6 * points + points.square() / 2).flatten(1).sum(dim=1, keepdim=True)

    image = torch.rand(1, 3, 10, 12, generator=torch.Generator().manual_seed(6))
    spread = 0.15 * float(image.max() - image.min())
    found = attribute(steep, 100 * image, [0], "vargrad", samples=400).values
    assert found.dtype == torch.float32
    assert float(found.mean()) == pytest.approx((100 * spread) ** 2, rel=0.02)


def test_a_linear_network_has_no_variance(linear: nn.Module, images: Tensor, targets: Tensor) -> None:
    found = explain(linear, images, targets % 3, "vargrad")
    assert (found.values == 0).all()
    assert found.standard_error_mean is not None
    assert (found.standard_error_mean == 0).all()
    squared = explain(linear, images, targets % 3, "smoothgrad-squared").values
    assert torch.allclose(squared, linear.weight.detach()[targets % 3].square())


@pytest.mark.parametrize("ddof", [0, 1])
def test_the_error_of_the_variance_is_its_spread(cubic: nn.Module, ddof: int) -> None:
    # 200 images alike, with draws of their own: the spread of their maps is the error of each.
    image = torch.rand(1, 3, 10, 12, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    keys = [str(index) for index in range(200)]
    result = attribute(cubic, image.expand(200, -1, -1, -1), [0], "vargrad", samples=16, ddof=ddof, keys=keys)
    assert result.standard_error is not None
    squares = result.standard_error.square().mean()
    assert float((squares / result.map.var(dim=0).mean()).sqrt()) == pytest.approx(1, abs=0.08)


def test_few_samples_have_no_error_and_one_has_no_variance(cnn: nn.Module, images: Tensor, targets: Tensor) -> None:
    assert explain(cnn, images, targets, "vargrad", samples=3).standard_error is None
    assert explain(cnn, images, targets, "vargrad", samples=4).standard_error is not None
    assert (explain(cnn, images, targets, "vargrad", samples=1, ddof=0).values == 0).all()
    with pytest.raises(UsageError, match="samples"):
        explain(cnn, images, targets, "vargrad", samples=1)


# Expected gradients


def draws_of(key: str, samples: int, references: int) -> tuple[list[float], list[int], Tensor]:
    """Times, baselines and noise of an image."""
    source = stream(0, "", key, "expected-gradients")
    times, chosen, noises = [], [], []
    for k in range(samples):
        generator = source.generator(k)
        times.append(float(generator.random()))
        chosen.append(int(generator.integers(references)))
        noises.append(generator.standard_normal((3, 10, 12), dtype=np.float32))
    return times, chosen, torch.from_numpy(np.stack(noises)).double()


@pytest.mark.parametrize("stdev", [0.0, 0.1])
def test_expected_gradients_agree_with_captum(
    cnn: nn.Module, images: Tensor, targets: Tensor, pool: Tensor, stdev: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = explain(cnn, images, targets, "expected-gradients", samples=6, references=pool, stdev=stdev)
    for index, key in enumerate(KEYS):
        times, chosen, noises = draws_of(key, 6, len(pool))
        with monkeypatch.context() as patch:
            patch.setattr(np.random, "choice", lambda count, size, chosen=chosen: np.array(chosen))
            patch.setattr(np.random, "uniform", lambda low, high, size, times=times: np.array(times))
            patch.setattr(torch, "normal", lambda mean, deviation, noises=noises: deviation * noises)
            expected = GradientShap(cnn).attribute(
                images[index : index + 1], pool, n_samples=6, stdevs=stdev, target=targets[index : index + 1]
            )
        assert torch.allclose(found.values[index], expected[0], rtol=1e-6, atol=1e-12)
        drawn = cnn(pool)[chosen, targets[index]].mean()
        assert torch.allclose(found.baseline_score[index], drawn)


@pytest.mark.parametrize("score", SCORES)
def test_the_residual_is_against_the_mean_score_of_the_baselines(
    cnn: nn.Module, images: Tensor, targets: Tensor, pool: Tensor, score: str
) -> None:
    few, many = (
        explain(cnn, images, targets, "expected-gradients", samples=samples, references=pool, score=score)
        for samples in (8, 600)
    )
    network = {
        "logit": cnn,
        "log-probability": nn.Sequential(cnn, nn.LogSoftmax(dim=1)),
        "probability": nn.Sequential(cnn, nn.Softmax(dim=1)),
    }[score]
    assert torch.allclose(many.score, network(images).gather(1, targets[:, None])[:, 0])
    assert torch.allclose(many.baseline_score, network(pool)[:, targets].mean(dim=0), rtol=0.1)
    for result in (few, many):
        gain = result.score - result.baseline_score
        assert result.completeness_residual is not None
        assert torch.allclose(result.completeness_residual, result.values.sum((1, 2, 3)) - gain)
    assert many.completeness_residual.abs().mean() < few.completeness_residual.abs().mean() / 3


def test_a_linear_network_is_complete_at_any_number_of_draws(
    linear: nn.Module, images: Tensor, targets: Tensor, pool: Tensor
) -> None:
    result = explain(linear, images, targets % 3, "expected-gradients", samples=3, references=pool)
    for index, key in enumerate(KEYS):
        _, chosen, _ = draws_of(key, 3, len(pool))
        expected = linear.weight.detach()[targets[index] % 3] * (images[index] - pool[chosen].mean(dim=0))
        assert torch.allclose(result.values[index], expected)
    assert result.completeness_residual is not None
    assert result.completeness_residual.abs().max() < 1e-10


def test_expected_gradients_have_their_closed_form_on_a_cubic(
    cubic: nn.Module, images: Tensor, targets: Tensor, pool: Tensor
) -> None:
    # The integral of 3 w (x' + t (x - x'))^2 (x - x') is w (x^3 - x'^3).
    result = explain(cubic, images, targets % 3, "expected-gradients", samples=1000, references=pool)
    truth = cubic.weight.detach()[targets % 3] * (images**3 - pool.pow(3).mean(dim=0))
    assert relative(result.values, truth) < 0.08
    assert result.standard_error is not None
    within = ((result.map - truth.sum(dim=1)).abs() < 1.96 * result.standard_error).double().mean()
    assert 0.9 < within.item() < 0.99


def test_one_reference_is_integrated_gradients(cnn: nn.Module, images: Tensor, targets: Tensor, pool: Tensor) -> None:
    found = explain(cnn, images, targets, "expected-gradients", samples=500, references=pool[:1])
    line = explain(cnn, images, targets, "ig", baseline=pool[:1])
    assert relative(found.values, line.values) < 0.04
    assert torch.allclose(found.baseline_score, line.baseline_score)


@pytest.mark.parametrize("readout", ["sum", "sum-abs", "max-abs"])
def test_every_readout_has_an_error(
    cnn: nn.Module, images: Tensor, targets: Tensor, pool: Tensor, readout: str
) -> None:
    result = explain(cnn, images, targets, "expected-gradients", references=pool, readout=readout)
    assert result.standard_error_mean is not None
    assert (result.standard_error_mean > 0).all()


def test_references_that_cannot_be_used_are_named(cnn: nn.Module, images: Tensor, targets: Tensor) -> None:
    for pool in (None, torch.rand(4, 3, 8, 8, dtype=torch.float64)):
        with pytest.raises(UsageError, match="references"):
            explain(cnn, images, targets, "expected-gradients", references=pool)
