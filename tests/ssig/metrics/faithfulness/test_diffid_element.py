"""DiffID by elements: the published evaluation on a map repeated over channels, and its distance from pixels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import published_protocols as references
import pytest
import torch
from scipy.special import softmax

from ssig.registry import METRICS
from ssig.types import Evaluation, MetricResult


def compute(metric: str, evaluation: Evaluation, **given: Any) -> MetricResult:
    return METRICS[metric].compute(evaluation, METRICS[metric].parse(given))


@pytest.mark.parametrize("suffix", ["", "_abs"])
def test_is_the_published_evaluation(suffix: str, cropped: Callable[[], Evaluation], network: Any) -> None:
    evaluation = cropped()
    decisions, ratios, logits = (
        compute("diffid_element", evaluation, score=score, ties="raster")
        for score in ("accuracy", "probability", "logit")
    )
    normalised = (evaluation.images - evaluation.mean.view(-1, 1, 1)) / evaluation.std.view(-1, 1, 1)
    maps = (evaluation.maps.abs() if suffix else evaluation.maps).numpy()
    for row, image in enumerate(normalised.numpy()):
        points: list[np.ndarray] = []

        def predict(point: np.ndarray, points: list[np.ndarray] = points) -> np.ndarray:
            points.append(network.normalised(torch.from_numpy(point)).numpy())
            return points[-1]

        target = int(evaluation.targets[row])
        (inserted, deleted), logit_ratios = references.lpi(predict, image, maps[row], target)
        kept = softmax(np.concatenate(points), axis=1)[:, target]
        inserted_part, deleted_part = np.clip(kept[1:] / kept[0], 0, 1).reshape(2, 9)
        assert np.array_equal(decisions.curves[f"diffid_element{suffix}_curve"][row], inserted - deleted)
        assert decisions.columns[f"diffid_element_deletion{suffix}"][row] == pytest.approx(deleted.mean())
        np.testing.assert_allclose(
            ratios.curves[f"diffid_element{suffix}_curve"][row], inserted_part - deleted_part, rtol=0, atol=1e-12
        )
        np.testing.assert_allclose(
            logits.curves[f"diffid_element{suffix}_curve"][row], logit_ratios[0] - logit_ratios[1], rtol=0, atol=1e-10
        )
    assert np.ptp(ratios.curves["diffid_element_curve"]) > 0.3  # else the comparison would say nothing


def test_a_pixel_hidden_in_part_makes_the_only_difference(
    batch: Callable[..., Evaluation], cropped: Callable[[], Evaluation]
) -> None:
    whole = batch()  # 120 pixels: every tenth ends between pixels
    for score in ("accuracy", "probability"):
        elements = compute("diffid_element", whole, score=score).columns["diffid_element"]
        pixels = compute("diffid" if score == "probability" else "diffid_accuracy", whole)
        np.testing.assert_allclose(elements, next(iter(pixels.columns.values())), rtol=0, atol=1e-12)
    parts = cropped()
    elements = compute("diffid_element", parts, score="probability").columns["diffid_element"]
    assert (elements != compute("diffid", parts).columns["diffid"]).all()


def test_scores_share_their_evaluations(batch: Callable[..., Evaluation], network: Any) -> None:
    evaluation = batch()
    compute("diffid_element", evaluation)
    assert sum(network.calls) == 5 * 36
    compute("diffid_element", evaluation, score="probability")
    compute("diffid_element", evaluation, preset="sig", ties="random")
    compute("diffid_element", evaluation, preset="lpi", ties="random")
    assert sum(network.calls) == 5 * 36


def test_one_channel_has_no_elements_but_pixels(cropped: Callable[[], Evaluation]) -> None:
    usual = cropped()

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
    elements = compute("diffid_element", one, score="probability").columns["diffid_element"]
    assert np.array_equal(elements, compute("diffid", one).columns["diffid"])
    channels, pixels = (compute(name, one).columns[name] for name in ("diffid_channels", "diffid_accuracy"))
    np.testing.assert_allclose(channels, pixels, rtol=0, atol=1e-12)
