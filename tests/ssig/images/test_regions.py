"""Segmentation: settings that mean the same for every image, labels that are remembered, means that keep the sum."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ssig.images.regions import (
    REMEMBERED,
    SEGMENTATIONS,
    _labels_by_call,
    felzenszwalb,
    means,
    pictures,
    remembered,
    slic,
)


def halves(height: int = 40, width: int = 60) -> np.ndarray:
    """(H, W, 3): green left, violet right."""
    image = np.zeros((height, width, 3))
    image[:, : width // 2] = 0.2, 0.8, 0.3
    image[:, width // 2 :] = 0.6, 0.1, 0.7
    return image


@pytest.mark.parametrize("kind", SEGMENTATIONS)
def test_two_colours_are_never_in_one_segment(kind: str) -> None:
    (labels,) = SEGMENTATIONS[kind](halves())
    assert labels.shape == (40, 60)
    assert not set(labels[:, :29].ravel()) & set(labels[:, 31:].ravel())


def test_felzenszwalb_finds_one_segment_in_each_of_two_colours() -> None:
    labels = felzenszwalb(halves(224, 224), (50.0, 1200.0))
    assert labels.shape == (2, 224, 224)
    for at_scale in labels:
        # Away from the border between them, which is blurred before.
        left, right = (np.unique(half) for half in (at_scale[:, :105], at_scale[:, 119:]))
        assert len(left) == len(right) == 1
        assert left != right


def test_felzenszwalb_is_the_same_for_any_range_of_values() -> None:
    image = np.random.default_rng(0).random((32, 24, 3)).cumsum(axis=0)
    assert np.array_equal(felzenszwalb(image), felzenszwalb(4 * image - 8))


def test_greater_scales_have_fewer_segments() -> None:
    image = np.random.default_rng(1).random((64, 64, 3)).cumsum(axis=0).cumsum(axis=1)
    fine, coarse = (len(np.unique(labels)) for labels in felzenszwalb(image, (10.0, 5000.0)))
    assert fine > coarse


@pytest.mark.parametrize("kind", SEGMENTATIONS)
@pytest.mark.parametrize("shape", [(1, 1, 3), (3, 7, 1), (10, 12, 3)])
@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_even_and_tiny_images(kind: str, shape: tuple[int, ...], value: float) -> None:
    labels = SEGMENTATIONS[kind](np.full(shape, value))
    assert labels.shape == (1, *shape[:2])
    if kind == "felzenszwalb":
        assert (labels == labels[0, 0, 0]).all()


def test_slic_has_about_as_many_segments_as_asked() -> None:
    rows, columns = np.mgrid[:64, :64] / 64
    image = np.stack([rows, columns, rows * columns], axis=-1)
    for count in (10, 30, 100):
        assert 0.6 * count <= len(np.unique(slic(image, count))) <= 1.4 * count


def test_labels_are_remembered_by_content() -> None:
    image = np.random.default_rng(3).random((16, 16, 3))
    labels = slic(image)
    assert slic(image.copy()) is labels
    assert slic(image, 5) is not labels
    assert felzenszwalb(image) is not labels
    assert slic(image + 1e-9) is not labels
    assert not labels.flags.writeable


def test_no_more_is_remembered_than_two_units() -> None:
    whole = remembered(lambda image: np.zeros(image.shape, dtype=np.uint16))
    for value in range(REMEMBERED + 5):
        whole(np.full((2, 2), float(value)))
    assert _labels_by_call.cache_info().currsize == REMEMBERED


def test_means_keep_the_sum_and_even_out_once() -> None:
    values = np.random.default_rng(4).normal(size=(10, 12))
    labels = np.random.default_rng(5).integers(0, 9, (10, 12)).astype(np.uint16) * 3
    found = means(values, labels)
    assert found.sum() == pytest.approx(values.sum())
    for label in np.unique(labels):
        assert found[labels == label] == pytest.approx(values[labels == label].mean())
    assert means(found, labels) == pytest.approx(found)


def test_what_is_not_a_number_stays_in_its_segment() -> None:
    values, labels = np.zeros((2, 4)), np.repeat([[0, 1]], 2, axis=1).repeat(2, axis=0).astype(np.uint16)
    values[0, 0] = np.nan
    assert np.array_equal(np.isnan(means(values, labels)), labels == 0)


def test_pictures_have_their_channels_last(images: torch.Tensor) -> None:
    found = pictures(images)
    assert len(found) == 5
    assert np.array_equal(found[2], images[2].permute(1, 2, 0).numpy())
