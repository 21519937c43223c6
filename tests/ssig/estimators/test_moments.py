"""Streaming errors equal their batch formulas and are right on average."""

from __future__ import annotations

import pytest
import torch
from scipy import stats
from torch import Tensor

from ssig.estimators.integrands import readout
from ssig.estimators.integration import jackknife
from ssig.estimators.moments import NoError, WeightedSum, Welford


def test_welford_equals_the_batch_formula() -> None:
    samples = torch.randn(7, 2, 4, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64) + 100
    welford = Welford()
    for k, sample in enumerate(samples):
        welford.add(k, sample, sample)
    result = welford.result()
    assert result is not None
    assert torch.allclose(result, samples.std(dim=0) / 7**0.5, rtol=1e-10)


@pytest.mark.parametrize("count", [64, 32, 16])
def test_the_jackknife_estimates_the_error_without_bias(count: int) -> None:
    # Independent normals: the error of their mean is 1 / sqrt(count); 40,000 pixels average the square of it.
    samples = torch.randn(count, 1, 1, 200, 200, generator=torch.Generator().manual_seed(1))
    assert abs(error_of(samples).square().mean().item() * count - 1) < 0.02


def test_the_jackknife_covers_as_seven_degrees_of_freedom_do() -> None:
    samples = torch.randn(32, 1, 1, 200, 200, generator=torch.Generator().manual_seed(2))
    covered = (samples.mean(dim=0).sum(dim=1).abs() <= error_of(samples)).double().mean()
    assert abs(covered.item() - (stats.t.cdf(1, 7) - stats.t.cdf(-1, 7))) < 0.01  # .649; of two halves it was .5


def test_groups_of_unequal_size_weigh_as_they_should() -> None:
    # Leaving out each of 5 groups of one sample is the plain jackknife: the standard error of a mean.
    samples = torch.randn(5, 2, 3, 4, 5, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    assert torch.allclose(error_of(samples), samples.sum(dim=2).std(dim=0) / 5**0.5, rtol=1e-10)
    uneven = torch.randn(12, 1, 1, 200, 200, generator=torch.Generator().manual_seed(4))
    assert abs(error_of(uneven).square().mean().item() * 12 - 1) < 0.05


@pytest.mark.parametrize("readout_name", ["sum-abs", "max-abs"])
@pytest.mark.parametrize("signal", [0.0, 0.1, 0.3, 3.0])
def test_magnitudes_tell_their_bias(readout_name: str, signal: float) -> None:
    count, shape = 32, (1, 3, 150, 150)
    mean = (signal * torch.tensor([1.0, -2.0, 1.0])).view(1, 3, 1, 1).expand(shape)
    noise = torch.randn(count, *shape, generator=torch.Generator().manual_seed(5))
    error = jackknife(readout_name)
    for k, sample in enumerate(mean + noise):
        error.add(k, sample, readout(readout_name, sample))
    found = error.bias()
    assert found is not None
    true = (readout(readout_name, mean + noise.mean(dim=0)) - readout(readout_name, mean)).mean()
    unit = (3 if readout_name == "sum-abs" else 1) * count**-0.5
    assert true - 0.03 * unit <= found.mean() <= true + 0.6 * unit
    if signal in (0.0, 3.0) and readout_name == "sum-abs":
        assert abs(found.mean() - true) < 0.05 * unit


def test_a_signed_readout_has_no_bias() -> None:
    error = jackknife("sum")
    for k in range(16):
        error.add(k, torch.ones(1, 3, 2, 2), torch.ones(1, 2, 2))
    assert error.bias() is None
    assert jackknife("sum-abs").bias() is None  # of no samples


@pytest.mark.parametrize("estimator", ["independent", "sum", "sum-abs"])
def test_reliability_is_the_correlation_with_another_map(estimator: str) -> None:
    generator = torch.Generator().manual_seed(6)
    truth = torch.randn(1, 1, 120, 120, generator=generator)
    maps, told = [], []
    for _ in range(2):
        error = Welford() if estimator == "independent" else jackknife(estimator)
        name = "sum" if estimator == "independent" else estimator
        samples = truth + (3 if estimator == "sum-abs" else 5) * torch.randn(32, 1, 1, 120, 120, generator=generator)
        for k, sample in enumerate(samples):
            error.add(k, sample, readout(name, sample))
        found = error.reliability()
        assert found is not None
        told.append(float(found))
        maps.append(readout(name, samples.mean(dim=0)).flatten())
    expected = float(torch.corrcoef(torch.stack(maps))[0, 1])
    assert 0.3 < expected < 0.7
    assert told == pytest.approx([expected] * 2, abs=0.1 if estimator == "sum-abs" else 0.05)


def test_reliability_of_nothing_but_noise_and_of_no_noise() -> None:
    for error in (Welford(), jackknife("sum"), jackknife("sum-abs")):
        assert error.reliability() is None
    noise = torch.randn(32, 1, 3, 60, 60, generator=torch.Generator().manual_seed(7))
    still = torch.rand(1, 3, 60, 60).expand(32, 1, 3, 60, 60)
    for samples, expected in ((noise, 0), (still, 1), (torch.ones_like(noise), 1)):
        for error in (Welford(), jackknife("sum")):
            for k, sample in enumerate(samples):
                error.add(k, sample, sample.sum(dim=1))
            assert float(error.reliability()) == pytest.approx(expected, abs=0.06)  # type: ignore[arg-type]


def error_of(samples: Tensor) -> Tensor:
    """The jackknife's error of the mean of samples (K, B, C, H, W), channels summed."""
    error = jackknife("sum")
    for k, sample in enumerate(samples):
        error.add(k, sample, sample.sum(dim=1))
    result = error.result()
    assert result is not None
    return result


def test_one_sample_has_no_error_estimate() -> None:
    one = torch.ones(1, 1, 2, 2)
    for estimator in (Welford(), jackknife("sum"), NoError()):
        estimator.add(0, one, one.sum(dim=1))
        assert estimator.result() is None


def test_weighted_sum_leaves_its_samples_alone() -> None:
    total, sample = WeightedSum(), torch.ones(3)
    total.add(1.0, sample)
    total.add(0.5, sample)
    assert torch.equal(total.result(), torch.full((3,), 1.5))
    assert torch.equal(sample, torch.ones(3))
