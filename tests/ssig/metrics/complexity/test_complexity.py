"""Gini, entropy and effective support: distributions with known values, extremes, and reasons."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import scipy.stats
import torch

from ssig.registry import METRICS
from ssig.types import Evaluation, MetricResult

NAMES = ["gini", "entropy", "effective_support"]


def compute(metric: str, evaluation: Evaluation) -> MetricResult:
    return METRICS[metric].compute(evaluation, METRICS[metric].parse({}))


def value(metric: str, batch: Callable[..., Evaluation], values: np.ndarray) -> float:
    """Of one map of one row."""
    return float(compute(metric, batch(maps=torch.from_numpy(values).reshape(1, 1, -1))).columns[metric][0])


@pytest.mark.parametrize(
    ("draw", "expected"),
    [
        (lambda generator: generator.uniform(-1, 1, 50_176), 1 / 3),
        (lambda generator: generator.standard_normal(50_176), math.sqrt(2) - 1),
        (lambda generator: generator.laplace(size=50_176), 1 / 2),
    ],
    ids=["uniform", "half-normal", "exponential"],
)
def test_gini_of_noise(
    draw: Callable[[np.random.Generator], np.ndarray], expected: float, batch: Callable[..., Evaluation]
) -> None:
    # Standard errors are below .0015.
    assert value("gini", batch, draw(np.random.default_rng(0))) == pytest.approx(expected, abs=0.005)


def test_gini_is_half_the_relative_mean_difference(batch: Callable[..., Evaluation]) -> None:
    evaluation = batch()
    found = compute("gini", evaluation).columns["gini"]
    for row, magnitude in enumerate(evaluation.maps.abs().double().flatten(1).numpy()):
        difference = np.abs(magnitude[:, None] - magnitude).mean()
        assert found[row] == pytest.approx(difference / (2 * magnitude.mean()), abs=1e-12)


def test_by_hand(batch: Callable[..., Evaluation]) -> None:
    map_ = np.array([3.0, -1.0, 0.0, 0.0])
    assert value("gini", batch, map_) == (1 * 1 + 3 * 3) / (4 * 4)
    entropy = 2 * math.log(2) - 0.75 * math.log(3)
    assert value("entropy", batch, map_) == pytest.approx(entropy, abs=1e-15)
    assert value("effective_support", batch, map_) == pytest.approx(4 / 3**0.75 / 4, abs=1e-15)


def test_entropy_is_scipys_in_nats(batch: Callable[..., Evaluation]) -> None:
    evaluation = batch()
    expected = scipy.stats.entropy(evaluation.maps.abs().double().flatten(1).numpy(), axis=1)
    np.testing.assert_allclose(compute("entropy", evaluation).columns["entropy"], expected, rtol=0, atol=1e-12)
    half_normal = np.random.default_rng(0).standard_normal(50_176)
    assert value("entropy", batch, half_normal) == pytest.approx(10.541, abs=0.01)


@pytest.mark.parametrize("pixels", [1, 7, 100])
def test_equal_pixels(pixels: int, batch: Callable[..., Evaluation]) -> None:
    values = np.zeros(100)
    values[:pixels] = -0.3
    assert value("gini", batch, values) == pytest.approx(1 - pixels / 100, abs=1e-12)
    assert value("entropy", batch, values) == pytest.approx(math.log(pixels), abs=1e-12)
    assert value("effective_support", batch, values) == pytest.approx(pixels / 100, abs=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_scale_and_sign_do_not_matter(name: str, batch: Callable[..., Evaluation]) -> None:
    usual = compute(name, batch()).columns[name]
    scaled = compute(name, batch(maps=batch().maps.double() * -1e-30)).columns[name]
    np.testing.assert_allclose(scaled, usual, rtol=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_reasons_and_batches(name: str, batch: Callable[..., Evaluation], at: Callable[..., Evaluation]) -> None:
    maps = batch().maps.clone()
    maps[1] = 0.0
    evaluation = batch(maps=maps, masks=("no boxes",) * 5)
    result = compute(name, evaluation)
    assert result.excluded == ({}, {name: "map is all zero"}, {}, {}, {})
    assert np.isnan(result.columns[name]).tolist() == [False, True, False, False, False]
    for row in range(len(evaluation)):
        np.testing.assert_array_equal(compute(name, at(evaluation, row)).columns[name], result.columns[name][[row]])


def test_complexity_is_quantus(batch: Callable[..., Evaluation]) -> None:
    """Quantus' sparseness and complexity, one image at a time: it scales by the maximum of all that it is given."""
    quantus = pytest.importorskip("quantus")
    evaluation = batch()
    for name, peer in {"gini": quantus.Sparseness, "entropy": quantus.Complexity}.items():
        found = compute(name, evaluation).columns[name]
        for row in range(len(evaluation)):
            score = peer(abs=True, normalise=True, disable_warnings=True)(
                model=None,
                x_batch=evaluation.images[row : row + 1].numpy(),
                y_batch=evaluation.targets[row : row + 1].numpy(),
                a_batch=evaluation.maps[row : row + 1].abs().double().numpy()[:, None],
            )
            assert found[row] == pytest.approx(float(score[0]), abs=1e-5)
