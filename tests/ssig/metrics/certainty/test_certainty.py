"""Certainty: information that is known in closed form, chance that is none, and the bound of a data set."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from scipy.special import entr
from scipy.stats import multivariate_normal, norm

import ssig.metrics.certainty.certainty as certainty
import ssig.metrics.certainty.certainty_nce as nce
from ssig.metrics.certainty.image_features import FEATURES, constant, features_of, image_features
from ssig.metrics.shared.content import by_content
from ssig.registry import METRICS
from ssig.types import Evaluation

Batch = Callable[..., Evaluation]

SIZE = 28


def fields(rho: float, count: int, size: int, blur: float = 0.0, seed: int = 0) -> np.ndarray:
    """(count, 2, size, size): pairs of Gaussian fields of correlation `rho`, each blurred on the torus."""
    first, second = np.random.default_rng(seed).standard_normal((2, count, size, size))
    pairs = np.stack([first, rho * first + math.sqrt(1 - rho**2) * second], axis=1)
    return gaussian_filter(pairs, (0, 0, blur, blur), mode="wrap") if blur else pairs


def estimates(pairs: np.ndarray, **options: Any) -> np.ndarray:
    settings = certainty.CertaintyOptions(**options)
    return np.array(
        [certainty.information(*(certainty.binned(f, settings.bins) for f in pair), settings) for pair in pairs]
    )


def binned_gaussian(rho: float, bins: int) -> float:
    """Information of a Gaussian copula between its equal-frequency bins, from the bivariate normal distribution."""
    edges = norm.ppf(np.arange(bins + 1) / bins).clip(-9, 9)
    grid = np.stack(np.meshgrid(edges, edges, indexing="ij"), axis=-1)
    cumulative = multivariate_normal([0, 0], [[1, rho], [rho, 1]]).cdf(grid)
    mass = np.diff(np.diff(cumulative, axis=0), axis=1)
    return float(2 * math.log(bins) - entr(mass.clip(min=0)).sum())


@pytest.mark.parametrize("rho", [0.0, 0.5, -0.8, 0.95])
def test_a_gaussian_copula_has_the_information_of_its_bins(rho: float) -> None:
    found = estimates(fields(rho, 12, SIZE * 2))
    error = found.std(ddof=1) / math.sqrt(len(found))
    # Chance is taken off as if the fields were unrelated, which costs a little of what is there.
    assert binned_gaussian(rho, 8) - 3 * error - 0.005 <= found.mean() <= binned_gaussian(rho, 8) + 3 * error


@pytest.mark.parametrize("rho", [0.3, 0.8])
def test_with_many_cells_and_bins_it_nears_the_closed_form(rho: float) -> None:
    exact = -math.log(1 - rho**2) / 2
    (found,) = estimates(fields(rho, 1, 280), bins=24, correction="miller-madow")
    assert found == pytest.approx(exact, abs=0.02)
    assert found < exact + 0.005


def test_binning_loses_what_the_documentation_says() -> None:
    assert binned_gaussian(0.8, 8) == pytest.approx(0.44, abs=0.005)
    assert -math.log(1 - 0.8**2) / 2 == pytest.approx(0.51, abs=0.005)


@pytest.mark.parametrize("blur", [0.0, 1.0, 3.0])
def test_unrelated_fields_have_none_however_smooth(blur: float) -> None:
    found = estimates(fields(0.0, 60, SIZE, blur))
    assert abs(found.mean()) <= 3 * found.std(ddof=1) / math.sqrt(len(found))


def test_counting_cells_as_independent_credits_smooth_maps() -> None:
    pairs = fields(0.0, 20, SIZE, 3.0)
    assert estimates(pairs, correction="miller-madow").mean() > 0.1
    assert abs(estimates(pairs).mean()) < 0.05


def test_information_at_every_shift_is_that_of_the_shifted_map() -> None:
    first, second = (certainty.binned(field, 4) for field in fields(0.7, 1, 12)[0])
    shifted = certainty.shifted_information(first, second, 4)
    for down, across in ((0, 0), (3, 0), (5, 11)):
        moved = np.roll(second, (down, across), axis=(0, 1))
        joint = np.bincount((first * 4 + moved).ravel(), minlength=16).reshape(4, 4)
        joint = joint / first.size
        direct = entr(joint.sum(0)).sum() + entr(joint.sum(1)).sum() - entr(joint).sum()
        assert shifted[down, across] == pytest.approx(direct, abs=1e-12)


@pytest.mark.parametrize("change", [np.exp, lambda x: -x, lambda x: x**3])
def test_only_the_order_matters(change: Callable[[np.ndarray], np.ndarray]) -> None:
    ((first, second),) = fields(0.6, 1, SIZE)
    assert estimates(np.stack([[first, change(second)]]))[0] == pytest.approx(
        estimates(np.stack([[first, second]]))[0], abs=1e-12
    )


def test_equal_cells_share_a_bin_wherever_they_are() -> None:
    values = np.array([[3.0, 3.0, 1.0], [3.0, 1.0, 3.0]]) * (1 + 1e-14 * np.arange(6).reshape(2, 3))
    assert np.unique(certainty.binned(values, 4)).tolist() == [0, 2]
    assert constant(np.full((4, 4), 0.1) * (1 + 1e-13 * np.eye(4)))
    assert not constant(np.eye(4))


def test_features_are_what_their_names_say() -> None:
    ramp = np.linspace(0, 1, 64)
    grey = np.broadcast_to(ramp, (3, 64, 64))
    *edges, luminance, colour = features_of(grey, (8, 8))
    inside = slice(2, 6)
    for energy in edges:
        np.testing.assert_allclose(energy[:, inside], 1 / 63, rtol=0.02)
    np.testing.assert_allclose(luminance, np.broadcast_to(ramp.reshape(8, 8).mean(axis=1), (8, 8)), atol=1e-12)
    assert np.abs(colour).max() < 1e-12
    red = np.zeros((3, 64, 64))
    red[0, :, 32:] = 1.0
    contrast = features_of(red, (8, 8))[-1]
    assert contrast[:, 3:5].min() > 2 * contrast[:, [0, 7]].max()
    assert features_of(red[:1], (8, 8)).shape == (len(FEATURES), 8, 8)


def photographs(count: int, seed: int = 3) -> torch.Tensor:
    """(count, 3, 56, 56) smooth coloured noise in [0, 1]."""
    noise = np.random.default_rng(seed).random((count, 3, 56, 56))
    smooth = gaussian_filter(noise, (0, 0, 2, 2)) + 0.1 * noise
    low, high = smooth.min(), smooth.max()
    return torch.from_numpy((smooth - low) / (high - low))


def evaluation(maps: torch.Tensor, images: torch.Tensor) -> Evaluation:
    return Evaluation(
        images=images,
        maps=maps.float(),
        targets=torch.zeros(len(images), dtype=torch.int64),
        forward=lambda points: points.flatten(1)[:, :5],
        mean=torch.zeros(3),
        std=torch.ones(3),
        masks=("none",) * len(images),
    )


def test_a_map_of_edges_is_more_certain_than_noise() -> None:
    images = photographs(6)
    edges = torch.from_numpy(features_of(images[0].numpy(), (56, 56))[0])
    maps = torch.stack([edges] + [torch.rand(56, 56, generator=torch.Generator().manual_seed(k)) for k in range(5)])
    result = certainty.certainty(evaluation(maps, images), certainty.CertaintyOptions())
    assert result.columns["certainty_edges_1"][0] > 1.0
    assert result.columns["certainty"][0] == max(result.columns[f"certainty_{name}"][0] for name in FEATURES)
    assert np.abs(result.columns["certainty_mean"][1:]).max() < 0.06
    np.testing.assert_allclose(result.columns["certainty_bound"], np.exp(result.columns["certainty"]) / 8)
    assert not any(result.excluded)


def test_what_cannot_be_ranked_is_excluded() -> None:
    images = photographs(3)
    images[1] = images[1].mean(dim=0, keepdim=True)
    images[2] = 0.5
    maps = torch.rand(3, 56, 56, generator=torch.Generator().manual_seed(0))
    maps[0] = 0.2
    result = certainty.certainty(evaluation(maps, images), certainty.CertaintyOptions())
    assert set(result.excluded[0].values()) == {"map is constant on the grid"}
    assert result.excluded[1] == {"certainty_colour": "the image's feature is constant"}
    assert len(result.excluded[2]) == len(METRICS["certainty"].columns)
    for row, reasons in enumerate(result.excluded):
        assert {name for name, values in result.columns.items() if np.isnan(values[row])} == set(reasons)


@pytest.mark.parametrize("name", ["certainty", "certainty_nce"])
def test_an_image_does_not_depend_on_its_batch(name: str, batch: Batch, at: Callable[[Evaluation, int], Any]) -> None:
    spec, together = METRICS[name], batch()
    whole = spec.compute(together, spec.parse({}))
    for row in range(len(together)):
        alone = spec.compute(at(together, row), spec.parse({}))
        for column, values in {**alone.columns, **alone.vectors}.items():
            np.testing.assert_array_equal(values[0], {**whole.columns, **whole.vectors}[column][row])
    none = batch(images=together.images[:0], maps=together.maps[:0], targets=together.targets[:0], masks=())
    assert all(values.shape == (0,) for values in spec.compute(none, spec.parse({})).columns.values())


# The bound of a data set


def stored(maps: torch.Tensor, images: torch.Tensor) -> dict[str, np.ndarray]:
    return dict(nce.certainty_nce(evaluation(maps, images), nce.CertaintyNceOptions()).vectors)


def test_a_gaussian_pair_is_bounded_by_its_information() -> None:
    # One cell pair of correlation rho holds -ln(1 - rho^2)/2; twelve independent ones hold twelve times that.
    rho, cells, count = 0.5, 12, 600
    first, second = np.random.default_rng(0).standard_normal((2, count, cells))
    vectors = {
        "certainty_nce_vector": first,
        "certainty_nce_features_vector": rho * first + math.sqrt(1 - rho**2) * second,
    }
    found = nce.dataset(vectors, nce.CertaintyNceOptions())
    exact = -cells * math.log(1 - rho**2) / 2
    # The best critic is quadratic, and this one is bilinear: close below.
    assert 0.7 * exact < found["certainty_nce_nats"] < exact + 3 * found["certainty_nce_error"]
    assert found["certainty_nce_ceiling"] == pytest.approx(math.log(count / 2))


def test_unrelated_maps_tell_nothing_and_edges_tell_all() -> None:
    images = photographs(40)
    noise = torch.rand(40, 56, 56, generator=torch.Generator().manual_seed(1))
    edges = torch.stack([torch.from_numpy(features_of(image.numpy(), (56, 56))[1]) for image in images])
    chance, sure = (nce.dataset(stored(maps, images), nce.CertaintyNceOptions()) for maps in (noise, edges))
    assert set(sure) == set(METRICS["certainty_nce"].dataset_columns)
    assert abs(chance["certainty_nce_nats"]) <= 0.2
    assert sure["certainty_nce_nats"] > 0.95 * sure["certainty_nce_ceiling"]
    assert sure["certainty_nce_top1"] == 1.0
    assert sure["certainty_nce_images"] == 40
    assert all(
        math.isnan(value) for value in nce.dataset(stored(noise[:3], images[:3]), nce.CertaintyNceOptions()).values()
    )


def test_the_fit_is_a_minimum() -> None:
    own = np.random.default_rng(0).standard_normal((3, 30, 30)) * 0.2
    own += np.eye(30) * np.array([0.5, 0.0, -0.3])[:, None, None]
    beta = nce.fitted(own, 0.03)

    def objective(weights: np.ndarray) -> float:
        return -float(nce.bound(weights, own).nats.mean()) + 1e-3 * float(weights @ weights) / 2

    for step in np.eye(3) * 0.05:
        assert objective(beta) < min(objective(beta + step), objective(beta - step))


def test_the_order_of_the_rows_changes_nothing() -> None:
    images = photographs(20)
    vectors = stored(torch.rand(20, 56, 56, generator=torch.Generator().manual_seed(1)), images)
    shuffled = {name: rows[np.random.default_rng(0).permutation(20)] for name, rows in vectors.items()}
    options = nce.CertaintyNceOptions(most=12)
    found, again = nce.dataset(vectors, options), nce.dataset(shuffled, options)
    assert found["certainty_nce_images"] == 12
    assert found == pytest.approx(again, abs=1e-9)
    features = vectors["certainty_nce_features_vector"]
    assert sorted(by_content(features, 0)) == list(range(20))
    assert by_content(features, 0).tolist() != by_content(features, 1).tolist()


def test_stored_vectors_are_standardised_on_the_grid(batch: Batch) -> None:
    made = batch()
    result = nce.certainty_nce(made, nce.CertaintyNceOptions(size=6))
    maps, features = result.vectors["certainty_nce_vector"], result.vectors["certainty_nce_features_vector"]
    assert maps.shape == (5, 36)
    assert features.shape == (5, 36 * len(FEATURES))
    assert image_features(made, 6).shape == (5, len(FEATURES), 6, 6)
    np.testing.assert_allclose([maps.mean(axis=1), maps.std(axis=1) - 1], 0, atol=1e-12)
    expected = np.corrcoef(maps[2], features[2, :36])[0, 1]
    assert nce.correlations(maps, features)[0, 2, 2] == pytest.approx(expected)
