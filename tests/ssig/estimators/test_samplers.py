"""Each law draws what it says: ranges, keep probabilities, exact reconstructions, the same draws in any batch."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from ssig.estimators.samplers import (
    RINGS,
    SPECTRA,
    Frequency,
    Noise,
    Sampler,
    _ends,
    bands_on,
    frequency_radii,
    requests,
    rings,
    sampler,
)
from ssig.randomness import stream
from ssig.types import Group

NAMES = ["identity", "line", "uniform", "uniform-channel", "bernoulli", "patch-3", "smooth-3", "frequency", "noise"]


def group_of(images: Tensor, baseline: float = 0.25) -> Group:
    streams = tuple(stream(0, "s.tar", str(index), "ssig") for index in range(len(images)))
    return Group(images, torch.full_like(images, baseline), streams)


def counted(monkeypatch: pytest.MonkeyPatch, module: Any, name: str) -> list[str]:
    """The calls of a module's function from now on."""
    calls, function = [], getattr(module, name)

    def counting(*arguments: Any, **named: Any) -> Any:
        calls.append(name)
        return function(*arguments, **named)

    monkeypatch.setattr(module, name, counting)
    return calls


def mask_of(images: Tensor, name: str, k: int, samples: int) -> Tensor:
    group = group_of(images)
    law = sampler(name)
    assert law is not None
    return (law.point(group, k, samples) - group.baselines) / group.difference


def assert_equal_but_for_rounding(found: Tensor, expected: Tensor) -> None:
    """Transforms and resizing of another batch may add in another order; another draw differs by far more."""
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_draws_do_not_depend_on_the_batch(images: Tensor, name: str) -> None:
    law = sampler(name)
    assert law is not None
    group = group_of(images)
    whole = law.point(group, 1, 4)
    for index in range(len(images)):
        alone = Group(images[index : index + 1], group.baselines[index : index + 1], group.streams[index : index + 1])
        assert_equal_but_for_rounding(law.point(alone, 1, 4)[0], whole[index])


