"""Sampling until the error meets the tolerance: per image, in any batch, and never beyond the cap."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ssig import attribute
from ssig.errors import UsageError
from ssig.samplers import stratum

KEYS = [("s.tar", str(k)) for k in range(5)]
METHODS = ["ssig", "ssig-signed", "ssig-shapley", "ssig-frequency", "smoothgrad"]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("criterion", ["standard-error", "spearman"])
def test_the_tolerance_is_met_or_the_cap_is_reached(
    cnn: nn.Module, images: Tensor, targets: Tensor, method: str, criterion: str
) -> None:
    found = attribute(
        cnn, images, targets, method, keys=KEYS, samples="auto", tolerance=0.2, criterion=criterion, most=64
    )
    used = found.gradient_evaluations
    assert ((used >= 8) & (used <= 64) & (used % 4 == 0)).all()
    assert torch.isfinite(found.map).all()
    if criterion == "standard-error":
        assert found.standard_error_mean is not None
        assert ((found.standard_error_mean <= 0.2) | (used == 64)).all()


@pytest.mark.parametrize("micro_batch", [1, 3, 64])
@pytest.mark.parametrize("method", METHODS)
def test_an_image_takes_as_many_samples_in_any_batch(
    cnn: nn.Module, images: Tensor, targets: Tensor, method: str, micro_batch: int
) -> None:
    # So strict that images go on past the first look: a request may hold fewer samples than lie between two looks.
    options = {"samples": "auto", "tolerance": 0.005, "most": 400}
    together = attribute(cnn, images, targets, method, keys=KEYS, micro_batch=micro_batch, **options)
    for row in range(5):
        span = slice(row, row + 1)
        alone = attribute(cnn, images[span], targets[span], method, keys=KEYS[span], **options)
        assert alone.gradient_evaluations.tolist() == together.gradient_evaluations[span].tolist()
        assert torch.allclose(alone.map[0], together.map[row], rtol=1e-9, atol=1e-14)


def test_independent_samples_are_those_of_a_fixed_number(cnn: nn.Module, images: Tensor, targets: Tensor) -> None:
    found = attribute(cnn, images, targets, "ssig", keys=KEYS, samples="auto", tolerance=1e-9, most=20)
    fixed = attribute(cnn, images, targets, "ssig", keys=KEYS, samples=20)
    assert torch.allclose(found.map, fixed.map, rtol=1e-10)
    assert found.standard_error is not None
    assert fixed.standard_error is not None
    assert torch.allclose(found.standard_error, fixed.standard_error, rtol=1e-8)


def test_strata_without_an_end_are_evenly_spread_at_any_length() -> None:
    for count in (8, 20, 100):
        for every in (1, 2):
            found = np.sort([stratum(k, None) for k in range(0, count, every)])
            even = (np.arange(len(found)) + 0.5) / len(found)
            assert np.abs(found - even).max() < 2 / len(found)


def test_gradients_that_are_no_numbers_end_it(linear: nn.Module, images: Tensor, targets: Tensor) -> None:
    def poisoned(points: Tensor) -> Tensor:
        return linear(points) * torch.tensor(float("nan"))

    found = attribute(poisoned, images, targets % 3, "ssig", samples="auto", most=4096)
    assert found.map.isnan().all()
    assert found.gradient_evaluations.tolist() == [8] * 5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"samples": "many"}, "auto"),
        ({"samples": "auto", "sampler": "line"}, "no randomness"),
        ({"samples": "auto", "most": 4}, "at least 8"),
    ],
)
def test_what_cannot_be_sampled_is_refused(
    cnn: nn.Module, images: Tensor, targets: Tensor, options: dict[str, object], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        attribute(cnn, images, targets, "ssig", **options)
