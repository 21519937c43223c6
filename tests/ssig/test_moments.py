"""Streaming errors equal their batch formulas and are right on average."""

from __future__ import annotations

import torch

from ssig.moments import NoError, SplitHalves, WeightedSum, Welford


def test_welford_equals_the_batch_formula() -> None:
    samples = torch.randn(7, 2, 4, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64) + 100
    welford = Welford()
    for k, sample in enumerate(samples):
        welford.add(k, sample, sample)
    result = welford.result()
    assert result is not None
    assert torch.allclose(result, samples.std(dim=0) / 7**0.5, rtol=1e-10)


def test_split_halves_estimate_the_error_without_bias() -> None:
    # 64 independent normals: the error of their mean is 1/8; 40,000 pixels average the estimate.
    samples = torch.randn(64, 1, 1, 200, 200, generator=torch.Generator().manual_seed(1))
    halves = SplitHalves(lambda values: values.sum(dim=1))
    for k, sample in enumerate(samples):
        halves.add(k, sample, sample.sum(dim=1))
    result = halves.result()
    assert result is not None
    assert abs(result.mean().item() * 8 - 1) < 0.02


def test_one_sample_has_no_error_estimate() -> None:
    one = torch.ones(1, 1, 2, 2)
    for estimator in (Welford(), SplitHalves(lambda values: values.sum(dim=1)), NoError()):
        estimator.add(0, one, one.sum(dim=1))
        assert estimator.result() is None


def test_weighted_sum_leaves_its_samples_alone() -> None:
    total, sample = WeightedSum(), torch.ones(3)
    total.add(1.0, sample)
    total.add(0.5, sample)
    assert torch.equal(total.result(), torch.full((3,), 1.5))
    assert torch.equal(sample, torch.ones(3))
