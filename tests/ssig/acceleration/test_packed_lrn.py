"""Packed local response normalisation: the library's outputs and gradients."""

from __future__ import annotations

import copy

import pytest
import torch
from frozen_layers import answers, frozen, missing, noise
from torch import Tensor, nn

from ssig.acceleration import packed_lrn
from ssig.acceleration.optimise import optimised
from ssig.acceleration.packed_lrn import PackedLrn
from ssig.acceleration.packing import packed

LAST = torch.channels_last


@pytest.mark.parametrize("layout", [LAST, torch.contiguous_format])
@pytest.mark.parametrize("channels", [1, 3, 24])
@pytest.mark.parametrize("size", [1, 2, 5, 6])
def test_outputs_and_gradients_are_those_of_float64(size: int, channels: int, layout: torch.memory_format) -> None:
    layer = nn.LocalResponseNorm(size, alpha=0.3, beta=0.6, k=1.5)
    ours = packed(layer, noise(1, channels, 7, 5).contiguous(memory_format=layout))
    assert isinstance(ours, PackedLrn)
    points = noise(3, channels, 6, 9).contiguous(memory_format=layout)
    for found, expected in zip(answers(ours, points), answers(layer, points.double()), strict=True):
        assert found.shape == expected.shape
        assert (found - expected).norm() <= 1e-6 * expected.norm()


def test_the_gradient_is_that_of_the_function() -> None:
    layer = PackedLrn(nn.LocalResponseNorm(3, alpha=0.5, beta=0.75, k=1.0), 4, 9, torch.float32)
    points, step = noise(2, 4, 3, 3), 1e-2
    weights = noise(2, 4, 3, 3)
    _, gradient = answers(layer, points)
    along = gradient / gradient.norm()
    above, below = (float((layer(points + way * step * along) * weights).sum()) for way in (1, -1))
    assert (above - below) / (2 * step) == pytest.approx(float(gradient.norm()), rel=1e-3)


def test_other_points_go_the_usual_way(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = nn.LocalResponseNorm(5)
    ours = packed(layer, noise(1, 8, 6, 6))
    assert ours is not None
    assert packed(layer, noise(1, 8, 6)) is None
    monkeypatch.setattr(packed_lrn.PackedMatrix, "__call__", missing)
    with pytest.raises(RuntimeError, match="not on this processor"):
        ours(noise(2, 8, 6, 6))
    for points in (noise(2, 12, 6, 6), noise(2, 8, 6, 6).double(), noise(2, 8, 6)):
        torch.testing.assert_close(ours(points), layer(points))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(ours(noise(2, 8, 6, 6)), layer(noise(2, 8, 6, 6)))


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Conv2d(3, 8, 3)
        self.norm = nn.LocalResponseNorm(5)
        self.relu = nn.ReLU(inplace=True)
        self.head = nn.Conv2d(8, 5, 3)

    def forward(self, points: Tensor) -> Tensor:
        result: Tensor = self.head(self.relu(self.norm(self.body(points)))).mean(dim=(2, 3))
        return result


def test_a_network_keeps_its_answers() -> None:
    network = frozen(Network())
    points = noise(2, 3, 8, 8)
    fast = optimised(network, points).network
    assert isinstance(fast.get_submodule("norm"), PackedLrn)
    for one in (fast, copy.deepcopy(fast)):
        for found, expected in zip(answers(one, points), answers(network, points), strict=True):
            assert torch.allclose(found, expected, rtol=1e-5, atol=1e-7)


def test_a_processor_without_such_products_keeps_its_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed_lrn, "PackedMatrix", missing)
    fast = optimised(frozen(Network()), noise(1, 3, 8, 8)).network
    assert type(fast.get_submodule("norm")) is nn.LocalResponseNorm
