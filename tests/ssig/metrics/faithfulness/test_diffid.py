"""DiffID: its definition as a slow plain loop, and its symmetry."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from ssig.registry import METRICS
from ssig.types import Evaluation, MetricResult


def diffid(evaluation: Evaluation) -> MetricResult:
    return METRICS["diffid"].compute(evaluation, METRICS["diffid"].parse({}))


def plain_game(network: Any, image: Tensor, target: Tensor, hidden_first: list[int]) -> list[float]:
    """Kept probability for each ratio, hiding the first pixels of a list with the mean of the others."""

    def probability(point: Tensor) -> float:
        return float(network.normalised(point[None]).softmax(dim=1)[0, target])

    kept = []
    for ratio in (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9):
        count = int(len(hidden_first) * ratio)
        changed = image.clone().flatten(1)
        changed[:, hidden_first[:count]] = float(changed[:, hidden_first[count:]].mean())
        kept.append(min(max(probability(changed.view_as(image)) / probability(image), 0.0), 1.0))
    return kept


@pytest.mark.parametrize("suffix", ["", "_abs"])
def test_is_the_plain_loop(suffix: str, batch: Callable[..., Evaluation], network: Any) -> None:
    evaluation = batch()
    result = diffid(evaluation)
    normalised = (evaluation.images - evaluation.mean.view(-1, 1, 1)) / evaluation.std.view(-1, 1, 1)
    for row, image in enumerate(normalised):
        saliency = evaluation.maps[row].abs() if suffix else evaluation.maps[row]
        rising = saliency.flatten().argsort().tolist()
        inserted = np.array(plain_game(network, image, evaluation.targets[row], rising))
        deleted = np.array(plain_game(network, image, evaluation.targets[row], rising[::-1]))
        curve = result.curves[f"diffid{suffix}_curve"][row]
        np.testing.assert_allclose(curve, inserted - deleted, rtol=0, atol=1e-10)
        assert result.columns[f"diffid{suffix}"][row] == pytest.approx((inserted - deleted).mean(), abs=1e-10)
        assert result.columns[f"diffid_insertion{suffix}"][row] == pytest.approx(inserted.mean(), abs=1e-10)
        assert result.columns[f"diffid_deletion{suffix}"][row] == pytest.approx(deleted.mean(), abs=1e-10)
    assert np.ptp(result.curves["diffid_curve"]) > 0.3  # else the comparison would say nothing


def test_turning_the_map_round_exchanges_the_games(batch: Callable[..., Evaluation]) -> None:
    forth, back = diffid(batch()), diffid(batch(maps=-batch().maps))
    np.testing.assert_allclose(back.columns["diffid"], -forth.columns["diffid"], rtol=0, atol=1e-12)
    np.testing.assert_allclose(back.columns["diffid_insertion"], forth.columns["diffid_deletion"], rtol=0, atol=1e-12)
    np.testing.assert_allclose(back.columns["diffid_abs"], forth.columns["diffid_abs"], rtol=0, atol=1e-12)


def test_an_impossible_target_is_excluded(batch: Callable[..., Evaluation], images: Tensor) -> None:
    def forward(points: Tensor) -> Tensor:
        untouched = (points[:, None] == images).flatten(2).all(dim=2).any(dim=1)
        return torch.stack([torch.where(untouched, -2000.0, 0.0), torch.zeros(len(points))], dim=1)

    evaluation = batch(forward=forward, targets=torch.zeros(5).long())
    result = diffid(evaluation)
    assert all(np.isnan(values).all() for values in result.columns.values())
    assert all("score to divide by is 0" in reasons["diffid"] for reasons in result.excluded)


def test_an_image_of_few_pixels(batch: Callable[..., Evaluation]) -> None:
    image, saliency = torch.rand(1, 3, 2, 2, dtype=torch.float64), torch.randn(1, 2, 2)

    def forward(points: Tensor) -> Tensor:
        return torch.stack([points.sum(dim=(1, 2, 3)), points[:, 0, 0, 0]], dim=1)

    evaluation = batch(images=image, maps=saliency, targets=torch.zeros(1).long(), forward=forward, masks=("none",))
    result = diffid(evaluation)
    assert np.isfinite(result.columns["diffid"]).all()
    assert result.curves["diffid_curve"][0, 0] == 0  # a tenth of four pixels is none
