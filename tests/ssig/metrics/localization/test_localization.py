"""ROC-AUC, pointing game and energy: references, closed forms and ties."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from ssig.registry import METRICS
from ssig.types import Evaluation, MetricResult


def compute(metric: str, evaluation: Evaluation, **given: object) -> MetricResult:
    return METRICS[metric].compute(evaluation, METRICS[metric].parse(given))


def test_roc_auc_is_sklearns_with_and_without_ties(batch: Callable[..., Evaluation]) -> None:
    for maps in (batch().maps, (2 * batch().maps).round(), torch.full_like(batch().maps, -1.0)):
        evaluation = batch(maps=maps)
        expected = [
            roc_auc_score(mask.ravel(), saliency.abs().ravel())
            for mask, saliency in zip(evaluation.masks, maps, strict=True)
        ]
        np.testing.assert_allclose(compute("roc_auc", evaluation).columns["roc_auc"], expected, rtol=0, atol=1e-9)


def test_perfect_and_opposite_maps(batch: Callable[..., Evaluation]) -> None:
    masks = torch.from_numpy(np.stack(batch().masks))
    perfect = batch(maps=torch.where(masks, -1.0, 0.0))
    assert compute("roc_auc", perfect).columns["roc_auc"].tolist() == [1] * 5
    assert compute("energy", perfect).columns["energy"].tolist() == [1] * 5
    assert compute("pointing", perfect, tolerance=0).columns["pointing"].tolist() == [1] * 5
    opposite = batch(maps=(~masks).float())
    assert compute("roc_auc", opposite).columns["roc_auc"].tolist() == [0] * 5
    assert compute("energy", opposite).columns["energy"].tolist() == [0] * 5


def test_random_maps_are_at_chance(batch: Callable[..., Evaluation]) -> None:
    generator = torch.Generator().manual_seed(6)
    mask = np.zeros((64, 48), dtype=bool)
    mask[10:40, 5:30] = True
    many = 50
    evaluation = batch(maps=torch.rand(many, 64, 48, generator=generator), masks=(mask,) * many)
    # Standard error of one ROC-AUC is below .012 here, so of the mean of fifty below .002.
    assert compute("roc_auc", evaluation).columns["roc_auc"].mean() == pytest.approx(0.5, abs=0.006)
    shares = compute("energy", evaluation)
    assert shares.columns["energy_chance"] == pytest.approx(mask.mean())
    assert shares.columns["energy"].mean() == pytest.approx(mask.mean(), abs=0.006)


def test_energy_is_the_share_of_the_magnitude(batch: Callable[..., Evaluation]) -> None:
    evaluation = batch()
    result = compute("energy", evaluation)
    for row, mask in enumerate(evaluation.masks):
        total = inside = 0.0
        for pixel in np.ndindex(mask.shape):
            total += abs(float(evaluation.maps[row][pixel]))
            inside += abs(float(evaluation.maps[row][pixel])) if mask[pixel] else 0.0
        assert result.columns["energy"][row] == pytest.approx(inside / total, abs=1e-12)
        assert result.columns["energy_chance"][row] == 24 / 120


def test_pointing_is_torchrays_rule(batch: Callable[..., Evaluation]) -> None:
    generator = np.random.default_rng(7)
    evaluation = batch()
    masks = tuple(generator.random(mask.shape) < 0.02 for mask in evaluation.masks)
    masks[0][0, 0] = masks[1][0, 0] = masks[2][0, 0] = masks[3][0, 0] = masks[4][0, 0] = True
    for tolerance in (1, 2, 5):
        hits = compute("pointing", batch(masks=masks), tolerance=tolerance).columns["pointing"]
        for row, mask in enumerate(masks):
            point = np.unravel_index(int(evaluation.maps[row].abs().argmax()), mask.shape)
            squared = [(y - point[0]) ** 2 + (x - point[1]) ** 2 for y, x in np.argwhere(mask)]
            assert hits[row] == (min(squared) < tolerance**2)


@pytest.mark.parametrize(
    ("column", "tolerance", "hit"), [(5, 0, 1), (6, 0, 0), (6, 1, 0), (6, 1.1, 1), (9, 4, 0), (9, 5, 1)]
)
def test_pointing_tolerance_is_exclusive(
    column: int, tolerance: float, hit: int, batch: Callable[..., Evaluation]
) -> None:
    mask = np.zeros((10, 12), dtype=bool)
    mask[4, :6] = True
    maps = torch.zeros(1, 10, 12)
    maps[0, 4, column] = -3.0  # by magnitude
    maps[0, 0, 11] = 2.0
    result = compute("pointing", batch(maps=maps, masks=(mask,)), tolerance=tolerance)
    assert result.columns["pointing"].tolist() == [hit]


def test_pointing_counts_the_share_of_tied_maxima(batch: Callable[..., Evaluation]) -> None:
    mask = np.zeros((10, 12), dtype=bool)
    mask[0, 0] = True
    maps = torch.zeros(2, 10, 12)
    maps[0, 0, 0] = maps[0, 9, 9] = maps[0, 9, 10] = 1.0
    maps[0, 9, 11] = -1.0
    maps[1] = 0.5
    result = compute("pointing", batch(maps=maps, masks=(mask, mask)), tolerance=2)
    assert result.columns["pointing"][0] == 0.25
    assert result.excluded[1] == {"pointing": "map is constant"}
