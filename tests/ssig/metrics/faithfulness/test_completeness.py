"""Completeness: the gap, its ratio, and who has none."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from ssig.registry import METRICS
from ssig.types import Evaluation, MetricResult


def completeness(evaluation: Evaluation) -> MetricResult:
    return METRICS["completeness"].compute(evaluation, METRICS["completeness"].parse({}))


def test_gap_and_ratio(batch: Callable[..., Evaluation]) -> None:
    result = completeness(batch())
    np.testing.assert_allclose(result.columns["completeness"], [0.5, 0.1, 0.0, 0.2, 2.0], rtol=1e-6)
    np.testing.assert_allclose(result.columns["completeness_relative"], [0.25, 0.1, 0.0, np.nan, 0.4], rtol=1e-6)
    assert result.excluded[3] == {"completeness_relative": "image and baseline have the same score"}
    assert result.excluded[0] == {}


def test_methods_without_the_axiom_are_excluded(batch: Callable[..., Evaluation]) -> None:
    some = torch.tensor([0.5, torch.nan, 0.0, 0.2, -2.0])
    none, infinite = "method has no completeness residual", "completeness residual is not finite"
    for residual, rows, reason in ((None, range(5), none), (some, [1], infinite)):
        result = completeness(batch(completeness_residual=residual))
        for row in rows:
            assert result.excluded[row] == {"completeness": reason, "completeness_relative": reason}
            assert np.isnan(result.columns["completeness"][row])


def test_without_scores_only_the_gap_is_known(batch: Callable[..., Evaluation]) -> None:
    result = completeness(batch(baseline_score=None))
    assert np.isfinite(result.columns["completeness"]).all()
    assert np.isnan(result.columns["completeness_relative"]).all()
