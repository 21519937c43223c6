"""The images that stand in for hidden pixels, against SciPy and torchvision."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor
from torch.nn.functional import conv2d
from torchvision.transforms.v2.functional import gaussian_blur as torchvision_blur

from ssig.images.blur import gaussian_blur
from ssig.metrics.shared.perturbation import REFERENCES, reference, rise_kernel, sweep_scores
from ssig.types import Evaluation


def rise_kernel_2d() -> np.ndarray:
    """RISE's construction: a delta in 11 x 11 pixels under SciPy's Gaussian filter."""
    delta = np.zeros((11, 11))
    delta[5, 5] = 1
    return gaussian_filter(delta, 5)


def test_rise_kernel_is_scipys() -> None:
    kernel = np.outer(rise_kernel(), rise_kernel())
    np.testing.assert_allclose(kernel, rise_kernel_2d(), rtol=0, atol=1e-7)
    assert kernel.sum() == pytest.approx(1)
    # Published figures: nearly flat, unlike a Gaussian that is cut off.
    assert (kernel[5, 5], kernel[5, 0], kernel[0, 0]) == pytest.approx((0.00883, 0.00827, 0.00774), abs=5e-6)


def test_rise_blur_pads_with_zeros_in_normalised_space(batch: Callable[..., Evaluation]) -> None:
    evaluation = batch()
    mean, std = evaluation.mean.view(-1, 1, 1), evaluation.std.view(-1, 1, 1)
    normalised = (evaluation.images - mean) / std
    kernel = torch.zeros(3, 3, 11, 11, dtype=torch.float64)
    for channel in range(3):
        kernel[channel, channel] = torch.from_numpy(rise_kernel_2d())
    expected = conv2d(normalised, kernel, padding=5) * std + mean
    torch.testing.assert_close(reference(evaluation, "rise-blur", 1.0, 3), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("sigma", "kernel"), [(10.0, 31), (2.0, 7), (0.5, 1)])
def test_blur_is_torchvisions(sigma: float, kernel: int) -> None:
    images = torch.rand(2, 3, 20, 33, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected = torchvision_blur(images, [kernel, kernel], [sigma, sigma])
    torch.testing.assert_close(gaussian_blur(images, sigma, kernel), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("shape", [(1, 1), (5, 2), (8, 40)])
def test_blur_of_images_smaller_than_the_kernel_is_an_average(shape: tuple[int, int]) -> None:
    images = torch.rand(1, 3, *shape, dtype=torch.float64)
    blurred = gaussian_blur(images, 10.0, 31)
    assert blurred.shape == images.shape
    assert (blurred.amin(dim=(2, 3)) >= images.amin(dim=(2, 3)) - 1e-12).all()
    assert (blurred.amax(dim=(2, 3)) <= images.amax(dim=(2, 3)) + 1e-12).all()


@pytest.mark.parametrize("kind", REFERENCES)
def test_references_are_made_once(kind: str, batch: Callable[..., Evaluation]) -> None:
    evaluation = batch()
    first = reference(evaluation, kind, 10.0, 31)
    assert first.shape == evaluation.images.shape
    assert reference(evaluation, kind, 10.0, 31) is first
    assert (reference(evaluation, kind, 5.0, 31) is first) == (kind != "blur")


def test_colours(batch: Callable[..., Evaluation]) -> None:
    evaluation = batch()

    def colour(kind: str) -> Tensor:
        image = reference(evaluation, kind, 10.0, 31)
        assert (image == image[:1, :, :1, :1]).all()
        return image[0, :, 0, 0]

    assert torch.equal(colour("mean"), evaluation.mean)
    assert torch.equal(colour("black"), torch.zeros(3).double())
    assert torch.equal(colour("white"), torch.ones(3).double())


def test_minimum_is_the_lowest_value_of_each_image(batch: Callable[..., Evaluation]) -> None:
    evaluation = batch()
    grey = reference(evaluation, "minimum", 10.0, 31)
    for image, lowest in zip(grey, evaluation.images.flatten(1).amin(dim=1), strict=True):
        assert (image == lowest).all()


@pytest.mark.parametrize(("batch_size", "steps"), [(64, 3), (4, 3), (4, 9), (1, 2)])
def test_a_sweep_builds_every_step_of_every_image_once_and_in_full_batches(
    batch_size: int, steps: int, batch: Callable[..., Evaluation], network: Any
) -> None:
    evaluation = batch(batch=batch_size)
    built: list[tuple[int, int]] = []

    def build(image: int, span: range) -> Tensor:
        built.extend((image, step) for step in span)
        dimming = torch.tensor([1 - step / 10 for step in span]).double().view(-1, 1, 1, 1)
        return evaluation.images[image] * dimming

    network.calls.clear()
    rows = torch.tensor([0, 2, 3])
    scores = sweep_scores(evaluation, rows, steps, build, ("logit", "probability", "accuracy"))
    assert built == [(row, step) for row in rows.tolist() for step in range(steps)]
    assert all(size == batch_size for size in network.calls[:-1])
    assert sum(network.calls) == len(built)
    logits = network(torch.cat([build(row, range(step, step + 1)) for row, step in list(built)]))
    targets = evaluation.targets[rows.repeat_interleave(steps)]
    expected = torch.stack(
        [
            logits.gather(1, targets[:, None])[:, 0],
            logits.softmax(dim=1).gather(1, targets[:, None])[:, 0],
            (logits.argmax(dim=1) == targets).double(),
        ],
        dim=1,
    )
    np.testing.assert_allclose(scores.reshape(-1, 3), expected.numpy(), rtol=0, atol=1e-9)


def test_a_sweep_of_no_images_or_steps_is_empty(batch: Callable[..., Evaluation]) -> None:
    def build(image: int, span: range) -> Tensor:
        raise AssertionError("nothing to build")

    assert sweep_scores(batch(), torch.arange(0), 3, build, ("logit",)).shape == (0, 3, 1)
    assert sweep_scores(batch(), torch.arange(5), 0, build, ("logit",)).shape == (5, 0, 1)


def test_maps_are_moved_to_the_images_once(batch: Callable[..., Evaluation]) -> None:
    evaluation = batch()
    assert evaluation.device_maps() is evaluation.device_maps()
    assert torch.equal(evaluation.device_maps(), evaluation.maps)
