"""Sensitivity-n, faithfulness correlation and MuFidelity: exact on linear networks, and their plain loops."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import pearsonr, spearmanr
from torch import Tensor, nn

from ssig.metrics.faithfulness.sensitivity_n import subset_sizes
from ssig.metrics.faithfulness.subsets import MAP_CONSTANT, SCORE_CONSTANT, pixel_subset
from ssig.metrics.shared.correlation import pearson, spearman
from ssig.registry import METRICS
from ssig.types import Evaluation, MetricResult

NAMES = ("sensitivity_n", "faithfulness_correlation", "mufidelity")
EVERY = pytest.mark.parametrize("name", NAMES)


def measure(name: str, evaluation: Evaluation, **given: object) -> MetricResult:
    return METRICS[name].compute(evaluation, METRICS[name].parse({"subsets": 20, **given}))


def drop(network: Any, image: Tensor, target: Tensor, hidden: np.ndarray, colour: Tensor) -> float:
    """Logit that the target loses when the hidden pixels take a colour (C,)."""
    changed = image.clone()
    changed[:, torch.from_numpy(hidden)] = colour[:, None]
    return float(network(image[None])[0, target] - network(changed[None])[0, target])


@EVERY
@pytest.mark.parametrize("fill", ["mean", "black", "minimum"])
def test_exact_attributions_of_a_linear_network_score_one(
    name: str, fill: str, batch: Callable[..., Evaluation], linear: nn.Module, images: Tensor
) -> None:
    weight = linear.requires_grad_(False).weight
    evaluation = batch(forward=linear, targets=torch.tensor([0, 1, 2, 0, 1]))
    colours = {
        "mean": evaluation.mean.view(-1, 1, 1),
        "black": torch.zeros(3, 1, 1).double(),
        "minimum": images.amin(dim=(1, 2, 3), keepdim=True),
    }
    maps = (weight[evaluation.targets] * (images - colours[fill])).sum(dim=1)
    result = measure(name, batch(forward=linear, targets=evaluation.targets, maps=maps), fill=fill)
    np.testing.assert_allclose(result.columns[name], 1.0, rtol=0, atol=1e-10)
    against = measure(name, batch(forward=linear, targets=evaluation.targets, maps=-maps), fill=fill)
    np.testing.assert_allclose(against.columns[name], -1.0, rtol=0, atol=1e-10)


@pytest.mark.parametrize("suffix", ["", "_abs"])
def test_sensitivity_n_is_the_plain_loop(suffix: str, batch: Callable[..., Evaluation], network: Any) -> None:
    evaluation = batch()
    result = measure("sensitivity_n", evaluation, sizes=3)
    for row, image in enumerate(evaluation.images):
        saliency = evaluation.maps[row].double().numpy()
        saliency = np.abs(saliency) if suffix else saliency
        stream, curve = evaluation.streams("sensitivity_n")[row], []
        for position, size in enumerate((1, 10, 96)):
            sets = [pixel_subset(stream.generator(3 * number + position), size, (10, 12)) for number in range(20)]
            drops = [drop(network, image, evaluation.targets[row], pixels, evaluation.mean) for pixels in sets]
            curve.append(pearsonr([saliency[pixels].sum() for pixels in sets], drops).statistic)
        np.testing.assert_allclose(result.curves[f"sensitivity_n{suffix}_curve"][row], curve, rtol=0, atol=1e-9)
        assert result.columns[f"sensitivity_n{suffix}"][row] == pytest.approx(np.mean(curve), abs=1e-9)


def test_faithfulness_correlation_is_the_plain_loop_of_quantus(batch: Callable[..., Evaluation], network: Any) -> None:
    evaluation = batch()
    result = measure("faithfulness_correlation", evaluation, preset="quantus", subset_pixels=30)
    for row, image in enumerate(evaluation.images):
        saliency, stream = evaluation.maps[row].double().numpy(), evaluation.streams("faithfulness_correlation")[row]
        sums, drops = [], []
        for number in range(20):
            indices = stream.generator(number).choice(120, 30, replace=False, shuffle=False)
            hidden = np.isin(np.arange(120), indices).reshape(10, 12)
            sums.append(saliency.flatten()[indices].sum())
            drops.append(drop(network, image, evaluation.targets[row], hidden, image.min().expand(3)))
        expected = np.corrcoef(sums, drops)[0, 1]
        assert result.columns["faithfulness_correlation"][row] == pytest.approx(expected, abs=1e-9)


def test_mufidelity_is_the_plain_loop_of_xplique(batch: Callable[..., Evaluation], network: Any) -> None:
    evaluation = batch()
    result = measure("mufidelity", evaluation)
    for row, image in enumerate(evaluation.images):
        saliency, stream = evaluation.maps[row].double(), evaluation.streams("mufidelity")[row]
        sums, drops = [], []
        for number in range(20):
            kept = torch.from_numpy(stream.generator(number).random((9, 9))) > 0.2
            kept = nn.functional.interpolate(kept[None, None].double(), (10, 12), mode="nearest-exact")[0, 0]
            sums.append(float((saliency * (1 - kept)).sum()))
            drops.append(drop(network, image, evaluation.targets[row], (kept == 0).numpy(), evaluation.mean))
        expected = spearmanr(drops, sums).statistic
        assert result.columns["mufidelity"][row] == pytest.approx(expected, abs=1e-9)


@EVERY
def test_all_maps_meet_the_same_subsets(name: str, batch: Callable[..., Evaluation], network: Any) -> None:
    def points(maps: Tensor) -> Tensor:
        seen: list[Tensor] = []

        def forward(asked: Tensor) -> Tensor:
            seen.append(asked)
            return network(asked)

        measure(name, batch(maps=maps, forward=forward))
        return torch.cat(seen)

    usual = batch().maps
    assert torch.equal(points(usual), points(usual.flip(1)))


@EVERY
def test_no_correlation_is_excluded_with_its_reason(name: str, batch: Callable[..., Evaluation], network: Any) -> None:
    maps = batch().maps.clone()
    maps[0] = 0.0
    result = measure(name, batch(maps=maps))
    assert result.excluded[0] == {name: MAP_CONSTANT, f"{name}_abs": MAP_CONSTANT}
    assert not any(result.excluded[1:])

    def indifferent(points: Tensor) -> Tensor:
        return torch.ones(len(points), 5).double()

    result = measure(name, batch(forward=indifferent))
    assert all(reasons == {name: SCORE_CONSTANT, f"{name}_abs": SCORE_CONSTANT} for reasons in result.excluded)


@EVERY
def test_random_maps_score_about_zero(name: str, batch: Callable[..., Evaluation]) -> None:
    generator, fewer = torch.Generator().manual_seed(6), {"sizes": 3} if name == "sensitivity_n" else {}
    scores = [
        measure(name, batch(maps=torch.randn(5, 10, 12, generator=generator)), **fewer).columns[name].mean()
        for _ in range(12)
    ]
    assert abs(np.mean(scores)) < 3 * np.std(scores) / np.sqrt(len(scores))


def test_sizes_are_spaced_equally_in_their_logarithm() -> None:
    assert subset_sizes(1250, 4) == [1, 10, 100, 1000]
    assert subset_sizes(224 * 224, 10)[-1] == round(0.8 * 224 * 224)
    assert subset_sizes(1, 3) == [1, 1, 1]


def test_pixel_subsets_are_uniform() -> None:
    counts = sum(pixel_subset(np.random.default_rng(seed), 6, (4, 5)).astype(int) for seed in range(2000))
    assert counts.sum() == 6 * 2000
    assert np.abs(counts / 2000 - 0.3).max() < 0.05
    assert pixel_subset(np.random.default_rng(0), 99, (4, 5)).all()


def test_correlations_are_scipys_and_undefined_without_variation() -> None:
    generator = np.random.default_rng(7)
    first, second = generator.integers(0, 5, (2, 6, 30)).astype(float)  # with ties
    expected = [pearsonr(a, b).statistic for a, b in zip(first, second, strict=True)]
    np.testing.assert_allclose(pearson(first, second), expected, rtol=0, atol=1e-12)
    expected = [spearmanr(a, b).statistic for a, b in zip(first, second, strict=True)]
    np.testing.assert_allclose(spearman(first, second), expected, rtol=0, atol=1e-12)
    flat = np.full(30, 0.1) + 1e-17
    for correlation in (pearson, spearman):
        assert np.isnan(correlation(first[0], flat))
        assert np.isnan(correlation(flat, first[0]))
        assert np.isnan(correlation(first[0], np.where(np.arange(30) == 3, np.inf, second[0])))


def test_mufidelity_of_random_maps_depends_on_their_sign_alone(batch: Callable[..., Evaluation]) -> None:
    """Where each hidden cell costs the same, so that no map is right or wrong about any of them."""
    generator = np.random.default_rng(1)
    maps = torch.from_numpy(generator.standard_normal((5, 10, 12))).float()

    def darkness(points: Tensor) -> Tensor:
        sums = points.sum(dim=(1, 2, 3))
        return torch.stack([sums, 0 * sums, 0 * sums, 0 * sums, 0 * sums], dim=1)

    images = torch.ones(5, 3, 10, 12).double()
    given = {"images": images, "forward": darkness, "targets": torch.zeros(5, dtype=torch.int64)}
    signed, positive = (
        METRICS["mufidelity"].compute(
            batch(maps=chosen, **given), METRICS["mufidelity"].parse({"fill": "black", "subsets": 400})
        )
        for chosen in (maps, maps.abs())
    )
    assert abs(signed.columns["mufidelity"].mean()) < 0.3
    assert positive.columns["mufidelity"].min() > 0.7
    assert np.array_equal(signed.columns["mufidelity_abs"], positive.columns["mufidelity_abs"])
    assert "mufidelity" in METRICS["mufidelity"].incomparable
