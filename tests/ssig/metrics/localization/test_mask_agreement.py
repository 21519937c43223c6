"""Relevance rank, IoU, mask errors and average precision: references, hand-computed cases, ties and reasons."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score, jaccard_score, mean_absolute_error, mean_squared_error

from ssig.errors import UsageError
from ssig.registry import METRICS
from ssig.types import Evaluation, MetricResult

NAMES = ["relevance_rank", "iou", "mask_mse", "mask_mae", "average_precision"]
EVERY = pytest.mark.parametrize("name", NAMES)


def compute(metric: str, evaluation: Evaluation, **given: object) -> MetricResult:
    return METRICS[metric].compute(evaluation, METRICS[metric].parse(given))


def pairs(evaluation: Evaluation) -> list[tuple[np.ndarray, np.ndarray]]:
    """(|map|, mask) of each image."""
    magnitudes = evaluation.maps.abs().double().numpy()
    return [(magnitude, np.asarray(mask)) for magnitude, mask in zip(magnitudes, evaluation.masks, strict=True)]


def small(batch: Callable[..., Evaluation], values: list[list[float]], mask: list[list[int]]) -> Evaluation:
    """One image of two rows."""
    return batch(maps=torch.tensor([values]), masks=(np.array(mask, dtype=bool),))


def test_average_precision_is_sklearns_with_and_without_ties(batch: Callable[..., Evaluation]) -> None:
    for maps in (batch().maps, (2 * batch().maps).round(), torch.full_like(batch().maps, -1.0)):
        evaluation = batch(maps=maps)
        expected = [average_precision_score(mask.ravel(), each.ravel()) for each, mask in pairs(evaluation)]
        found = compute("average_precision", evaluation).columns["average_precision"]
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9)


def test_average_precision_by_hand(batch: Callable[..., Evaluation]) -> None:
    # In order: hit, miss, hit and miss together, miss. Recall 1/2 at precision 1, then 1 at precision 2/4.
    evaluation = small(batch, [[5.0, -4.0, 3.0], [3.0, 1.0, 0.0]], [[1, 0, 1], [0, 0, 0]])
    assert compute("average_precision", evaluation).columns["average_precision"].tolist() == [0.75]


def test_relevance_rank_is_the_share_of_the_top(batch: Callable[..., Evaluation]) -> None:
    evaluation = batch()
    found = compute("relevance_rank", evaluation).columns["relevance_rank"]
    for row, (magnitude, mask) in enumerate(pairs(evaluation)):
        top = np.argsort(magnitude.ravel())[-24:]
        assert found[row] == np.intersect1d(top, np.flatnonzero(mask)).size / 24


def test_relevance_rank_counts_ties_by_their_share(batch: Callable[..., Evaluation]) -> None:
    # One hit is certain; the other two places go to two of the four that tie, of which one lies on the object.
    evaluation = small(batch, [[9.0, 2.0, -2.0], [2.0, 2.0, 1.0]], [[1, 1, 0], [0, 0, 1]])
    assert compute("relevance_rank", evaluation).columns["relevance_rank"].tolist() == [(1 + 2 / 4) / 3]
    constant = small(batch, [[1.0, 1.0, 1.0], [1.0, 1.0, 1.0]], [[1, 1, 0], [0, 0, 0]])
    assert compute("relevance_rank", constant).columns["relevance_rank"].tolist() == [2 / 6]


def test_top_k_iou_follows_from_relevance_rank(batch: Callable[..., Evaluation]) -> None:
    evaluation = batch()
    ranks = compute("relevance_rank", evaluation).columns["relevance_rank"]
    for rank, (magnitude, mask) in zip(ranks, pairs(evaluation), strict=True):
        top = magnitude >= np.sort(magnitude, axis=None)[-mask.sum()]
        assert jaccard_score(mask.ravel(), top.ravel()) == pytest.approx(rank / (2 - rank), abs=1e-12)


@pytest.mark.parametrize(("tau", "expected"), [(0.0, 2 / 5), (0.1, 2 / 4), (0.2, 2 / 3), (0.5, 1 / 2), (0.9, 1 / 2)])
def test_iou_above_a_share_of_the_maximum(tau: float, expected: float, batch: Callable[..., Evaluation]) -> None:
    evaluation = small(batch, [[-10.0, 5.0, 4.0], [2.0, 1.0, 0.0]], [[1, 0, 1], [0, 0, 0]])
    assert compute("iou", evaluation, threshold="max", tau=tau).columns["iou"].tolist() == [expected]


def test_iou_at_otsus_threshold(batch: Callable[..., Evaluation]) -> None:
    # Two clusters far apart; of the thresholds between them, which are all as good, the lowest is taken.
    evaluation = small(batch, [[1.0, -0.9, 0.95], [0.05, 0.06, 0.0]], [[1, 1, 0], [1, 0, 0]])
    assert compute("iou", evaluation).columns["iou"].tolist() == [2 / 4]


@pytest.mark.parametrize(("name", "reference"), [("mask_mse", mean_squared_error), ("mask_mae", mean_absolute_error)])
def test_errors_of_the_scaled_map(
    name: str, reference: Callable[..., float], batch: Callable[..., Evaluation]
) -> None:
    evaluation = batch()
    expected = [
        reference(mask.ravel(), np.interp(magnitude.ravel(), [magnitude.min(), magnitude.max()], [0, 1]))
        for magnitude, mask in pairs(evaluation)
    ]
    np.testing.assert_allclose(compute(name, evaluation).columns[name], expected, rtol=0, atol=1e-12)


def test_errors_by_hand(batch: Callable[..., Evaluation]) -> None:
    evaluation = small(batch, [[-3.0, 2.0], [1.0, 1.0]], [[1, 1], [0, 0]])  # scaled: 1, .5, 0, 0
    assert compute("mask_mse", evaluation).columns["mask_mse"].tolist() == [0.0625]
    assert compute("mask_mae", evaluation).columns["mask_mae"].tolist() == [0.125]


@EVERY
def test_perfect_and_random_maps(name: str, batch: Callable[..., Evaluation]) -> None:
    best = 0 if METRICS[name].columns[name] == "lower" else 1
    masks = torch.from_numpy(np.stack(batch().masks))
    assert compute(name, batch(maps=torch.where(masks, -1.0, 0.0))).columns[name].tolist() == [best] * 5

    mask = np.zeros((64, 48), dtype=bool)
    mask[10:40, 5:30] = True
    maps = torch.rand(50, 64, 48, generator=torch.Generator().manual_seed(6))
    area = mask.mean()
    # Of uniform noise; Otsu's threshold is one half, so that half of each part is above it.
    chance = {"iou": area / 2 / (1 / 2 + area / 2), "mask_mse": 1 / 3, "mask_mae": 1 / 2}.get(name, area)
    found = compute(name, batch(maps=maps, masks=(mask,) * 50)).columns[name]
    assert found.mean() == pytest.approx(chance, abs=0.006)


@EVERY
def test_reasons_and_batches(name: str, batch: Callable[..., Evaluation], at: Callable[..., Evaluation]) -> None:
    usual = batch()
    maps, masks = usual.maps.clone(), [np.array(mask) for mask in usual.masks]
    maps[0], maps[1] = -0.5, 0.0
    masks[2][:], masks[3][:] = False, True
    evaluation = batch(maps=maps, masks=(*masks[:4], "no boxes"))
    result = compute(name, evaluation)
    reasons = ["map is all zero", "object is outside the input", "object covers the whole input", "no boxes"]
    assert [reason[name] for reason in result.excluded[1:]] == reasons
    assert np.isnan(result.columns[name][1:]).all()
    excludes_constant = name in ("iou", "mask_mse", "mask_mae")
    assert result.excluded[0] == ({name: "map is constant"} if excludes_constant else {})
    assert np.isnan(result.columns[name][0]) == excludes_constant
    together = compute(name, usual)
    for row in range(len(usual)):
        assert compute(name, at(usual, row)).columns[name][0] == together.columns[name][row]


@pytest.mark.parametrize(
    ("given", "field"), [({"threshold": "mean"}, "threshold"), ({"tau": 1.0}, "tau"), ({"tau": -0.1}, "tau")]
)
def test_wrong_thresholds_name_their_field(given: dict[str, object], field: str) -> None:
    with pytest.raises(UsageError) as error:
        METRICS["iou"].parse(given)
    assert error.value.field == f"metrics.iou.{field}"


def test_localization_is_quantus(batch: Callable[..., Evaluation]) -> None:
    """Quantus' localisation scores of |map|, without ties."""
    quantus = pytest.importorskip("quantus")
    evaluation = batch()
    magnitudes = evaluation.maps.abs().double().numpy()[:, None]
    masks = np.stack(evaluation.masks)[:, None].astype(int)
    peers = {
        "relevance_rank": (quantus.RelevanceRankAccuracy, {}),
        "energy": (quantus.RelevanceMassAccuracy, {}),
        "roc_auc": (quantus.AUC, {}),
        "pointing": (quantus.PointingGame, {"tolerance": 0}),
    }
    for name, (peer, given) in peers.items():
        scores = peer(abs=True, normalise=False, disable_warnings=True)(
            model=None,
            x_batch=evaluation.images.numpy(),
            y_batch=evaluation.targets.numpy(),
            a_batch=magnitudes,
            s_batch=masks,
        )
        found = compute(name, evaluation, **given).columns[name]
        np.testing.assert_allclose(found, np.array(scores, dtype=float), rtol=0, atol=1e-6)
