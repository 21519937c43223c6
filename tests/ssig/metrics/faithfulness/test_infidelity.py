"""Infidelity: captum's with the same perturbations, and linear networks."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from captum.metrics import infidelity as captum_infidelity
from captum.metrics import infidelity_perturb_func_decorator
from torch import Tensor, nn

from ssig.metrics.faithfulness.infidelity import perturbation
from ssig.registry import METRICS
from ssig.types import Evaluation, MetricResult

SAMPLES = 12


def measure(evaluation: Evaluation, **given: object) -> MetricResult:
    return METRICS["infidelity"].compute(evaluation, METRICS["infidelity"].parse({"samples": SAMPLES, **given}))


def perturbations(evaluation: Evaluation, **given: object) -> Tensor:
    """(B * samples, C, H, W), the perturbations of each image in turn."""
    options = METRICS["infidelity"].parse({"samples": SAMPLES, **given})
    away = evaluation.images - evaluation.mean.view(-1, 1, 1)
    streams = evaluation.streams("infidelity")
    return torch.stack(
        [
            perturbation(stream.generator(sample), one, options)
            for stream, one in zip(streams, away, strict=True)
            for sample in range(SAMPLES)
        ]
    )


@pytest.mark.parametrize("law", ["gaussian", "square"])
@pytest.mark.parametrize("reading", ["gradient", "attribution"])
def test_is_captums_for_the_map_spread_over_the_channels(
    law: str, reading: str, batch: Callable[..., Evaluation]
) -> None:
    evaluation = batch()
    change = perturbations(evaluation, perturbation=law)
    perturbed = evaluation.images.repeat_interleave(SAMPLES, dim=0) - change

    @infidelity_perturb_func_decorator(multiply_by_inputs=reading == "attribution")
    def perturb(inputs: Tensor, baselines: Tensor) -> Tensor:
        return perturbed

    result = measure(evaluation, perturbation=law, reading=reading)
    for column, normalize in (("infidelity", False), ("infidelity_normalised", True)):
        expected = captum_infidelity(
            evaluation.forward,
            perturb,
            evaluation.images,
            (evaluation.maps.double()[:, None] / 3).expand_as(evaluation.images),
            baselines=evaluation.mean.view(1, -1, 1, 1).expand_as(evaluation.images),
            target=evaluation.targets,
            n_perturb_samples=SAMPLES,
            normalize=normalize,
        )
        np.testing.assert_allclose(result.columns[column], expected, rtol=1e-5)


@pytest.mark.parametrize("law", ["gaussian", "square"])
def test_a_gradient_that_is_equal_in_all_channels_is_faithful(law: str, batch: Callable[..., Evaluation]) -> None:
    weight = torch.randn(10, 12, generator=torch.Generator().manual_seed(8)).double()

    def forward(points: Tensor) -> Tensor:
        return (points * weight).sum(dim=(1, 2, 3))[:, None]

    changes = {"forward": forward, "targets": torch.zeros(5).long()}
    result = measure(batch(**changes, maps=(3 * weight).expand(5, -1, -1)), perturbation=law)
    np.testing.assert_allclose(result.columns["infidelity"], 0.0, rtol=0, atol=1e-20)
    # A multiple of it is wrong, but not once the best multiple is taken.
    result = measure(batch(**changes, maps=weight.expand(5, -1, -1)), perturbation=law)
    assert (result.columns["infidelity"] > 1e-4).all()
    np.testing.assert_allclose(result.columns["infidelity_normalised"], 0.0, rtol=0, atol=1e-20)


def test_exact_attributions_predict_the_loss_of_any_square(
    batch: Callable[..., Evaluation], linear: nn.Module, images: Tensor
) -> None:
    targets = torch.tensor([0, 1, 2, 0, 1])
    weight = linear.requires_grad_(False).weight
    maps = (weight[targets] * (images - batch().mean.view(-1, 1, 1))).sum(dim=1)
    result = measure(
        batch(forward=linear, targets=targets, maps=maps), perturbation="square", reading="attribution", side=0.4
    )
    np.testing.assert_allclose(result.columns["infidelity"], 0.0, rtol=0, atol=1e-20)


def test_a_map_of_zeros_predicts_no_change(batch: Callable[..., Evaluation]) -> None:
    result = measure(batch(maps=torch.zeros(5, 10, 12)))
    assert np.array_equal(result.columns["infidelity"], result.columns["infidelity_normalised"])
    assert (result.columns["infidelity"] > 0).all()


def test_the_headline_does_not_reward_a_small_scale(batch: Callable[..., Evaluation]) -> None:
    metric, whole = METRICS["infidelity"], measure(batch())
    small = measure(batch(maps=batch().maps * 1e-6))
    headline = next(iter(metric.columns))
    np.testing.assert_allclose(small.columns[headline], whole.columns[headline], rtol=1e-5)
    # The plain number does, so methods are not ranked by it.
    assert small.columns["infidelity"].mean() < 0.7 * whole.columns["infidelity"].mean()
    assert set(metric.incomparable) == {"infidelity"}


@pytest.mark.parametrize(("share", "side"), [(0.25, 2), (0.5, 5), (1.0, 10), (0.01, 1)])
def test_squares_lie_within_the_image(share: float, side: int) -> None:
    options = METRICS["infidelity"].parse({"perturbation": "square", "side": share})
    away = torch.rand(3, 10, 12) + 0.5
    shown = torch.stack([perturbation(np.random.default_rng(seed), away, options) for seed in range(300)])
    assert torch.equal(shown, torch.where(shown != 0, away, 0.0))
    assert ((shown != 0).flatten(1).sum(dim=1) == 3 * side * side).all()
    covered = (shown != 0).any(dim=0)[0]
    assert covered[0].any()
    assert covered[-1].any()
    assert covered[:, 0].any()
    assert covered[:, -1].any()


def test_gaussian_perturbations_have_their_width() -> None:
    options = METRICS["infidelity"].parse({"sigma": 0.3})
    drawn = torch.stack(
        [perturbation(np.random.default_rng(seed), torch.zeros(3, 10, 12), options) for seed in range(50)]
    )
    assert float(drawn.std()) == pytest.approx(0.3, rel=0.03)
    assert float(drawn.mean()) == pytest.approx(0.0, abs=0.01)
