"""The Insertion Score: its published evaluation, and which images it is taken of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import published_protocols as references
import pytest
import torch

from ssig.metrics.faithfulness.curves import MISCLASSIFIED
from ssig.registry import METRICS
from ssig.types import Evaluation, MetricResult


def insertion_score(evaluation: Evaluation, **given: Any) -> MetricResult:
    return METRICS["insertion_score"].compute(evaluation, METRICS["insertion_score"].parse(given))


def test_is_the_published_evaluation(batch: Callable[..., Evaluation], network: Any) -> None:
    evaluation = batch()
    result = insertion_score(evaluation)
    mean, std = evaluation.mean.view(-1, 1, 1), evaluation.std.view(-1, 1, 1)
    for row in range(len(evaluation)):
        curve, area, normalised = references.insertion_score(
            lambda points: network.normalised(torch.from_numpy(points)).numpy(),
            ((evaluation.images[row] - mean) / std).numpy(),
            evaluation.maps[row].numpy(),
            int(evaluation.targets[row]),
            (-mean / std).numpy(),
        )
        np.testing.assert_allclose(result.curves["insertion_score_curve"][row], curve, rtol=0, atol=1e-12)
        np.testing.assert_allclose(
            result.curves["insertion_score_normalised_curve"][row], np.array(curve) / curve[-1], rtol=1e-12
        )
        assert result.columns["insertion_score"][row] == pytest.approx(area, abs=1e-12)
        assert result.columns["insertion_score_normalised"][row] == pytest.approx(normalised, abs=1e-12)
    assert np.ptp(result.curves["insertion_score_curve"]) > 0.3  # else the comparison would say nothing


def test_normalised_probability_is_not_clipped(batch: Callable[..., Evaluation]) -> None:
    def forward(points: torch.Tensor) -> torch.Tensor:
        darkness = -points.mean(dim=(1, 2, 3))
        return torch.stack([darkness, torch.full_like(darkness, -2.0)], dim=1)

    result = insertion_score(batch(forward=forward, targets=torch.zeros(5).long()))
    assert (result.columns["insertion_score_normalised"] > 1).all()


def test_only_images_whose_target_is_predicted(batch: Callable[..., Evaluation], network: Any) -> None:
    targets = batch().targets.clone()
    targets[1], targets[3] = (targets[1] + 1) % 5, (targets[3] + 1) % 5
    usual, every = insertion_score(batch(targets=targets), filter="none"), set(METRICS["insertion_score"].columns)
    assert not any(usual.excluded)
    network.calls.clear()
    result = insertion_score(batch(targets=targets))
    assert sum(network.calls) == 3 * 19 + 1  # black once
    for row, reasons in enumerate(result.excluded):
        assert reasons == (dict.fromkeys(every, MISCLASSIFIED) if row in (1, 3) else {})
    for column, values in result.columns.items():
        assert np.isnan(values[[1, 3]]).all()
        np.testing.assert_allclose(values[[0, 2, 4]], usual.columns[column][[0, 2, 4]], rtol=1e-12)


def test_all_images_filtered_out(batch: Callable[..., Evaluation], network: Any) -> None:
    evaluation = batch(targets=(batch().targets + 1) % 5)
    result = insertion_score(evaluation)
    assert all(reasons["insertion_score"] == MISCLASSIFIED for reasons in result.excluded)
    assert np.isnan(result.curves["insertion_score_curve"]).all()


def test_an_overflow_is_no_misclassification(batch: Callable[..., Evaluation]) -> None:
    evaluation = batch(forward=lambda points: torch.full((len(points), 5), torch.nan))
    assert all("not finite" in reasons["insertion_score"] for reasons in insertion_score(evaluation).excluded)


def test_shares_its_curve_with_insertion(batch: Callable[..., Evaluation], network: Any) -> None:
    evaluation = batch()
    insertion = METRICS["insertion"]
    curve = insertion.compute(evaluation, insertion.parse({"preset": "insertion-score"})).curves["insertion_curve"]
    spent = sum(network.calls)
    assert np.array_equal(insertion_score(evaluation, ties="raster").curves["insertion_score_curve"], curve)
    assert sum(network.calls) == spent
