"""DiffID over channel values: the published evaluation of SIG, and what it has in common with the others."""

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
def test_is_the_published_evaluation(suffix: str, cropped: Callable[[], Evaluation], network: Any) -> None:
    evaluation = cropped()
    found = compute("diffid_channels", evaluation, ties="raster")
    normalised = (evaluation.images - evaluation.mean.view(-1, 1, 1)) / evaluation.std.view(-1, 1, 1)
    assert evaluation.values is not None
    values = (evaluation.values.abs() if suffix else evaluation.values).numpy()

    def predict(point: np.ndarray) -> np.ndarray:
        logits: np.ndarray = network.normalised(torch.from_numpy(point)).numpy()
        return logits

    for row, image in enumerate(normalised.numpy()):
        inserted, deleted = references.sig(predict, image, values[row], int(evaluation.targets[row]))
        assert np.array_equal(found.curves[f"diffid_channels{suffix}_curve"][row], inserted - deleted)
        assert found.columns[f"diffid_channels_insertion{suffix}"][row] == pytest.approx(inserted.mean())
        assert found.columns[f"diffid_channels_deletion{suffix}"][row] == pytest.approx(deleted.mean())
    assert np.ptp(found.curves[f"diffid_channels{suffix}_curve"]) > 0.3  # else the comparison would say nothing


def test_the_preset_is_the_order_of_magnitudes(cropped: Callable[[], Evaluation]) -> None:
    evaluation = cropped()
    ours = compute("diffid_channels", evaluation, preset="sig")
    both = compute("diffid_channels", evaluation, ties="raster")
    name = "diffid_channels_abs_curve"
    np.testing.assert_allclose(ours.curves[name], both.curves[name], rtol=0, atol=1e-12)
    assert np.isnan(ours.columns["diffid_channels"]).all()


def test_the_readout_does_not_matter_and_the_values_do(batch: Callable[..., Evaluation]) -> None:
    evaluation = batch()
    assert evaluation.values is not None
    found = compute("diffid_channels", evaluation).columns["diffid_channels"]
    other_map = evaluation.changed(maps=-evaluation.maps)
    np.testing.assert_allclose(compute("diffid_channels", other_map).columns["diffid_channels"], found, atol=1e-12)
    turned = compute("diffid_channels", evaluation.changed(values=-evaluation.values)).columns["diffid_channels"]
    np.testing.assert_allclose(turned, -found, rtol=0, atol=1e-12)  # highest first and lowest first change places


def test_without_values_there_is_a_reason_and_no_work(batch: Callable[..., Evaluation], network: Any) -> None:
    result = compute("diffid_channels", batch(values=None))
    assert all(np.isnan(values).all() for values in result.columns.values())
    assert all(set(reasons.values()) == {"no values of each channel"} for reasons in result.excluded)
    assert all(set(reasons) == set(result.columns) for reasons in result.excluded)
    assert network.calls == []