@pytest.mark.parametrize("name", NAMES)
def test_float32_and_float64_draw_the_same_mask(images: Tensor, name: str) -> None:
    law = sampler(name)
    assert law is not None
    double, single = law.point(group_of(images), 0, 4), law.point(group_of(images.float()), 0, 4)
    assert torch.allclose(double.float(), single, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_weights_sum_to_one(name: str) -> None:
    law = sampler(name)
    assert law is not None
    assert sum(law.weight(k, 7) for k in range(7)) == pytest.approx(1)


def test_uniform_masks_share_channels_and_keep_their_range(images: Tensor) -> None:
    group = group_of(images)
    law = sampler("uniform", low=0.25, high=0.75)
    assert law is not None
    mask = (law.point(group, 0, 4) - group.baselines) / group.difference
    assert torch.allclose(mask[:, 0], mask[:, 2])
    assert mask.min() >= 0.25 - 1e-6
    assert mask.max() <= 0.75 + 1e-6
    assert not torch.allclose(
        mask_of(images, "uniform-channel", 0, 4)[:, 0], mask_of(images, "uniform-channel", 0, 4)[:, 1]
    )


@pytest.mark.parametrize("name", ["bernoulli", "patch-40"])
def test_keep_probability_is_the_stratum(name: str) -> None:
    images = torch.rand(2, 1, 80, 80, generator=torch.Generator().manual_seed(0), dtype=torch.float64) + 1
    for k, rho in ((0, 0.125), (3, 0.875)):
        mask = mask_of(images, name, k, 4)
        assert set(mask.round().unique().tolist()) <= {0.0, 1.0}
        assert mask.mean().item() == pytest.approx(rho, abs=0.04)


def test_patches_are_constant_cells_and_smooth_masks_are_not() -> None:
    images = torch.full((1, 1, 12, 12), 0.9, dtype=torch.float64)
    patches = mask_of(images, "patch-3", 1, 2).reshape(3, 4, 3, 4)
    assert torch.equal(patches, patches[:, :1, :, :1].expand_as(patches))
    smooth = mask_of(images, "smooth-3", 1, 2)
    assert smooth.min() >= 0
    assert smooth.max() <= 1
    assert len(smooth.unique()) > 2


def test_noise_scales_with_the_range_of_each_image() -> None:
    images = torch.zeros(2, 1, 100, 100, dtype=torch.float64)
    images[0, 0, 0, 0], images[1, 0, 0, 0] = 1.0, 0.1
    noise = Noise(0.15).point(group_of(images), 0, 1) - images
    assert noise[0].std().item() == pytest.approx(0.15, rel=0.05)
    assert noise[1].std().item() == pytest.approx(0.015, rel=0.05)


@pytest.mark.parametrize("size", [(8, 8), (9, 8), (8, 9), (7, 5), (1, 1)])
def test_a_spectrum_kept_whole_or_dropped_is_the_image_or_the_baseline(size: tuple[int, int]) -> None:
    images = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    group = group_of(images)
    # The stratum of sample 10**9 of one exceeds every draw; that of the first of 10**12 is below every draw.
    assert torch.allclose(Frequency("bins").point(group, 10**9, 1), images)
    assert torch.allclose(Frequency("bins").point(group, 0, 10**12), group.baselines)


@pytest.mark.parametrize("spectrum", ["bins", "gains"])
@pytest.mark.parametrize("size", [(8, 8), (9, 10), (8, 7)])
def test_each_coefficient_is_scaled_by_its_own_mask(spectrum: str, size: tuple[int, int]) -> None:
    images = torch.rand(1, 1, *size, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    group = group_of(images)
    law = Frequency(spectrum)
    mask = law.masks(group, [1], 4, size)[0, 0].to(torch.float64)
    got = torch.fft.rfft2(law.point(group, 1, 4) - group.baselines)[0, 0]
    assert torch.allclose(got, torch.fft.rfft2(group.difference)[0, 0] * mask, atol=1e-10)
    if spectrum == "bins":
        assert set(mask.unique().tolist()) <= {0.0, 1.0}


def test_rings_are_log_spaced_and_all_used() -> None:
    radii = frequency_radii((224, 224))
    bands = rings(radii)
    assert bands[0, 0] == 0
    assert set(np.unique(bands)) == set(range(RINGS))
    assert (np.diff(bands[0]) >= 0).all()


def test_low_pass_has_no_randomness_and_keeps_more_as_the_stratum_rises(images: Tensor) -> None:
    law = Frequency("low-pass")
    assert law.kind == "deterministic"
    group = group_of(images)
    errors = [float((law.point(group, k, 4) - images).square().sum()) for k in range(4)]
    assert errors == sorted(errors, reverse=True)


@pytest.mark.parametrize("law", [*map(sampler, NAMES), *map(Frequency, SPECTRA)])
def test_samples_of_one_request_are_those_drawn_alone(images: Tensor, law: Sampler) -> None:
    group = group_of(images)
    together = law.points(group, range(2, 5), 7).chunk(3)
    for k, points in zip(range(2, 5), together, strict=True):
        assert_equal_but_for_rounding(points, law.point(group, k, 7))


def test_each_request_has_its_samples_and_its_points(images: Tensor) -> None:
    group = replace(group_of(images), budget=3)
    law = Noise()
    asked = list(requests(group, law, 8))
    assert [list(drawn) for drawn, _ in asked] == [[0, 1, 2], [3, 4, 5], [6, 7]]
    assert_equal_but_for_rounding(torch.cat([points for _, points in asked]), law.points(group, range(8), 8))


def test_a_group_is_transformed_once(images: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = counted(monkeypatch, torch.fft, "rfft2")
    for _ in requests(group_of(images), Frequency(), 6):
        pass
    assert len(calls) == 1


@pytest.mark.parametrize("spectrum", ["rings", "low-pass"])
def test_what_depends_on_the_size_alone_is_computed_once(
    images: Tensor, spectrum: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for kept_by_size in (frequency_radii, bands_on, _ends):
        kept_by_size.cache_clear()
    radii, edges = counted(monkeypatch, np, "hypot"), counted(monkeypatch, np, "geomspace")
    for _ in requests(group_of(images), Frequency(spectrum), 6):
        pass
    assert len(radii) == 1
    assert len(edges) == (spectrum == "rings")


def test_unknown_samplers_are_none() -> None:
    assert all(sampler(name) is None for name in ["patch", "patch-0", "patch--1", "smooth-x", "", "line "])
