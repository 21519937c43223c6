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


def cropped(evaluation: Evaluation) -> Evaluation:
    """7 x 9 pixels, whose tenths end within a pixel."""
    images = evaluation.images[..., :7, :9]
    logits = evaluation.forward(images)
    assert evaluation.values is not None
    return evaluation.changed(
        images=images,
        maps=evaluation.maps[:, :7, :9],
        values=evaluation.values[..., :7, :9],
        targets=logits.argmax(dim=1),
        logits=logits,
    )


@pytest.mark.parametrize("suffix", ["", "_abs"])
def test_is_the_published_evaluation(suffix: str, batch: Callable[..., Evaluation], network: Any) -> None:
    evaluation = cropped(batch())
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


def test_the_preset_is_the_order_of_magnitudes(batch: Callable[..., Evaluation]) -> None:
    evaluation = cropped(batch())
    ours = compute("diffid_channels", evaluation, preset="sig")
    both = compute("diffid_channels", evaluation, ties="raster")
    assert np.array_equal(ours.curves["diffid_channels_abs_curve"], both.curves["diffid_channels_abs_curve"])
    assert np.isnan(ours.columns["diffid_channels"]).all()


def test_channels_of_one_value_are_ranked_by_the_map(batch: Callable[..., Evaluation]) -> None:
    """On one channel the values are the map, whatever the ties."""
    usual = cropped(batch())

    def forward(points: torch.Tensor) -> torch.Tensor:
        total = points.sum(dim=(1, 2, 3))
        return torch.stack([total, 60 - total], dim=1)

    one = usual.changed(
        images=usual.images[:, :1],
        values=usual.maps[:, None],
        mean=usual.mean[:1],
        std=usual.std[:1],
        targets=torch.zeros(5).long(),
        forward=forward,
        logits=None,
    )
    channels, pixels = (compute(name, one).columns[name] for name in ("diffid_channels", "diffid_accuracy"))
    assert np.array_equal(channels, pixels)


def test_the_readout_does_not_matter_and_the_values_do(batch: Callable[..., Evaluation]) -> None:
    evaluation = batch()
    assert evaluation.values is not None
    found = compute("diffid_channels", evaluation).columns["diffid_channels"]
    other_map = evaluation.changed(maps=-evaluation.maps)
    assert np.array_equal(compute("diffid_channels", other_map).columns["diffid_channels"], found)
    turned = compute("diffid_channels", evaluation.changed(values=-evaluation.values)).columns["diffid_channels"]
    np.testing.assert_allclose(turned, -found, rtol=0, atol=1e-12)  # highest first and lowest first change places


def test_without_values_there_is_a_reason_and_no_work(batch: Callable[..., Evaluation], network: Any) -> None:
    result = compute("diffid_channels", batch(values=None))
    assert all(np.isnan(values).all() for values in result.columns.values())
    assert all(set(reasons.values()) == {"no values of each channel"} for reasons in result.excluded)
    assert all(set(reasons) == set(result.columns) for reasons in result.excluded)
    assert network.calls == []
