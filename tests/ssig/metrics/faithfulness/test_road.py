"""ROAD: its imputation against a dense solve, its definition as a slow plain loop, its symmetry, and random maps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from ssig.errors import UsageError
from ssig.metrics.faithfulness import device_imputation
from ssig.metrics.faithfulness import road as module
from ssig.metrics.faithfulness.device_imputation import impute_all
from ssig.metrics.faithfulness.imputation import impute
from ssig.registry import METRICS
from ssig.types import Evaluation, MetricResult

PERCENTAGES = [20, 50, 90]


def road(evaluation: Evaluation, **given: object) -> MetricResult:
    return METRICS["road"].compute(evaluation, METRICS["road"].parse({"percentages": PERCENTAGES, **given}))


def dense_imputation(image: np.ndarray, hidden: np.ndarray) -> np.ndarray:
    """The definition, pixel by pixel: one equation for every pixel, hidden or not."""
    height, width = hidden.shape
    system, known = np.zeros((hidden.size, hidden.size)), np.zeros((hidden.size, len(image)))
    for row in range(height):
        for column in range(width):
            pixel = row * width + column
            if not hidden[row, column]:
                system[pixel, pixel], known[pixel] = 1.0, image[:, row, column]
                continue
            for down in (-1, 0, 1):
                for right in (-1, 0, 1):
                    inside = 0 <= row + down < height and 0 <= column + right < width
                    if inside and (down or right):
                        weight = 1 / 12 if down and right else 1 / 6
                        system[pixel, pixel] += weight
                        system[pixel, (row + down) * width + column + right] -= weight
    return np.linalg.solve(system, known).T.reshape(image.shape)


@pytest.mark.parametrize("shape", [(1, 9), (7, 1), (2, 3), (10, 12), (16, 5)])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.95])
def test_is_the_dense_solution(shape: tuple[int, int], share: float) -> None:
    generator = np.random.default_rng(0)
    image = generator.random((3, *shape))
    hidden = generator.permutation(image[0].size).reshape(shape) < int(share * image[0].size)
    result = impute(image, hidden)
    np.testing.assert_allclose(result, dense_imputation(image, hidden), rtol=0, atol=1e-10)
    assert np.array_equal(result[:, ~hidden], image[:, ~hidden])


def test_a_large_hole_is_solved_to_rounding() -> None:
    image = np.random.default_rng(1).random((2, 120, 90))
    hidden = np.zeros((120, 90), dtype=bool)
    hidden[3:115, :80] = True
    result = impute(image, hidden)
    weights = np.array([[1, 2, 1], [2, 0, 2], [1, 2, 1]]) / 12
    padded, inside = np.pad(result, ((0, 0), (1, 1), (1, 1))), np.pad(np.ones((120, 90)), 1)
    windows = [(weights[i, j], slice(i, i + 120), slice(j, j + 90)) for i in range(3) for j in range(3)]
    means = sum(w * padded[:, i, j] for w, i, j in windows) / sum(w * inside[i, j] for w, i, j in windows)
    np.testing.assert_allclose(means[:, hidden], result[:, hidden], rtol=0, atol=1e-12)


def test_a_plane_away_from_the_border_is_restored() -> None:
    plane = np.add.outer(0.1 * np.arange(9), 0.2 * np.arange(8))[None]
    hidden = np.zeros((9, 8), dtype=bool)
    hidden[1:8, 1:7] = True
    np.testing.assert_allclose(impute(plane, hidden), plane, rtol=0, atol=1e-12)


def test_nothing_hidden_and_everything_hidden() -> None:
    image = np.random.default_rng(2).random((3, 4, 5))
    assert np.array_equal(impute(image, np.zeros((4, 5), dtype=bool)), image)
    with pytest.raises(ValueError, match="no pixel is visible"):
        impute(image, np.ones((4, 5), dtype=bool))


@pytest.mark.parametrize("suffix", ["", "_abs"])
def test_is_the_plain_loop(suffix: str, batch: Callable[..., Evaluation], network: Any) -> None:
    evaluation = batch()
    result = road(evaluation)
    for row, image in enumerate(evaluation.images):
        saliency = evaluation.maps[row].abs() if suffix else evaluation.maps[row]
        rising = saliency.flatten().argsort().tolist()
        stream = evaluation.streams("road")[row]
        played: dict[str, list[tuple[float, bool]]] = {"morf": [], "lerf": []}
        for share, percentage in enumerate(PERCENTAGES):
            count = int(len(rising) * percentage / 100)
            noise = 0.01 * stream.generator(share).standard_normal(tuple(image.shape))
            for game, order in (("morf", rising[::-1]), ("lerf", rising)):
                hidden = np.zeros(len(rising), dtype=bool)
                hidden[order[:count]] = True
                hidden = hidden.reshape(saliency.shape)
                point = dense_imputation(image.numpy(), hidden) + np.where(hidden, noise, 0.0)
                logits = network(torch.from_numpy(point)[None])[0]
                target = int(evaluation.targets[row])
                played[game].append((float(logits.softmax(dim=0)[target]), int(logits.argmax()) == target))
        morf, lerf = np.array(played["morf"], dtype=float), np.array(played["lerf"], dtype=float)
        for kind, name in enumerate(("road", "road_accuracy")):
            expected = {f"{name}_gap{suffix}": lerf[:, kind] - morf[:, kind]}
            if not suffix:
                expected |= {f"{name}_morf": morf[:, kind], f"{name}_lerf": lerf[:, kind]}
            for column, curve in expected.items():
                np.testing.assert_allclose(result.curves[f"{column}_curve"][row], curve, rtol=0, atol=1e-9)
                assert result.columns[column][row] == pytest.approx(curve.mean(), abs=1e-9)
    assert np.ptp(result.curves["road_gap_curve"]) > 0.3  # else the comparison would say nothing


def test_turning_the_map_round_changes_the_sign(batch: Callable[..., Evaluation]) -> None:
    forth, back = road(batch()), road(batch(maps=-batch().maps))
    for name in ("road", "road_accuracy"):
        np.testing.assert_allclose(back.columns[f"{name}_gap"], -forth.columns[f"{name}_gap"], rtol=0, atol=1e-12)
        np.testing.assert_allclose(back.columns[f"{name}_lerf"], forth.columns[f"{name}_morf"], rtol=0, atol=1e-12)
        assert np.array_equal(back.columns[f"{name}_gap_abs"], forth.columns[f"{name}_gap_abs"])


def test_random_maps_score_about_zero(batch: Callable[..., Evaluation]) -> None:
    generator = torch.Generator().manual_seed(5)
    gaps = []
    for _ in range(12):
        result = road(batch(maps=torch.rand(5, 10, 12, generator=generator)), orders="signed")
        gaps.append([result.columns["road_gap"], result.columns["road_accuracy_gap"]])
    means = np.mean(gaps, axis=2)
    assert (np.abs(means.mean(axis=0)) < 3 * means.std(axis=0) / np.sqrt(len(means))).all()
    assert (np.abs(means.mean(axis=0)) < 0.1).all()


def test_exact_attributions_have_a_gap(batch: Callable[..., Evaluation], linear: nn.Module) -> None:
    weight = linear.requires_grad_(False).weight
    evaluation = batch(forward=linear, targets=torch.zeros(5).long())
    contrast = weight[0] - weight[1:].mean(dim=0)
    maps = (contrast * (evaluation.images - evaluation.images.mean(dim=(2, 3), keepdim=True))).sum(dim=1)
    gap = road(batch(forward=linear, targets=torch.zeros(5).long(), maps=maps.float())).columns["road_gap"]
    assert (gap > 0.3).all()


@pytest.mark.parametrize("percentages", [[0], [10, 100], [-5]])
def test_percentages_that_leave_nothing_to_compare_are_refused(percentages: list[int]) -> None:
    with pytest.raises(UsageError) as error:
        METRICS["road"].parse({"percentages": percentages})
    assert error.value.field == "metrics.road.percentages"


@pytest.mark.parametrize("shape", [(1, 9), (7, 1), (2, 3), (10, 12), (16, 5), (33, 50)])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.95])
def test_a_devices_solver_agrees_with_the_direct_one(shape: tuple[int, int], share: float) -> None:
    generator = np.random.default_rng(3)
    images = generator.random((4, 3, *shape))
    hidden = np.stack(
        [generator.permutation(images[0, 0].size).reshape(shape) < int(share * images[0, 0].size) for _ in images]
    )
    result = impute_all(torch.from_numpy(images), torch.from_numpy(hidden)).numpy()
    for image, mask, imputed in zip(images, hidden, result, strict=True):
        np.testing.assert_allclose(imputed, impute(image, mask), rtol=0, atol=1e-7)
        assert np.array_equal(imputed[:, ~mask], image[:, ~mask])


def test_a_devices_solver_fills_large_holes_that_end_anywhere() -> None:
    generator = np.random.default_rng(4)
    images = generator.random((3, 2, 120, 90))
    hidden = np.zeros((3, 120, 90), dtype=bool)
    hidden[0, 3:115, :80] = True
    hidden[1, 1:] = True
    hidden[2] = True
    hidden[2, 60, 45] = False
    result = impute_all(torch.from_numpy(images), torch.from_numpy(hidden)).numpy()
    for image, mask, imputed in zip(images, hidden, result, strict=True):
        np.testing.assert_allclose(imputed, impute(image, mask), rtol=0, atol=1e-6)


@pytest.mark.parametrize(("at_once", "steps"), [(1, 500), (5, 500), (1000, 500), (5, 2)])
def test_numbers_on_a_device_are_those_of_the_host_whether_it_converges_or_not(
    at_once: int, steps: int, batch: Callable[..., Evaluation], monkeypatch: pytest.MonkeyPatch
) -> None:
    maps = batch().maps
    maps[3] = maps[3].abs()
    host = road(batch(maps=maps))
    monkeypatch.setattr(module, "_on_host", module._on_device)
    monkeypatch.setattr(device_imputation, "MOST_STEPS", steps)
    monkeypatch.setattr(module, "_SOLVED_VALUES", at_once * maps[0].numel() * 3)
    device = road(batch(maps=maps))
    assert device.excluded == host.excluded
    for name, values in {**host.columns, **host.curves}.items():
        np.testing.assert_allclose({**device.columns, **device.curves}[name], values, rtol=0, atol=1e-5)
