"""Finished maps: SciPy's Gaussian, means by segment, sums that stay, and all else as the method gave it."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor

from ssig.images.postprocess import REGIONS, finished, finishing, smoothed
from ssig.images.regions import SEGMENTATIONS, pictures
from ssig.types import Attribution, Steps


@pytest.fixture
def images() -> Tensor:
    """(5, 3, 20, 24) float64 in [0, 1], with areas to segment."""
    cells = torch.rand(5, 3, 4, 4, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    return cells.repeat_interleave(5, dim=2).repeat_interleave(6, dim=3)


@pytest.fixture
def attribution(images: Tensor) -> Attribution:
    values = torch.randn(images.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return Attribution(
        values=values,
        map=values.sum(dim=1),
        score=torch.arange(5.0),
        baseline_score=torch.zeros(5),
        completeness_residual=torch.ones(5),
        standard_error=torch.ones(5, 20, 24),
        gradient_evaluations=torch.full((5,), 32),
    )


def method(result: Attribution) -> Steps:
    """A coroutine that asks for nothing."""
    yield from ()
    return result


def result_of(steps: Steps) -> Attribution:
    with pytest.raises(StopIteration) as stop:
        next(steps)
    result: Attribution = stop.value.value
    return result


@pytest.mark.parametrize("sigma", [0.1, 0.5, 1.0, 3.3, 20.0])
@pytest.mark.parametrize("shape", [(1, 1), (2, 9), (10, 12)])
def test_smoothing_is_scipys(sigma: float, shape: tuple[int, int]) -> None:
    maps = np.random.default_rng(0).normal(size=(3, *shape))
    expected = gaussian_filter(maps, (0, sigma, sigma), mode="reflect", truncate=4.0)
    found = smoothed(torch.from_numpy(maps), sigma)
    assert found.numpy() == pytest.approx(expected, rel=1e-10, abs=1e-12)
    assert found.sum(dim=(1, 2)).numpy() == pytest.approx(maps.sum(axis=(1, 2)))


def test_nothing_to_do_leaves_the_coroutine_alone(images: Tensor, attribution: Attribution) -> None:
    steps = method(attribution)
    assert finishing(steps, images, 0.0, "none") is steps


@pytest.mark.parametrize(
    ("smoothing", "regions"), [case for case in itertools.product([0.0, 1.5], REGIONS) if case != (0.0, "none")]
)
def test_finished_maps(images: Tensor, attribution: Attribution, smoothing: float, regions: str) -> None:
    result = result_of(finishing(method(attribution), images, smoothing, regions))
    assert result.map.dtype == torch.float64
    assert torch.allclose(result.map.sum(dim=(1, 2)), attribution.map.sum(dim=(1, 2)))
    assert result.standard_error is None
    for field in ("values", "score", "baseline_score", "completeness_residual", "gradient_evaluations"):
        assert getattr(result, field) is getattr(attribution, field)
    before = smoothed(attribution.map, smoothing) if smoothing else attribution.map
    for found, expected, picture in zip(result.map, before, pictures(images), strict=True):
        if regions == "none":
            assert torch.equal(found, expected)
        else:
            (labels,) = (torch.from_numpy(labels.astype(int)) for labels in SEGMENTATIONS[regions](picture))
            assert 4 <= len(labels.unique()) <= 200
            for label in labels.unique():
                assert torch.allclose(found[labels == label], expected[labels == label].mean())


def test_each_image_by_itself(images: Tensor, attribution: Attribution) -> None:
    whole = result_of(finishing(method(attribution), images, 1.0, "slic"))
    labels = [SEGMENTATIONS["slic"](picture)[0] for picture in pictures(images)]
    for index in range(5):
        span = slice(index, index + 1)
        alone = attribution.rows(span)
        assert torch.allclose(finished(alone, 1.0, labels[span]).map[0], whole.map[index], rtol=1e-12, atol=1e-14)


def test_the_type_of_the_map_stays(images: Tensor, attribution: Attribution) -> None:
    attribution = Attribution(**{**vars(attribution), "map": attribution.map.float()})
    assert result_of(finishing(method(attribution), images, 1.0, "slic")).map.dtype == torch.float32


@pytest.mark.parametrize(("smoothing", "regions"), [(1.0, "none"), (0.0, "slic")])
def test_what_is_not_a_number_stays(images: Tensor, attribution: Attribution, smoothing: float, regions: str) -> None:
    attribution.map[1, 4, 4] = torch.nan
    found = result_of(finishing(method(attribution), images, smoothing, regions)).map
    assert torch.isnan(found[1, 4, 4])
    assert torch.isfinite(found[[0, 2, 3, 4]]).all()
