"""Sampling until the error meets the tolerance: per image, in any batch, and never beyond the cap."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from scipy.stats import rankdata, spearmanr
from torch import Tensor, nn

import ssig
from ssig import attribute
from ssig.errors import UsageError
from ssig.estimators.adaptive_sampling import rank_correlation, ranks, split_half_error
from ssig.estimators.samplers import Uniform, stratum
from ssig.randomness import stream
from ssig.types import Group

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


def test_equal_values_share_the_mean_of_their_ranks() -> None:
    # Ranks 2, 2, 2, 4 and 2, 2, 4, 2: less their mean, -1 -1 -1 3 and -1 -1 3 -1, with product -4 and squares 12.
    first, second = torch.tensor([[[0.0, 0.0], [0.0, 1.0]]]), torch.tensor([[[0.0, 0.0], [1.0, 0.0]]])
    assert rank_correlation(first, second).tolist() == pytest.approx([-1 / 3])
    assert split_half_error(first, second).tolist() == pytest.approx([1 + 2 / 3])
    assert split_half_error(first, first).tolist() == pytest.approx([0])
    maps = torch.randint(0, 4, (2, 3, 5, 6), generator=torch.Generator().manual_seed(0)).double()
    expected = [spearmanr(a.flatten(), b.flatten()).statistic for a, b in zip(*maps, strict=True)]
    assert rank_correlation(*maps).tolist() == pytest.approx(expected)


@pytest.mark.parametrize("value", [0.0, 2.5, float("nan")])
def test_a_constant_half_is_not_correlated_with_anything(value: float) -> None:
    constant, other = torch.full((1, 3, 4), value), torch.arange(12.0).view(1, 3, 4)
    for halves in ((constant, other), (other, constant), (constant, constant)):
        assert rank_correlation(*halves).tolist() == [0]
        assert split_half_error(*halves).tolist() == [1]


def test_a_map_of_zeros_never_meets_the_rank_tolerance(images: Tensor, targets: Tensor) -> None:
    def flat(points: Tensor) -> Tensor:
        return 0 * points.flatten(1).sum(dim=1, keepdim=True) + torch.ones(5, dtype=torch.float64)

    found = attribute(flat, images, targets, "ssig", samples="auto", criterion="spearman", most=24)
    assert found.gradient_evaluations.tolist() == [24] * 5
    assert not found.map.any()


def test_the_rank_tolerance_is_met_by_the_finished_and_by_none_before(
    cnn: nn.Module, images: Tensor, targets: Tensor
) -> None:
    # Each image's samples drawn and halved anew, and the ranks SciPy's.
    tolerance, most = 0.0005, 64
    options = {"samples": "auto", "criterion": "spearman", "tolerance": tolerance, "most": most}
    used = attribute(cnn, images, targets, "ssig", keys=KEYS, baseline="black", **options).gradient_evaluations
    streams = tuple(stream(0, *key, "ssig") for key in KEYS)
    group = Group(images, torch.zeros_like(images), streams)
    maps = []
    for k in range(most):
        point = Uniform().point(group, k, None).requires_grad_()
        (gradient,) = torch.autograd.grad(cnn(point).gather(1, targets[:, None]).sum(), point)
        maps.append(gradient.abs().sum(dim=1).flatten(1))

    def error(image: int, count: int) -> float:
        even, odd = (torch.stack(maps[half:count:2])[:, image].mean(dim=0) for half in (0, 1))
        correlation = spearmanr(even, odd).statistic
        return float(1 - 2 * correlation / (1 + correlation))

    for image, count in enumerate(used.tolist()):
        assert count == most or error(image, count) <= tolerance
        assert all(error(image, before) > tolerance for before in range(8, count, 4))
    assert (used < most).any()
    assert (used > 8).any()


def test_some_methods_sample_until_it_is_enough() -> None:
    found = {spec.name for spec in ssig.list_methods() if hasattr(spec.parse({}), "criterion")}
    assert found == {"ssig", "ssig-signed", "ssig-frequency", "ssig-shapley", "smoothgrad", "smoothgrad-squared"}


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


# Few values, so that many are equal.
ROWS = st.integers(1, 40).flatmap(
    lambda count: st.lists(
        st.lists(
            st.sampled_from([-math.inf, -1.5, -0.0, 0.0, 1e-45, 0.5, 2.0, math.inf]) | st.floats(width=32),
            min_size=count,
            max_size=count,
        ),
        min_size=1,
        max_size=3,
    )
)


@given(ROWS)
@example([[math.nan, 1.0], [1.0, 1.0]])
def test_ranks_are_those_of_scipy(rows: list[list[float]]) -> None:
    for values in (np.array(rows, dtype=np.float32), np.array(rows)):
        assert np.array_equal(ranks(torch.from_numpy(values)), rankdata(values, axis=1), equal_nan=True)
