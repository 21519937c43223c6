"""MaxBoxAcc: the benchmark's worked cases, a sweep of its thresholds one by one, and the accuracy of a data set."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy import ndimage

from ssig.metrics.localization.max_box_acc import best_shares, box_ious, grey_levels
from ssig.metrics.shared.content import parts_by_content
from ssig.registry import METRICS
from ssig.types import Evaluation, MetricResult

METRIC = METRICS["max_box_acc"]
TAUS = np.arange(0, 1, 0.001)
V1, V2 = "max_box_iou_v1_vector", "max_box_iou_v2_vector"
Pixels = list[tuple[int, int]]

# Clockwise from the left, as (row, column).
AROUND = [(0, -1), (-1, -1), (-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1)]


def outline(region: np.ndarray) -> Pixels:
    """The border of a region (H, W) bool as it is walked around clockwise from its first pixel, which comes again."""
    start = tuple(int(at) for at in np.argwhere(region)[0])
    padded = np.pad(region, 1)
    walk: Pixels = [start]
    here, facing, begun = start, 0, None
    while True:
        for turn in range(8):
            way = (facing + turn) % 8
            there = (here[0] + AROUND[way][0], here[1] + AROUND[way][1])
            if padded[there[0] + 1, there[1] + 1]:
                break
        else:
            return walk
        if (here, way) == begun:
            return walk
        begun = begun or (here, way)
        walk.append(there)
        # The next search begins after the pixel that one comes from.
        here, facing = there, (way + 5) % 8


def enclosed(walk: Pixels) -> float:
    """Area of the polygon that a closed walk encloses."""
    rows, columns = np.array(walk).T
    return abs(float((rows[:-1] * columns[1:] - rows[1:] * columns[:-1]).sum())) / 2


def box_of(region: np.ndarray) -> tuple[int, ...]:
    """x0, y0, x1, y1 of a contour, one pixel longer than it is where the image goes on."""
    rows, columns = np.nonzero(region)
    height, width = region.shape
    return columns.min(), rows.min(), min(columns.max() + 1, width - 1), min(rows.max() + 1, height - 1)


def swept_boxes(above: np.ndarray) -> tuple[tuple[int, ...], list[tuple[int, ...]]]:
    """The box of the contour of largest area, and those of all contours, of the pixels above a threshold."""
    labels, count = ndimage.label(above, np.ones((3, 3)))
    regions = [labels == number for number in range(1, count + 1)]
    areas = [enclosed(outline(region)) for region in regions]
    largest = max(range(count), key=lambda number: (areas[number], number))
    boxes = [box_of(region) for region in regions]
    dark, holes = ndimage.label(~np.pad(above, 1))
    for number in range(1, holes + 1):
        hole = dark == number
        if not hole[0, 0]:
            boxes.append(box_of((ndimage.binary_dilation(hole) & ~hole)[1:-1, 1:-1]))
    return boxes[largest], boxes


def iou(found: tuple[int, ...], box: tuple[float, ...], shape: tuple[int, ...]) -> float:
    height, width = shape
    x0, y0, x1, y1 = int(box[0]), int(box[1]), min(int(box[2]), width - 1), min(int(box[3]), height - 1)
    across = min(found[2], x1) - max(found[0], x0) + 1
    down = min(found[3], y1) - max(found[1], y0) + 1
    common = max(across, 0) * max(down, 0)
    areas = (found[2] - found[0] + 1) * (found[3] - found[1] + 1) + (x1 - x0 + 1) * (y1 - y0 + 1)
    return common / (areas - common)


def swept(magnitude: np.ndarray, boxes: list[tuple[float, ...]]) -> np.ndarray:
    """(2, 1000) IoU_1 and IoU_2 at the benchmark's thresholds, one after the other."""
    scaled = (magnitude - magnitude.min()) / (magnitude.max() - magnitude.min())
    grey = (scaled * 255).astype(np.uint8)

    @functools.cache
    def at(level: int) -> tuple[float, float]:
        largest, every = swept_boxes(grey > level)
        return (
            max(iou(largest, box, grey.shape) for box in boxes),
            max(iou(found, box, grey.shape) for found in every for box in boxes),
        )

    return np.array([at(int(tau * 255)) for tau in TAUS]).T


def noise(shape: tuple[int, int], sigma: float, seed: int, levels: int = 0) -> np.ndarray:
    values = np.abs(ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal(shape), sigma))
    return np.floor(values / values.max() * levels) if levels else values


