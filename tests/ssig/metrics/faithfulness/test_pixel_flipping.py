"""Pixel flipping: its published evaluation, and what it shares with deletion."""

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
def test_is_quantuss_curve_after_the_whole_image(suffix: str, batch: Callable[..., Evaluation], network: Any) -> None:
    evaluation, block = batch(), 8
    result = compute("pixel_flipping", evaluation, pixels_per_step=block)
    maps = (evaluation.maps.abs() if suffix else evaluation.maps).numpy()
    for row, image in enumerate(evaluation.images):
        target = int(evaluation.targets[row])
        expected = references.pixel_flipping(
            lambda points: network(torch.from_numpy(points)).numpy(), image.numpy(), maps[row], target, block
        )
        curve = result.curves[f"pixel_flipping{suffix}_curve"][row]
        np.testing.assert_allclose(curve[1:], expected, rtol=0, atol=1e-12)
        assert curve[0] == pytest.approx(float(network(image[None]).softmax(dim=1)[0, target]), abs=1e-12)
        unit_steps = np.trapezoid(expected) + (curve[0] + expected[0]) / 2
        assert result.columns[f"pixel_flipping{suffix}"][row] * len(expected) == pytest.approx(unit_steps, abs=1e-10)
    assert np.ptp(result.curves["pixel_flipping_curve"]) > 0.3  # else the comparison would say nothing


def test_is_deletion_to_the_lowest_value(batch: Callable[..., Evaluation]) -> None:
    evaluation = batch()
    deleted = compute("deletion", evaluation, fill="minimum", score="logit")
    flipped = compute("pixel_flipping", evaluation, score="logit")
    for suffix in ("", "_abs"):
        assert np.array_equal(flipped.columns[f"pixel_flipping{suffix}"], deleted.columns[f"deletion{suffix}"])


def test_blocks_of_rise() -> None:
    protocol = METRICS["pixel_flipping"].parse({}).protocol
    assert protocol.counts(224 * 224) == tuple(range(0, 224 * 224 + 1, 1792))
