"""The points that changes are proved on reach what noise alone does not."""

from __future__ import annotations

import pytest
import torch

from ssig.acceleration.proof import close, proof_points


@pytest.mark.parametrize("size", [(3, 224, 224), (1, 28, 28), (3, 7, 5), (4, 1, 1)])
@pytest.mark.parametrize("scale", [1.0, 6.0])
def test_points_of_each_kind_within_the_range_of_the_example(size: tuple[int, ...], scale: float) -> None:
    example = torch.rand(1, *size, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * scale - scale / 3
    points = proof_points(example)
    assert len(points) == 3
    for point in points:
        assert point.shape == example.shape
        assert point.dtype == torch.float64
        assert example.amin() - 1e-9 <= point.amin()
        assert point.amax() <= example.amax() + 1e-9
        assert len(point.unique()) > 0.9 * point.numel()  # nothing is even


def test_extremes_are_fields_of_both_ends_and_waves_are_smooth() -> None:
    example = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    noise, extremes, smooth = proof_points(example)
    low, high = extremes < 0.05, extremes > 0.95
    assert bool((low | high).all())
    assert 0.3 < float(low.float().mean()) < 0.7
    assert float(extremes[..., :8, :8].std(dim=(2, 3)).max()) < 0.02

    def roughness(values: torch.Tensor) -> float:
        return float(values.diff(dim=-1).abs().mean() / values.std())

    assert roughness(smooth) < roughness(noise) / 4


def test_close_is_relative_and_refuses_what_is_no_number() -> None:
    one = torch.tensor([3.0, 4.0])
    assert close([one], [one * (1 + 1e-7)], 1e-6)
    assert not close([one], [one * (1 + 1e-5)], 1e-6)
    assert not close([one * torch.nan], [one * torch.nan], 1e-6)
    assert close([one * 0], [one * 0], 1e-6)