@pytest.mark.parametrize(
    "magnitude",
    [
        noise((13, 17), 0, 1),
        noise((13, 17), 0, 2, levels=4),
        noise((16, 12), 0.7, 3),
        noise((16, 12), 0.7, 4, levels=6),
        noise((20, 22), 1.5, 5),
        noise((14, 3), 0, 6),
        noise((1, 9), 0, 7),
        noise((9, 1), 0, 8),
    ],
    ids=lambda magnitude: "x".join(map(str, magnitude.shape)),
)
def test_is_the_sweep_of_all_thresholds(magnitude: np.ndarray) -> None:
    height, width = magnitude.shape
    boxes = [(0.4, 0.6, 0.7 * width, 0.8 * height), (0.3 * width, 0.2 * height, float(width), float(height))]
    found = box_ious(grey_levels(magnitude), boxes)
    assert found.shape == (2, 255)
    levels = [int(tau * 255) for tau in TAUS]
    assert sorted(set(levels)) == list(range(255))
    np.testing.assert_array_equal(found[:, levels], swept(magnitude, boxes))


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        (
            [[0, 0, 0, 0, 0], [0, 4, 4, 4, 6], [0, 4, 10, 8, 6], [0, 4, 4, 4, 6]],
            [(1, 1, 4, 3), (1, 1, 4, 3), (2, 1, 4, 3), (2, 2, 4, 3), (2, 2, 3, 3)],
        ),
        (
            [[4, 0, 2, 2, 2], [4, 4, 0, 4, 0], [0, 0, 0, 4, 0], [10, 6, 8, 2, 2]],
            [(0, 0, 4, 3), (0, 0, 2, 2), (0, 3, 3, 3), (2, 3, 3, 3), (0, 3, 1, 3)],
        ),
    ],
    ids=["one mode", "several modes"],
)
def test_largest_contours_are_those_of_the_benchmarks_own_tests(
    scores: list[list[int]], expected: list[tuple[int, ...]]
) -> None:
    """The score maps of evaluation_test.py of clovaai/wsolevaluation in tenths, and the boxes that OpenCV gives."""
    grey = grey_levels(np.array(scores) / 10)
    for tau, box in zip(np.arange(0, 1, 0.2), expected, strict=True):
        assert box_ious(grey, [box])[0, int(tau * 255)] == 1


def test_all_contours_are_those_of_holes_and_of_what_lies_in_them() -> None:
    magnitude = np.zeros((16, 18))
    magnitude[2:13, 1:14] = 1
    magnitude[4:11, 3:12] = 0.3
    magnitude[6:8, 5:9] = 0.8
    grey = grey_levels(magnitude)
    ring, around_hole, island, bright = (1, 2, 14, 13), (2, 3, 13, 12), (5, 6, 9, 8), [0, 100, 230]
    every = {box: box_ious(grey, [box])[1, bright] == 1 for box in (ring, around_hole, island)}
    assert {box: ious.tolist() for box, ious in every.items()} == {
        ring: [True, True, True],
        around_hole: [False, True, True],
        island: [False, True, False],
    }
    assert (box_ious(grey, [ring])[0] == 1).all()


def test_a_line_is_smaller_than_a_triangle() -> None:
    magnitude = np.zeros((9, 12))
    magnitude[0, :9] = magnitude[5, 2] = magnitude[6, 2:4] = 1
    assert (box_ious(grey_levels(magnitude), [(2.0, 5.0, 4.0, 7.0)]) == 1).all()


def test_an_object_box_is_cut_to_integers_and_to_the_image() -> None:
    magnitude = np.zeros((10, 12))
    magnitude[4:, 3:] = 1
    assert (box_ious(grey_levels(magnitude), [(3.9, 4.2, 12.0, 10.0)]) == 1).all()


def with_boxes(batch: Callable[..., Evaluation]) -> Evaluation:
    return batch(boxes=(((3.0, 2.0, 9.0, 6.0),), ((0.0, 0.0, 12.0, 10.0),), "no boxes", "no boxes", "no boxes"))


def test_boxes_then_the_mask_then_the_reason(batch: Callable[..., Evaluation]) -> None:
    usual = with_boxes(batch)
    mask = usual.masks[0]
    evaluation = dataclasses.replace(usual, masks=(mask, mask, mask, ~mask & False, "no boxes"))
    result = METRIC.compute(evaluation, METRIC.parse({}))
    magnitudes = evaluation.maps.abs().double().numpy()
    for row, box in enumerate([(3, 2, 9, 6), (0, 0, 12, 10), (3, 2, 9, 6)]):
        expected = box_ious(grey_levels(magnitudes[row]), [box])
        np.testing.assert_array_equal([result.vectors[V1][row], result.vectors[V2][row]], expected)
        assert result.columns["max_box_iou_v1"][row] == expected[0].max()
        assert result.columns["max_box_iou_v2"][row] == expected[1].max()
    assert result.columns["max_box_iou_v1"][1] == 1  # both boxes are the whole image
    for row, reason in ((3, "object is outside the input"), (4, "no boxes")):
        assert result.excluded[row] == dict.fromkeys(METRIC.columns, reason)
        assert np.isnan(result.vectors[V1][row]).all()
        assert np.isnan(result.vectors[V2][row]).all()


def test_maps_that_point_nowhere_are_excluded(batch: Callable[..., Evaluation]) -> None:
    maps = batch().maps.clone()
    maps[0], maps[1] = -0.5, 0.0
    result = METRIC.compute(batch(maps=maps), METRIC.parse({}))
    reasons = ["map is constant", "map is all zero"]
    assert [reason["max_box_iou_v1"] for reason in result.excluded[:2]] == reasons
    assert not any(result.excluded[2:])


