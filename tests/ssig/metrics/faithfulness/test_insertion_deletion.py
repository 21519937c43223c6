"""Insertion, deletion and their difference: closed forms, and the protocols as slow plain loops."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any

import numpy as np
import published_protocols as references
import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor
from torch.nn.functional import conv2d
from torchvision.transforms.v2.functional import gaussian_blur

from ssig.metrics.faithfulness.curves import MISCLASSIFIED, CurveOptions, area
from ssig.registry import METRICS
from ssig.types import Evaluation, MetricResult


def compute(metric: str, evaluation: Evaluation, given: Mapping[str, Any]) -> MetricResult:
    spec = METRICS[metric]
    return spec.compute(evaluation, spec.parse(given))


def order_of(saliency: Tensor) -> list[int]:
    """Pixels by falling saliency, ties by raster index."""
    flat = saliency.flatten().tolist()
    return sorted(range(len(flat)), key=lambda pixel: (-flat[pixel], pixel))


def plain_curve(
    probability: Callable[[Tensor], float], saliency: Tensor, start: Tensor, finish: Tensor, counts: list[int]
) -> list[float]:
    """The definition: one image, one pixel at a time."""
    current, order = start.clone().flatten(1), order_of(saliency)
    scores = [probability(current.view_as(start))]
    for begin, end in pairwise(counts):
        for pixel in order[begin:end]:
            current[:, pixel] = finish.flatten(1)[:, pixel]
        scores.append(probability(current.view_as(start)))
    return scores


def in_pixel_space(network: Any, target: Tensor) -> Callable[[Tensor], float]:
    return lambda image: float(network(image[None]).softmax(dim=1)[0, target])


@pytest.mark.parametrize("step", [1, 7])
def test_linear_network_has_a_closed_form(step: int, batch: Callable[..., Evaluation], images: Tensor) -> None:
    weight = torch.randn(images.shape[1:], generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    contributions = (weight * images).sum(dim=1)

    def forward(points: Tensor) -> Tensor:
        logit = (weight * points).sum(dim=(1, 2, 3))
        return torch.stack([torch.zeros_like(logit), logit], dim=1)

    evaluation = batch(forward=forward, maps=contributions.float(), targets=torch.ones(5, dtype=torch.int64))
    protocol = {"pixels_per_step": step}
    pixels = contributions[0].numel()
    falling = contributions.flatten(1).sort(dim=1, descending=True).values
    shown = torch.cat([torch.zeros(5, 1).double(), falling.cumsum(dim=1)], dim=1)[:, [*range(0, pixels, step), pixels]]
    inserted = compute("insertion", evaluation, {**protocol, "start": "black"}).curves["insertion_curve"]
    deleted = compute("deletion", evaluation, {**protocol, "fill": "black"}).curves["deletion_curve"]
    np.testing.assert_allclose(inserted, shown.sigmoid(), rtol=0, atol=1e-6)
    np.testing.assert_allclose(deleted, (shown[:, -1:] - shown).sigmoid(), rtol=0, atol=1e-6)
    logits = compute("insertion", evaluation, {**protocol, "start": "black", "score": "logit"})
    np.testing.assert_allclose(logits.curves["insertion_curve"], shown, rtol=0, atol=1e-6)


@pytest.mark.parametrize("column", ["insertion", "insertion_abs", "deletion", "deletion_abs"])
def test_default_protocol_is_the_plain_loop(column: str, batch: Callable[..., Evaluation], network: Any) -> None:
    evaluation = batch()
    metric, _, absolute = column.partition("_")
    counts = [step * 120 // 28 for step in range(29)]
    result = compute(metric, evaluation, {})
    blurred = gaussian_blur(pad_reflected(evaluation.images, 31), [31, 31], [10.0, 10.0])[..., 31:-31, 31:-31]
    grey = evaluation.mean.view(1, 3, 1, 1).expand_as(blurred)
    for row, image in enumerate(evaluation.images):
        start, finish = (blurred[row], image) if metric == "insertion" else (image, grey[row])
        saliency = evaluation.maps[row].abs() if absolute else evaluation.maps[row]
        probability = in_pixel_space(network, evaluation.targets[row])
        curve = plain_curve(probability, saliency, start, finish, counts)
        np.testing.assert_allclose(result.curves[f"{column}_curve"][row], curve, rtol=0, atol=1e-10)
        expected = np.trapezoid(curve, np.array(counts) / 120)
        assert result.columns[column][row] == pytest.approx(expected, abs=1e-10)
    assert np.ptp(result.curves[f"{column}_curve"]) > 0.3  # else the comparison would say nothing


def pad_reflected(images: Tensor, width: int) -> Tensor:
    """Reflected at the borders as often as needed, by walking back and forth."""

    def walk(size: int) -> list[int]:
        there_and_back = [*range(size), *range(size - 2, 0, -1)]
        return [there_and_back[i % len(there_and_back)] for i in range(-width, size + width)]

    return images[..., walk(images.shape[-2]), :][..., walk(images.shape[-1])]


@pytest.mark.parametrize("metric", ["insertion", "deletion"])
def test_rise_preset_is_rises_evaluation(metric: str, batch: Callable[..., Evaluation], network: Any) -> None:
    evaluation, block = batch(), 7  # 120 pixels: the last block is smaller
    result = compute(metric, evaluation, {"preset": "rise", "pixels_per_step": block})
    normalised = (evaluation.images - evaluation.mean.view(-1, 1, 1)) / evaluation.std.view(-1, 1, 1)
    delta = np.zeros((11, 11))
    delta[5, 5] = 1
    kernel = torch.from_numpy(gaussian_filter(delta, 5)).expand(3, 1, 11, 11)
    for row, image in enumerate(normalised):
        target = evaluation.targets[row]
        start = conv2d(image[None], kernel, padding=5, groups=3)[0] if metric == "insertion" else image
        finish = image if metric == "insertion" else torch.zeros_like(image)
        curve = plain_curve(
            lambda point, target=target: float(network.normalised(point[None]).softmax(dim=1)[0, target]),
            evaluation.maps[row],
            start,
            finish,
            [*range(0, 120, block), 120],
        )
        steps = len(curve) - 1
        expected = (sum(curve) - curve[0] / 2 - curve[-1] / 2) / steps
        assert steps == 18
        np.testing.assert_allclose(result.curves[f"{metric}_curve"][row], curve, rtol=0, atol=1e-6)
        assert result.columns[metric][row] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("metric", ["insertion", "deletion"])
def test_idg_preset_is_rises_evaluation_of_the_magnitude_of_correctly_classified_images(
    metric: str, batch: Callable[..., Evaluation], network: Any
) -> None:
    targets, block = batch().targets.clone(), 7
    targets[2] = (targets[2] + 1) % 5
    evaluation = batch(targets=targets)
    result = compute(metric, evaluation, {"preset": "idg", "pixels_per_step": block})
    normalised = ((evaluation.images - evaluation.mean.view(-1, 1, 1)) / evaluation.std.view(-1, 1, 1)).numpy()
    for row in (0, 1, 3, 4):
        image = normalised[row]
        start, finish = (references.rise_blur(image), image) if metric == "insertion" else (image, 0 * image)
        curve, expected = references.rise(
            lambda points: network.normalised(torch.from_numpy(points)).numpy(),
            evaluation.maps[row].abs().numpy(),
            int(targets[row]),
            start,
            finish,
            block,
        )
        np.testing.assert_allclose(result.curves[f"{metric}_abs_curve"][row], curve, rtol=0, atol=1e-10)
        assert result.columns[f"{metric}_abs"][row] == pytest.approx(expected, abs=1e-10)
    assert np.isnan(result.columns[metric]).all()
    assert result.excluded[2][f"{metric}_abs"] == MISCLASSIFIED
    assert "order not computed" in result.excluded[2][metric]
    gap = compute("insertion_deletion_gap", evaluation, {"preset": "idg", "pixels_per_step": block})
    assert np.isnan(gap.columns["insertion_deletion_gap_abs"]).tolist() == [False, False, True, False, False]


@pytest.mark.parametrize("metric", ["insertion", "deletion"])
def test_xplique_preset(metric: str, batch: Callable[..., Evaluation], network: Any) -> None:
    evaluation = batch()
    expected = references.xplique(
        lambda points: network(torch.from_numpy(points)).numpy(),
        evaluation.images.numpy(),
        evaluation.maps.numpy(),
        evaluation.targets.tolist(),
        deletion=metric == "deletion",
    )
    result = compute(metric, evaluation, {"preset": "xplique"})
    assert result.columns[metric].mean() == pytest.approx(expected, abs=1e-10)
    assert result.curves[f"{metric}_curve"].shape == (5, 11)


def test_presets_of_the_gap_are_those_of_both_games(batch: Callable[..., Evaluation], network: Any) -> None:
    evaluation = batch()
    for preset in ("rise", "idg", "xplique"):
        given = {"preset": preset, "orders": "both", "pixels_per_step": None}
        inserted, deleted = compute("insertion", evaluation, given), compute("deletion", evaluation, given)
        spent = sum(network.calls)
        gap = compute("insertion_deletion_gap", evaluation, given).columns["insertion_deletion_gap"]
        assert sum(network.calls) == spent
        assert np.array_equal(gap, inserted.columns["insertion"] - deleted.columns["deletion"])


@pytest.mark.parametrize("normalised", [False, True])
def test_insertion_score_preset(normalised: bool, batch: Callable[..., Evaluation], network: Any) -> None:
    evaluation = batch()
    result = compute("insertion", evaluation, {"preset": "insertion-score", "normalised": normalised})
    counts = [int(fraction) for fraction in np.arange(0, 1.05, 0.05) * 120]
    for row, image in enumerate(evaluation.images):
        probability = in_pixel_space(network, evaluation.targets[row])
        curve = np.array(plain_curve(probability, evaluation.maps[row], torch.zeros_like(image), image, counts))
        expected = np.trapezoid(curve / curve[-1] if normalised else curve, dx=0.05)
        assert result.columns["insertion"][row] == pytest.approx(expected, abs=1e-5)


def test_normalised_curves_are_one_on_the_whole_image(batch: Callable[..., Evaluation]) -> None:
    evaluation = batch()
    inserted = compute("insertion", evaluation, {"normalised": True})
    deleted = compute("deletion", evaluation, {"normalised": True})
    np.testing.assert_allclose(inserted.curves["insertion_curve"][:, -1], 1)
    np.testing.assert_allclose(deleted.curves["deletion_abs_curve"][:, 0], 1)


def test_an_impossible_target_has_no_normalised_curve(batch: Callable[..., Evaluation]) -> None:
    def forward(points: Tensor) -> Tensor:
        return torch.tensor([[0.0, 2000.0]]).expand(len(points), -1)

    evaluation = batch(forward=forward, targets=torch.zeros(5, dtype=torch.int64))
    assert compute("insertion", evaluation, {}).columns["insertion"].tolist() == [0] * 5
    result = compute("insertion", evaluation, {"normalised": True})
    assert np.isnan(result.columns["insertion"]).all()
    assert all("score to divide by is 0" in reasons["insertion"] for reasons in result.excluded)


def test_ties_go_by_raster_index_where_that_is_asked(batch: Callable[..., Evaluation]) -> None:
    raster = torch.arange(120, 0, -1).float().view(1, 10, 12).expand(5, -1, -1)
    falling, by_place = compute("insertion", batch(maps=raster), {}), {"ties": "raster"}
    zeros = torch.zeros_like(raster).clone()
    zeros[:, ::2] = -0.0
    for tied in (torch.full_like(raster, 2.0), torch.full_like(raster, -2.0), zeros):
        assert np.array_equal(
            compute("insertion", batch(maps=tied), by_place).curves["insertion_curve"],
            falling.curves["insertion_curve"],
        )


@pytest.mark.parametrize("metric", ["insertion", "deletion", "insertion_deletion_gap", "diffid"])
def test_magnitude_order_costs_nothing_for_maps_without_signs(
    metric: str, batch: Callable[..., Evaluation], network: Any, spared: Callable[[str], int]
) -> None:
    maps = batch().maps.abs()
    signed_only = METRICS[metric].parse({"orders": "signed"})
    result = compute(metric, batch(maps=maps), {})
    assert sum(network.calls) == 5 * METRICS[metric].forwards(signed_only) - spared(metric)
    assert np.array_equal(result.columns[metric], result.columns[f"{metric}_abs"])
    maps[3] *= -1e-6
    mixed = compute(metric, batch(maps=maps), {})
    assert np.array_equal(mixed.columns[metric] == mixed.columns[f"{metric}_abs"], [True, True, True, False, True])
    np.testing.assert_allclose(mixed.columns[f"{metric}_abs"], result.columns[f"{metric}_abs"], rtol=0, atol=1e-12)


def test_gap_shares_the_curves_of_its_own_protocol(batch: Callable[..., Evaluation], network: Any) -> None:
    evaluation = batch()
    inserted, deleted = compute("insertion", evaluation, {}), compute("deletion", evaluation, {})
    spent = sum(network.calls)
    gap = compute("insertion_deletion_gap", evaluation, {})
    assert sum(network.calls) == spent
    for suffix in ("", "_abs"):
        expected = inserted.columns[f"insertion{suffix}"] - deleted.columns[f"deletion{suffix}"]
        assert np.array_equal(gap.columns[f"insertion_deletion_gap{suffix}"], expected)


def test_gap_of_another_protocol_is_its_own(batch: Callable[..., Evaluation], network: Any) -> None:
    evaluation = batch()
    protocol = {"steps": 10, "fill": "black"}
    compute("insertion", evaluation, {})
    compute("deletion", evaluation, {})
    spent = sum(network.calls)
    gap = compute("insertion_deletion_gap", evaluation, protocol)
    interior, blur, black = 5 * 2 * 2 * 9, 0, 1  # the blurred images were evaluated for insertion
    assert sum(network.calls) == spent + interior + blur + black
    assert np.array_equal(
        gap.columns["insertion_deletion_gap"],
        compute("insertion_deletion_gap", batch(), protocol).columns["insertion_deletion_gap"],
    )


def test_protocols_in_one_batch_keep_apart(batch: Callable[..., Evaluation]) -> None:
    evaluation = batch()
    protocols = ({}, {"start": "black"}, {"blur_sigma": 1.0}, {"blur_kernel": 3}, {"steps": 10}, {"score": "logit"})
    for protocol in protocols:
        together, alone = compute("insertion", evaluation, protocol), compute("insertion", batch(), protocol)
        assert np.array_equal(together.curves["insertion_curve"], alone.curves["insertion_curve"])


def test_more_steps_than_pixels_repeat_points(batch: Callable[..., Evaluation]) -> None:
    exact = compute("insertion", batch(), {"pixels_per_step": 1})
    fine = compute("insertion", batch(), {"steps": 240})
    np.testing.assert_allclose(fine.columns["insertion"], exact.columns["insertion"], rtol=0, atol=1e-12)


def test_area_counts_a_smaller_last_step_by_its_pixels_or_as_a_step() -> None:
    curve = np.array([[0.0, 0.0, 1.0]])
    by_fraction = METRICS["insertion"].parse({"pixels_per_step": 8})
    by_steps = METRICS["insertion"].parse({"pixels_per_step": 8, "area": "steps"})
    assert isinstance(by_steps, CurveOptions)
    assert area(curve, 10, by_fraction) == pytest.approx([0.1])
    assert area(curve, 10, by_steps) == pytest.approx([0.25])
