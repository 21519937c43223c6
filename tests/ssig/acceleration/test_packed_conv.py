"""Packed convolutions give what the library's do, and their input gradients; what does not suit them is left alone."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from frozen_layers import answers, frozen, missing, noise
from timm.layers.conv2d_same import Conv2dSame
from torch import Tensor, nn
from torch.nn import functional as F

from ssig.acceleration import packed_conv
from ssig.acceleration.operators import AlignedConv
from ssig.acceleration.optimise import optimised
from ssig.acceleration.packed_conv import PackedConv
from ssig.acceleration.packing import TOLERANCE, packed

LAYERS: dict[str, dict[str, Any]] = {
    "pointwise": {"kernel_size": 1},
    "dense": {"kernel_size": 3, "padding": 1},
    "no padding": {"kernel_size": 3},
    "unequal sides": {"kernel_size": (3, 5), "padding": (0, 2)},
    "groups": {"kernel_size": 3, "padding": 1, "groups": 2},
    "depthwise": {"kernel_size": 5, "padding": 2, "groups": 4},
    "depthwise, stride 2": {"kernel_size": 3, "padding": 1, "groups": 4, "stride": 2},
    "depthwise, strides of their own": {"kernel_size": 3, "padding": (1, 0), "groups": 4, "stride": (3, 2)},
    "twice as many outputs": {"kernel_size": 3, "padding": 1, "groups": 4, "stride": 2, "out_channels": 8},
    "strided pointwise": {"kernel_size": 1, "stride": 2},
    "image, stride 2": {"kernel_size": 7, "padding": 3, "stride": 2},
    "image, stride 3": {"kernel_size": 4, "stride": 3},
    "image, patches": {"kernel_size": 4, "stride": 4},
    "image, strides of their own": {"kernel_size": 3, "stride": (1, 2)},
    "more padding than kernel": {"kernel_size": 2, "padding": 3},
}
DEEP = {"in_channels": 6, "out_channels": 6}


def assert_same(layer: nn.Module, ours: nn.Module, points: Tensor) -> None:
    """As close to float64 as single precision comes."""
    double = copy.deepcopy(layer).double()
    for found, expected in zip(answers(ours, points), answers(double, points.double()), strict=True):
        assert found.shape == expected.shape
        assert (found - expected).norm() <= 1e-6 * expected.norm()


@pytest.mark.parametrize("size", [(16, 16), (17, 12), (15, 31)])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("name", LAYERS)
def test_outputs_and_gradients_are_those_of_float64(name: str, bias: bool, size: tuple[int, int]) -> None:
    channels = {"in_channels": 4, "out_channels": 4}
    layer = frozen(nn.Conv2d(**{**channels, **LAYERS[name]}, bias=bias))
    ours = packed(layer, noise(1, 4, *size))
    assert isinstance(ours, PackedConv)
    for batch in (1, 3):
        assert_same(layer, ours, noise(batch, 4, *size))
        assert_same(layer, ours, noise(batch, 4, *size).contiguous(memory_format=torch.channels_last))


@pytest.mark.parametrize(("kernel", "stride"), [(3, 2), (1, 2), (5, 2)])
def test_strided_layers_of_many_channels_go_backward_by_the_library(kernel: int, stride: int) -> None:
    layer = frozen(nn.Conv2d(**DEEP, kernel_size=kernel, stride=stride, padding=kernel // 2))
    ours = packed(layer, noise(1, 6, 15, 16))
    assert ours is not None
    assert_same(layer, ours, noise(2, 6, 15, 16))


@pytest.mark.parametrize("size", [(16, 16), (17, 12)])
@pytest.mark.parametrize("groups", [1, 4])
@pytest.mark.parametrize(("kernel", "stride"), [(3, 2), (5, 2), (3, 1), (2, 2), (4, 3)])
def test_unequal_padding_is_packed_too(kernel: int, stride: int, groups: int, size: tuple[int, int]) -> None:
    layer = Conv2dSame(4, 4, kernel, stride=stride, groups=groups)
    frozen(layer)
    aligned = AlignedConv(layer, size)
    ours = packed(aligned, noise(1, 4, *size))
    assert ours is not None
    assert_same(layer, ours, noise(2, 4, *size))


def test_other_points_go_the_layers_own_way() -> None:
    layer = frozen(nn.Conv2d(4, 4, 3, padding=1))
    ours = packed(layer, noise(1, 4, 8, 8))
    assert ours is not None
    ours.back = None  # type: ignore[assignment]  # of the packed way alone
    other = noise(1, 4, 9, 8)
    assert torch.equal(answers(ours, other)[1], answers(layer, other)[1])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert ours(noise(1, 4, 8, 8)).dtype == torch.bfloat16
    double = ours.double()
    assert double(noise(1, 4, 8, 8).double()).dtype == torch.float64


def test_gradients_that_are_one_number_seen_many_times() -> None:
    layer = frozen(nn.Conv2d(4, 4, 3, padding=1))
    ours = packed(layer, noise(1, 4, 8, 8))
    assert ours is not None
    gradients = []
    for one in (layer, ours):
        points = noise(2, 4, 8, 8).requires_grad_()
        gradients.append(torch.autograd.grad(one(points).sum(), points)[0])
    assert torch.allclose(*gradients, rtol=1e-5, atol=1e-6)


def test_low_precision_under_autocast_and_without_gradients() -> None:
    layer = frozen(nn.Conv2d(3, 4, 3, padding=1, stride=2))
    points = noise(2, 3, 8, 8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        ours = packed(layer, points)
        if ours is None:
            pytest.skip("this processor packs no bf16")
        found, expected = answers(ours, points), answers(layer, points)
        with torch.no_grad():
            assert torch.equal(ours(points), found[0])
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == other.dtype
        assert (one.float() - other.float()).norm() <= TOLERANCE[torch.bfloat16] * other.float().norm()


@pytest.mark.parametrize(
    "layer",
    [
        frozen(nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect")),
        frozen(nn.Conv2d(4, 4, 3, padding="same")),
        frozen(nn.Conv2d(4, 4, 3, dilation=2)),
        nn.Conv2d(4, 4, 3),
    ],
    ids=["reflecting", "padding by name", "dilated", "not frozen"],
)
def test_unusual_layers_are_left_alone(layer: nn.Module) -> None:
    assert packed(layer, noise(1, 4, 8, 8)) is None


def test_points_of_another_type_are_left_alone() -> None:
    assert packed(frozen(nn.Conv2d(4, 4, 3)).double(), noise(1, 4, 8, 8).double()) is None


def count_calls(function: Callable[..., None], calls: list[object]) -> Callable[..., None]:
    def counted(*arguments: Any) -> None:
        calls.append(arguments)
        function(*arguments)

    return counted


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.body = nn.Conv2d(8, 8, 3, padding=1)
        self.head = nn.Linear(8, 5)

    def forward(self, points: Tensor) -> Tensor:
        points = F.relu(self.body(F.relu(self.stem(points))))
        result: Tensor = self.head(points.mean(dim=(2, 3)))
        return result


def test_a_network_keeps_its_names_and_answers() -> None:
    network = frozen(Network())
    points = noise(2, 3, 12, 10)
    fast = optimised(network, points).network
    assert isinstance(fast.get_submodule("stem"), PackedConv)
    assert isinstance(fast.get_submodule("body"), PackedConv)
    for one in (fast, copy.deepcopy(fast)):
        for found, expected in zip(answers(one, points), answers(network, points), strict=True):
            assert torch.allclose(found, expected, rtol=1e-5, atol=1e-7)


def test_each_layer_is_packed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    monkeypatch.setattr(packed_conv.PackedConv, "__init__", count_calls(packed_conv.PackedConv.__init__, made))
    optimised(frozen(Network()), noise(1, 3, 12, 10))
    assert len(made) == 2


def test_a_layer_that_has_another_forward_or_a_hook_is_left_alone() -> None:
    class Twice(nn.Conv2d):
        def forward(self, input: Tensor) -> Tensor:
            return 2 * super().forward(input)

    network = frozen(Network())
    network.body = Twice(8, 8, 3, padding=1)
    network.stem.register_forward_hook(lambda module, inputs, output: output + 1)
    fast = optimised(network, noise(1, 3, 12, 10)).network
    assert not any(isinstance(module, PackedConv) for module in fast.modules())


def test_a_layer_whose_weights_the_network_looks_at_is_left_alone() -> None:
    class Looks(Network):
        def forward(self, points: Tensor) -> Tensor:
            return super().forward(points.to(self.stem.weight.dtype))

    fast = optimised(frozen(Looks()), noise(1, 3, 12, 10)).network
    assert type(fast.get_submodule("stem")) is nn.Conv2d
    assert isinstance(fast.get_submodule("body"), PackedConv)


def test_a_network_that_raises_is_left_to_raise_where_it_is_used() -> None:
    class Raises(Network):
        def forward(self, points: Tensor) -> Tensor:
            raise ValueError("broken")

    fast = optimised(frozen(Raises()), noise(1, 3, 12, 10)).network
    with pytest.raises(ValueError, match="broken"):
        fast(noise(1, 3, 12, 10))


def test_a_processor_without_such_convolutions_keeps_its_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed_conv, "Packed", missing)
    fast = optimised(frozen(Network()), noise(1, 3, 12, 10)).network
    assert type(fast.get_submodule("body")) is nn.Conv2d


def test_a_packed_layer_that_gives_something_else_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    turned = packed_conv._turned
    monkeypatch.setattr(packed_conv, "_turned", lambda kernel, groups: turned(kernel, groups).flip(3))
    assert packed(frozen(nn.Conv2d(4, 4, 3, padding=1)), noise(1, 4, 8, 8)) is None