def test_a_batch_is_its_images(batch: Callable[..., Evaluation]) -> None:
    evaluation = with_boxes(batch)
    together = METRIC.compute(evaluation, METRIC.parse({}))
    for row in range(len(evaluation)):
        changes = {name: getattr(evaluation, name)[row : row + 1] for name in ("images", "maps", "targets", "masks")}
        alone: MetricResult = METRIC.compute(
            dataclasses.replace(evaluation, **changes, boxes=evaluation.boxes[row : row + 1]), METRIC.parse({})
        )
        for name, values in {**alone.columns, **alone.vectors}.items():
            np.testing.assert_array_equal(values[0], {**together.columns, **together.vectors}[name][row])


def test_accuracy_is_the_best_of_one_threshold_for_all_images() -> None:
    largest, every = np.zeros((3, 255)), np.zeros((3, 255))
    largest[0, 7] = largest[1, 7] = largest[2, 9] = 0.5
    every[0, 3], every[1, 4], every[2, 4] = 0.7, 0.3, 0.5
    for dtype in (np.float64, np.float32):
        found = METRIC.dataset({V1: largest.astype(dtype), V2: every.astype(dtype)}, METRIC.parse({}))
        assert found["max_box_acc_v1"] == pytest.approx(2 / 3)
        assert found["max_box_acc_v2"] == pytest.approx((2 / 3 + 1 / 3 + 1 / 3) / 3)
    none = METRIC.dataset({V1: largest[:0], V2: every[:0]}, METRIC.parse({}))
    assert np.isnan(list(none.values())).all()
    assert list(none) == list(METRIC.dataset_columns)


def test_perfect_maps_have_accuracy_one(batch: Callable[..., Evaluation]) -> None:
    masks = torch.from_numpy(np.stack(batch().masks))
    result = METRIC.compute(batch(maps=masks.float()), METRIC.parse({}))
    assert METRIC.dataset(result.vectors, METRIC.parse({})) == dict.fromkeys(METRIC.dataset_columns, 1)


def held_out(hits: np.ndarray, fold: np.ndarray) -> float:
    """The definition, image by image."""
    found = []
    for image in range(len(hits)):
        shares = hits[fold != fold[image]].sum(axis=0)
        found.append(hits[image, shares == shares.max()].mean())
    return float(np.mean(found))


def test_an_image_held_out_has_no_say_in_its_threshold() -> None:
    generator = np.random.default_rng(0)
    hits, fold = generator.random((30, 40)) < 0.4, generator.integers(0, 10, 30)
    found = best_shares(hits, np.ones((1, 30)), fold)[:, 0]
    assert found.tolist() == pytest.approx([held_out(hits, fold), hits.mean(axis=0).max()])
    # Copies of an image are held out together.
    times = generator.multinomial(30, np.full(30, 1 / 30))
    drawn = best_shares(hits, times[None], fold)[:, 0]
    hits, fold = hits.repeat(times, axis=0), fold.repeat(times)
    assert drawn.tolist() == pytest.approx([held_out(hits, fold), hits.mean(axis=0).max()])
    alone = best_shares(hits[:1], np.ones((1, 1)), fold[:1])[:, 0]
    assert alone.tolist() == [hits[0].mean(), hits[0].max()]  # nothing tells its threshold


@pytest.mark.parametrize("images", [20, 50, 200])
def test_what_is_held_out_is_not_optimistic(images: int) -> None:
    """Every threshold hits .4 of all images, so that none is better than another."""
    generator, found = np.random.default_rng(images), []
    for _ in range(200):
        # Neighbouring thresholds hit much the same images.
        level = generator.standard_normal((images, 255)).cumsum(axis=1) / np.sqrt(np.arange(1, 256))
        ious = {name: (level > 0.2533).astype(np.float32) for name in (V1, V2)}
        numbers = METRIC.dataset(ious, METRIC.parse({}))
        found.append((numbers["max_box_acc_v1_held_out"], numbers["max_box_acc_v1"]))
    fair, optimistic = np.mean(found, axis=0)
    assert optimistic - 0.4 > 0.7 / np.sqrt(images)
    assert abs(fair - 0.4) < 4 * np.std(found, axis=0)[0] / np.sqrt(len(found))


def test_the_fold_of_an_image_does_not_depend_on_the_others() -> None:
    generator = np.random.default_rng(3)
    ious = {name: generator.random((40, 255)).astype(np.float32) for name in (V1, V2)}
    order = generator.permutation(40)
    mixed = {name: rows[order] for name, rows in ious.items()}
    assert METRIC.dataset(mixed, METRIC.parse({})) == pytest.approx(METRIC.dataset(ious, METRIC.parse({})), abs=1e-12)
    parts = parts_by_content(ious[V1], 0, 10)
    assert np.array_equal(parts_by_content(ious[V1][order][:7], 0, 10), parts[order][:7])
    assert np.bincount(parts, minlength=10).max() < 12
