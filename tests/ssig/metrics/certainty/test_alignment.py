"""Alignment: distances of distributions that are known, spectra of known fields, and the method's own points."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import ssig.metrics.certainty.alignment as alignment
from ssig.engine.device import Device
from ssig.engine.layers import PENULTIMATE
from ssig.engine.replica import Replica
from ssig.errors import ModelError
from ssig.metrics.certainty.alignment import AlignmentOptions
from ssig.registry import METRICS
from ssig.types import SCORE_AND_GRADIENT, Evaluation

Batch = Callable[..., Evaluation]

LOGITS = AlignmentOptions(features="logits")


class Fixed:
    """A method that takes its gradients at `law(row, k)`."""

    def __init__(self, law: Callable[[int, int], Tensor] | None, most: int = 4) -> None:
        self.law, self.most = law, most

    def samples(self, row: int, count: int) -> Tensor | None:
        return None if self.law is None else torch.stack([self.law(row, k) for k in range(min(count, self.most))])


def gaussians(count: int, *, shift: float = 0.0, scale: float = 1.0, size: int = 8, seed: int = 0) -> np.ndarray:
    return shift + scale * np.random.default_rng(seed).standard_normal((count, size))


# Distances


def test_equal_distributions_are_at_no_distance() -> None:
    found = [
        alignment.kernel_distance(gaussians(200, seed=2 * k), gaussians(200, seed=2 * k + 1))[0] for k in range(30)
    ]
    assert abs(np.mean(found)) <= 3 * np.std(found, ddof=1) / math.sqrt(len(found))
    first, second = gaussians(20_000, seed=1), gaussians(20_000, seed=2)
    assert 0 <= alignment.frechet_distance(first, second) < 0.01


def test_the_images_themselves_are_at_no_distance_exactly() -> None:
    rows = gaussians(40)
    assert alignment.kernel_distance(rows, rows) == (0.0, 0.0)
    assert alignment.frechet_distance(rows, rows) == pytest.approx(0, abs=1e-9)


def test_the_kernel_distance_is_unbiased_although_samples_depend_on_their_image() -> None:
    # a_i = -b_i has the law of b_i.
    found = [alignment.kernel_distance(-rows, rows)[0] for rows in (gaussians(60, seed=k) for k in range(60))]
    assert abs(np.mean(found)) <= 3 * np.std(found, ddof=1) / math.sqrt(len(found))


@pytest.mark.parametrize(("shift", "least", "most"), [(0.0, 1.2, 1.6), (1.0, 0.8, 1.2)])
def test_the_error_is_too_large_where_the_laws_are_equal_and_right_where_they_differ(
    shift: float, least: float, most: float
) -> None:
    pairs = ((gaussians(60, seed=2 * k), gaussians(60, seed=2 * k + 1) + shift) for k in range(300))
    found, error = np.array([alignment.kernel_distance(*pair) for pair in pairs]).T
    assert least < np.sqrt((error**2).mean()) / found.std() < most


def test_a_shifted_gaussian_is_as_far_in_kernel_distance_as_worked_out() -> None:
    # One dimension, k(a, b) = (ab + 1)^3 = 1 + 3ab + 3a^2b^2 + a^3b^3: sum of squared differences of three moments.
    shift, count = 0.5, 1500
    exact = 3 * shift**2 + 3 * (shift**2) ** 2 + (shift**3 + 3 * shift) ** 2
    first, second = gaussians(count, shift=shift, size=1, seed=1), gaussians(count, size=1, seed=2)
    found, error = alignment.kernel_distance(first, second)
    assert abs(found - exact) <= 3 * error
    assert 0 < error < exact / 4


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = gaussians(50, seed=1), gaussians(50, shift=0.3, seed=2)
    whole = alignment.kernel_distance(first, second)
    monkeypatch.setattr(alignment, "_CHUNK", 7)
    assert alignment.kernel_distance(first, second) == pytest.approx(whole, rel=1e-12)


def test_frechet_distance_of_a_shift_is_its_square() -> None:
    rows = gaussians(50)
    shift = np.linspace(-1, 1, rows.shape[1])
    assert alignment.frechet_distance(rows + shift, rows) == pytest.approx(float(shift @ shift), rel=1e-9)


def test_frechet_distance_of_a_scale() -> None:
    # C_a = 4 C_b: tr (4 + 1 - 2 * 2) C_b.
    rows = gaussians(50)
    rows = rows - rows.mean(axis=0)
    expected = float(np.trace(np.cov(rows, rowvar=False)))
    assert alignment.frechet_distance(2 * rows, rows) == pytest.approx(expected, rel=1e-9)


def test_fewer_images_than_features_are_no_error() -> None:
    rows = gaussians(5, size=20)
    assert alignment.frechet_distance(rows + 1, rows) == pytest.approx(20, rel=1e-6)


# Spectra and projections


def test_white_noise_has_its_variance_in_every_ring() -> None:
    noise = 0.2 * np.random.default_rng(0).standard_normal((3, 128, 96))
    spectrum = alignment.log_spectrum(noise)
    np.testing.assert_allclose(spectrum[6:], math.log(0.04), atol=0.2)
    np.testing.assert_allclose(alignment.log_spectrum(np.full((3, 16, 16), 0.7)), math.log(alignment.QUANTISATION))


def test_halving_the_contrast_is_two_logarithms_of_two() -> None:
    image = np.random.default_rng(0).random((3, 32, 32))
    whole, half = alignment.log_spectrum(image), alignment.log_spectrum(0.5 + (image - 0.5) / 2)
    assert alignment.spectral_distance(whole, half[None]) == pytest.approx(2 * math.log(2), abs=1e-3)


def test_directions_are_orthonormal_and_the_same_everywhere() -> None:
    basis = alignment.directions(200, 64)
    np.testing.assert_allclose(basis.T @ basis, np.eye(64), atol=1e-12)
    alignment.directions.cache_clear()
    assert np.array_equal(basis, alignment.directions(200, 64))
    assert np.array_equal(alignment.directions(5, 64), np.eye(5))
    one, other = gaussians(2, shift=1.0, size=4000)
    projected = [alignment.directions(4000, 64).T @ rows for rows in (one, other)]
    assert projected[0] @ projected[1] / 64 == pytest.approx(one @ other / 4000, abs=0.6)


# The metric


def test_samples_that_are_the_image_are_at_no_distance(batch: Batch) -> None:
    made = batch()
    evaluation = batch(explainer=Fixed(lambda row, k: made.images[row]))
    result = alignment.alignment(evaluation, LOGITS)
    assert not any(result.excluded)
    np.testing.assert_allclose([*result.columns.values()], 0, atol=1e-9)
    numbers = alignment.dataset(result.vectors, LOGITS)
    assert set(numbers) == set(METRICS["alignment"].dataset_columns)
    assert numbers.pop("alignment_images") == 5
    np.testing.assert_allclose([*numbers.values()], 0, atol=1e-8)


def test_vectors_hold_the_image_and_then_the_samples(batch: Batch, network: Any) -> None:
    made = batch()
    options = AlignmentOptions(features="logits", samples=2)
    evaluation = batch(explainer=Fixed(lambda row, k: made.images[row] * (0.2 * k)))
    result = alignment.alignment(evaluation, options)
    assert sum(network.calls) == 5 * METRICS["alignment"].forwards(options)
    features = result.vectors["alignment_vector"].reshape(5, 3, 5)
    np.testing.assert_allclose(features[:, 0], made.logits, atol=1e-9)
    possible = np.stack([network(made.images * (0.2 * k)).numpy() for k in range(4)], axis=1)
    for row in range(5):
        places = [int(np.abs(possible[row] - drawn).sum(axis=1).argmin()) for drawn in features[row, 1:]]
        assert len(set(places)) == 2
        np.testing.assert_allclose(possible[row, places], features[row, 1:], atol=1e-9)
    expected = np.sqrt(((features[:, 1:] - features[:, :1]) ** 2).sum(axis=2).mean(axis=1))
    np.testing.assert_allclose(result.columns["alignment"], expected / np.linalg.norm(features[:, 0], axis=1))


def test_places_are_drawn_from_the_whole_range_and_repeat_where_there_are_few(batch: Batch) -> None:
    made = batch()
    options = AlignmentOptions(features="logits", samples=3)
    many = alignment.alignment(batch(explainer=Fixed(lambda row, k: made.images[row] + k, most=50)), options)
    means = many.vectors["alignment_vector"].reshape(5, 4, 5)[:, 1:]
    assert len({tuple(np.round(one, 6)) for row in means for one in row}) == 15
    few = alignment.alignment(batch(explainer=Fixed(lambda row, k: made.images[row] + 1, most=1)), options)
    assert few.vectors["alignment_vector"].shape == (5, 20)


@pytest.mark.parametrize(
    ("changes", "options", "reason"),
    [
        ({}, LOGITS, "the method is not at hand"),
        ({"explainer": Fixed(None)}, LOGITS, "method takes no gradients at points"),
        ({"explainer": Fixed(lambda row, k: torch.zeros(3, 10, 12))}, AlignmentOptions(), "features are not at hand"),
    ],
)
def test_what_cannot_be_drawn_is_excluded(
    batch: Batch, changes: dict[str, Any], options: AlignmentOptions, reason: str
) -> None:
    result = alignment.alignment(batch(**changes), options)
    assert all(list(reasons) == ["alignment", "alignment_spectrum"] for reasons in result.excluded)
    assert all(reason in text for reasons in result.excluded for text in reasons.values())
    assert all(np.isnan(values).all() for values in [*result.columns.values(), *result.vectors.values()])
    assert all(values.shape[1] for values in result.vectors.values())


def test_an_image_does_not_depend_on_its_batch(batch: Batch, at: Callable[[Evaluation, int], Evaluation]) -> None:
    evaluation = batch(batch=4)

    def noisy(images: Tensor) -> Fixed:
        generators = [np.random.default_rng(int(image.sum() * 1e6)) for image in images]
        noise = [torch.from_numpy(generator.standard_normal((4, 3, 10, 12))) for generator in generators]
        return Fixed(lambda row, k: images[row] + noise[row][k])

    together = alignment.alignment(batch(batch=4, explainer=noisy(evaluation.images)), LOGITS)
    for row in range(5):
        one = at(evaluation, row)
        object.__setattr__(one, "explainer", noisy(one.images))
        alone = alignment.alignment(one, LOGITS)
        for name, values in {**alone.columns, **alone.vectors}.items():
            np.testing.assert_allclose(values[0], {**together.columns, **together.vectors}[name][row], atol=1e-9)


def test_the_order_and_the_choice_of_images(batch: Batch) -> None:
    spectra = gaussians(30, size=6)
    vectors = {
        "alignment_vector": gaussians(30, size=8, seed=1),
        "alignment_spectrum_vector": spectra,
    }
    found = alignment.dataset(vectors, AlignmentOptions())
    backwards = alignment.dataset({name: rows[::-1] for name, rows in vectors.items()}, AlignmentOptions())
    assert found == pytest.approx(backwards, rel=1e-9)
    assert alignment.dataset(vectors, AlignmentOptions(most=10))["alignment_images"] == 10
    one = alignment.dataset({name: rows[:1] for name, rows in vectors.items()}, AlignmentOptions())
    assert all(math.isnan(value) for value in one.values())


# The features behind the logits


def test_penultimate_features_are_what_the_last_linear_layer_takes(cnn: nn.Sequential, images: Tensor) -> None:
    expected = cnn[:-1](images)
    device = Device(Replica(cnn, micro_batch=2))
    try:
        torch.testing.assert_close(device.activations(images, PENULTIMATE), expected, rtol=0, atol=1e-12)
    finally:
        device.close()
    assert not any(module._forward_pre_hooks for module in cnn.modules())


def test_gradients_by_penultimate_features_are_the_weights(
    cnn: nn.Sequential, images: Tensor, targets: Tensor
) -> None:
    response = Replica(cnn).evaluate(images, targets, "logit", SCORE_AND_GRADIENT, PENULTIMATE)
    torch.testing.assert_close(response.gradients, cnn[-1].weight[targets], rtol=0, atol=1e-12)


def test_a_network_without_a_last_linear_layer_is_excluded(batch: Batch, images: Tensor) -> None:
    network = nn.Sequential(nn.Conv2d(3, 5, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()).double().eval()
    device = Device(Replica(network))
    try:
        with pytest.raises(ModelError, match="linear"):
            device.activations(images, PENULTIMATE)
        explainer = Fixed(lambda row, k: images[row])
        result = alignment.alignment(batch(explainer=explainer, activations=device.activations), AlignmentOptions())
    finally:
        device.close()
    assert all("linear" in text for reasons in result.excluded for text in reasons.values())
