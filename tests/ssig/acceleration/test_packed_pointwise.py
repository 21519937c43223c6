"""Packed convolutions of one pixel: the library's outputs and gradients, the layer's own names and parameters."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from frozen_layers import answers, assert_rounds_alone, frozen, missing, noise
from torch import Tensor, nn
from torch.nn import functional as F

from ssig.acceleration import packed_pointwise
from ssig.acceleration.optimise import optimised
from ssig.acceleration.packed_pointwise import PackedPointwise
from ssig.acceleration.packing import packed

LAST = torch.channels_last


def layer_of(inputs: int, outputs: int, **options: Any) -> nn.Conv2d:
    layer = nn.Conv2d(inputs, outputs, 1, **options).to(memory_format=LAST)
    frozen(layer)
    return layer


@pytest.mark.parametrize("size", [(1, 1), (7, 5), (16, 16)])
@pytest.mark.parametrize("batch", [1, 3, 17])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("inputs", "outputs"), [(24, 10), (3, 33), (16, 1)])
def test_outputs_and_gradients_are_those_of_float64(
    inputs: int, outputs: int, bias: bool, batch: int, size: tuple[int, int]
) -> None:
    layer = layer_of(inputs, outputs, bias=bias)
    points = noise(batch, inputs, *size).contiguous(memory_format=LAST)
    ours = packed(layer, points)
    assert isinstance(ours, PackedPointwise)
    assert_rounds_alone(ours, layer, points)


def test_points_in_another_layout_of_another_size_and_of_no_batch() -> None:
    layer = layer_of(24, 10)
    ours = packed(layer, noise(1, 24, 6, 6).contiguous(memory_format=LAST))
    assert ours is not None
    for points in (
        noise(4, 24, 6, 6),
        noise(4, 6, 24, 9).transpose(1, 2),
        noise(4, 24, 9, 3)[:, :, ::2],
        noise(24, 6, 6),
    ):
        for found, expected in zip(answers(ours, points), answers(layer, points), strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_an_output_may_be_written_to() -> None:
    """As activations that work in place do; a view of a result may not be."""
    layer = layer_of(24, 10)
    points = noise(2, 24, 6, 6).contiguous(memory_format=LAST)
    ours = packed(layer, points)
    assert ours is not None
    pairs = (answers(nn.Sequential(one, nn.ReLU(inplace=True)), points) for one in (ours, layer))
    for found, expected in zip(*pairs, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_it_is_proved_on_one_thread_and_leaves_several_to_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    counts: list[int] = []
    call = packed_pointwise.PackedKernel.__call__

    def counted(self: Any, values: Tensor) -> Tensor:
        counts.append(torch.get_num_threads())
        return call(self, values)

    monkeypatch.setattr(packed_pointwise.PackedKernel, "__call__", counted)
    points = noise(2, 24, 6, 6)
    layer = layer_of(24, 10)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        ours = packed(layer, points)
        assert torch.get_num_threads() == 2
        assert ours is not None
        assert set(counts) == {1}
        counts.clear()
        answers(ours, points)
        assert counts == []
    finally:
        torch.set_num_threads(before)


def test_other_points_go_the_usual_way() -> None:
    points = noise(2, 24, 6, 6)
    ours = packed(layer_of(24, 10), points)
    assert ours is not None
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert ours(points).dtype == torch.bfloat16
    assert ours.double()(points.double()).dtype == torch.float64


UNSUITABLE = {
    "larger": nn.Conv2d(24, 10, 3),
    "with a stride": nn.Conv2d(24, 10, 1, stride=2),
    "padded": nn.Conv2d(24, 10, 1, padding=1),
    "in groups": nn.Conv2d(24, 10, 1, groups=2),
}


@pytest.mark.parametrize("name", UNSUITABLE)
def test_other_convolutions_are_left_alone(name: str) -> None:
    assert packed(frozen(UNSUITABLE[name]), noise(1, 24, 6, 6)) is None


def test_layers_that_may_change_or_are_of_another_type_are_left_alone() -> None:
    points = noise(1, 24, 6, 6)
    assert packed(nn.Conv2d(24, 10, 1), points) is None
    assert packed(layer_of(24, 10).double(), points.double()) is None
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert packed(layer_of(24, 10), points) is None


class OneByOne(nn.Module):
    """Gives its layer the points without their batch."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Conv2d(3, 4, 1)

    def forward(self, points: Tensor) -> Tensor:
        return torch.stack([self.body(point).mean(dim=(1, 2)) for point in points])


def test_a_layer_that_is_given_no_batch_is_left_alone() -> None:
    network, points = frozen(OneByOne()), noise(2, 3, 6, 6)
    fast = optimised(network, points).network
    assert type(fast.get_submodule("body")) is nn.Conv2d
    for found, expected in zip(answers(fast, points), answers(network, points), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Conv2d(12, 8, 1, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.head = nn.Conv2d(8, 5, 1)

    def forward(self, points: Tensor) -> Tensor:
        result: Tensor = self.head(F.relu(self.norm(self.body(points)), inplace=True)).mean(dim=(2, 3))
        return result


def test_a_network_keeps_its_names_parameters_and_answers() -> None:
    network = frozen(Network().eval())
    points = noise(2, 12, 4, 4)
    fast = optimised(network, points).network
    assert all(isinstance(fast.get_submodule(name), PackedPointwise) for name in ("body", "head"))
    assert fast.get_submodule("head").state_dict().keys() == network.head.state_dict().keys()
    for one in (fast, copy.deepcopy(fast)):
        for found, expected in zip(answers(one, points), answers(network, points), strict=True):
            assert torch.allclose(found, expected, rtol=1e-5, atol=1e-7)


def test_a_processor_without_such_convolutions_keeps_its_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed_pointwise, "PackedKernel", missing)
    fast = optimised(frozen(Network().eval()), noise(1, 12, 4, 4)).network
    assert type(fast.get_submodule("head")) is nn.Conv2d


def test_a_packed_layer_that_gives_something_else_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    call = packed_pointwise.PackedKernel.__call__
    monkeypatch.setattr(packed_pointwise.PackedKernel, "__call__", lambda self, values: call(self, values).flip(1))
    assert packed(layer_of(24, 10), noise(1, 24, 6, 6)) is None
