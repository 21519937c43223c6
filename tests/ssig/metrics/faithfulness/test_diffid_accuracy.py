"""DiffID's decisions: the published evaluation, and what they share with the probabilities."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import published_protocols as references
import pytest
import torch

from ssig.registry import METRICS
from ssig.types import Evaluation, MetricResult


def compute(metric: str, evaluation: Evaluation, **given: Any) -> MetricResult:
    return METRICS[metric].compute(evaluation, METRICS[metric].parse(given))


@pytest.mark.parametrize("suffix", ["", "_abs"])
def test_is_the_published_evaluation(suffix: str, batch: Callable[..., Evaluation], network: Any) -> None:
    evaluation = batch()
    result = compute("diffid_accuracy", evaluation)
    normalised = (evaluation.images - evaluation.mean.view(-1, 1, 1)) / evaluation.std.view(-1, 1, 1)
    maps = (evaluation.maps.abs() if suffix else evaluation.maps).numpy()
    for row, image in enumerate(normalised.numpy()):
        (inserted, deleted), _ = references.lpi(
            lambda points: network.normalised(torch.from_numpy(points)).numpy(),
            image,
            maps[row],
            int(evaluation.targets[row]),
        )
        assert np.array_equal(result.curves[f"diffid_accuracy{suffix}_curve"][row], inserted - deleted)
        assert result.columns[f"diffid_accuracy{suffix}"][row] == pytest.approx((inserted - deleted).mean())
        assert result.columns[f"diffid_accuracy_insertion{suffix}"][row] == pytest.approx(inserted.mean())
        assert result.columns[f"diffid_accuracy_deletion{suffix}"][row] == pytest.approx(deleted.mean())
    assert set(result.curves["diffid_accuracy_curve"].ravel()) == {-1, 0, 1}


def test_shares_its_evaluations_with_diffid(batch: Callable[..., Evaluation], network: Any) -> None:
    evaluation = batch()
    compute("diffid", evaluation)
    spent = sum(network.calls)
    assert spent == 5 * 36
    together = compute("diffid_accuracy", evaluation)
    assert sum(network.calls) == spent
    alone = compute("diffid_accuracy", batch())
    assert np.array_equal(together.curves["diffid_accuracy_curve"], alone.curves["diffid_accuracy_curve"])


def test_a_misclassified_image_counts_as_what_it_is(batch: Callable[..., Evaluation]) -> None:
    def forward(points: torch.Tensor) -> torch.Tensor:
        return torch.tensor([[0.0, 1.0]]).expand(len(points), -1)

    wrong = compute("diffid_accuracy", batch(forward=forward, targets=torch.zeros(5).long()))
    right = compute("diffid_accuracy", batch(forward=forward, targets=torch.ones(5).long()))
    assert not any(wrong.excluded)
    assert wrong.columns["diffid_accuracy_insertion"].tolist() == [0] * 5
    assert right.columns["diffid_accuracy_insertion"].tolist() == [1] * 5
    assert right.columns["diffid_accuracy"].tolist() == [0] * 5
