"""Strided depthwise convolutions in bf16 give the library's outputs and gradients; other layers are left alone."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from frozen_layers import answers, frozen, noise
from timm.layers.conv2d_same import Conv2dSame
from torch import Tensor, nn
from torch.nn import functional as F

from ssig.acceleration import strided_depthwise
from ssig.acceleration.operators import AlignedConv
from ssig.acceleration.optimise import optimised
from ssig.acceleration.packing import TOLERANCE, packed
from ssig.acceleration.strided_depthwise import StridedDepthwise

LAYERS: dict[str, dict[str, Any]] = {
    "stride 2": {"kernel_size": 3, "padding": 1, "stride": 2},
    "large kernel": {"kernel_size": 5, "padding": 2, "stride": 2},
    "no padding": {"kernel_size": 3, "stride": 3},
    "unequal sides": {"kernel_size": (3, 5), "padding": (0, 2), "stride": (1, 2)},
    "strides of their own": {"kernel_size": 3, "padding": (1, 0), "stride": (3, 2)},
    "pixels that no output takes": {"kernel_size": 1, "stride": 2},
}


def in_bf16(layer: nn.Module, points: Tensor) -> nn.Module:
    """The layer's faster form, under the autocast that it works under."""
    with torch.autocast("cpu", dtype=torch.bfloat16):
        form = packed(layer, points)
    assert isinstance(form, StridedDepthwise)
    return form


def assert_same(layer: nn.Module, form: nn.Module, points: Tensor) -> None:
    """As close to the library's as bf16 comes, of the same type and shape."""
    with torch.autocast("cpu", dtype=torch.bfloat16):
        pairs = zip(answers(form, points), answers(layer, points), strict=True)
    for ours, theirs in pairs:
        assert (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape)
        assert (ours.float() - theirs.float()).norm() <= TOLERANCE[torch.bfloat16] * theirs.float().norm()


@pytest.mark.parametrize("size", [(16, 16), (17, 12), (15, 31)])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("name", LAYERS)
def test_outputs_and_gradients_are_the_librarys(name: str, bias: bool, size: tuple[int, int]) -> None:
    layer = frozen(nn.Conv2d(4, 4, groups=4, **LAYERS[name], bias=bias))
    form = in_bf16(layer, noise(1, 4, *size))
    for batch in (1, 3):
        assert_same(layer, form, noise(batch, 4, *size))
        assert_same(layer, form, noise(batch, 4, *size).contiguous(memory_format=torch.channels_last))
    assert_same(layer, form, noise(1, 4, size[0] + 3, size[1] + 2))


def test_gradients_are_those_of_float64() -> None:
    """The library is no witness in bf16 of what it gives itself: the exact gradient is."""
    layer = frozen(nn.Conv2d(4, 4, 3, stride=2, padding=1, groups=4))
    points = noise(2, 4, 16, 15)
    form = in_bf16(layer, points)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        gradient = answers(form, points)[1].double()
    exact = answers(copy.deepcopy(layer).double(), points.double())[1]
    assert (gradient - exact).norm() <= TOLERANCE[torch.bfloat16] * exact.norm()


@pytest.mark.parametrize("size", [(16, 16), (17, 12)])
@pytest.mark.parametrize(("kernel", "stride"), [(3, 2), (5, 2), (2, 2), (4, 3)])
def test_unequal_padding(kernel: int, stride: int, size: tuple[int, int]) -> None:
    aligned = AlignedConv(frozen(Conv2dSame(4, 4, kernel, stride=stride, groups=4)), size)  # type: ignore[arg-type]
    form = in_bf16(aligned, noise(1, 4, *size))
    assert_same(aligned, form, noise(2, 4, *size))
    assert_same(aligned, form, noise(2, 4, size[0] + 1, size[1] + 2))


def test_points_of_another_type_go_the_layers_own_way() -> None:
    layer = frozen(nn.Conv2d(4, 4, 3, stride=2, groups=4))
    form = in_bf16(layer, noise(1, 4, 8, 8))
    form._back = None  # type: ignore[assignment]  # which the layer's own way does not call
    torch.testing.assert_close(answers(form, noise(1, 4, 8, 8))[1], answers(layer, noise(1, 4, 8, 8))[1])
    assert form.double()(noise(1, 4, 8, 8).double()).dtype == torch.float64


@pytest.mark.parametrize(
    "options",
    [
        {"groups": 4, "padding": 1},
        {"groups": 2, "stride": 2},
        {"groups": 4, "stride": 2, "out_channels": 8},
        {"groups": 4, "stride": 2, "padding": 1, "padding_mode": "reflect"},
        {"groups": 4, "stride": 2, "dilation": 2},
        {"groups": 4, "stride": 2, "padding": 3},
    ],
    ids=["no stride", "groups", "twice as many outputs", "reflecting", "dilated", "more padding than kernel"],
)
def test_other_layers_are_left_alone(options: dict[str, Any]) -> None:
    layer = frozen(nn.Conv2d(**{"in_channels": 4, "out_channels": 4, "kernel_size": 3, **options}))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert packed(layer, noise(1, 4, 8, 8)) is None


def test_float32_and_layers_that_may_change_are_left_alone() -> None:
    layer = nn.Conv2d(4, 4, 3, stride=2, groups=4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert packed(layer, noise(1, 4, 8, 8)) is None
    assert packed(frozen(layer), noise(1, 4, 8, 8)) is None


def test_a_form_that_gives_something_else_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    back: Callable[..., Tensor] = StridedDepthwise._back
    monkeypatch.setattr(strided_depthwise.StridedDepthwise, "_back", lambda *given: back(*given).flip(3))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert packed(frozen(nn.Conv2d(4, 4, 3, stride=2, groups=4)), noise(1, 4, 8, 8)) is None


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.deep = nn.Conv2d(8, 8, 3, stride=2, padding=1, groups=8)
        self.head = nn.Linear(8, 5)

    def forward(self, points: Tensor) -> Tensor:
        points = F.relu(self.deep(F.relu(self.stem(points))))
        result: Tensor = self.head(points.mean(dim=(2, 3)))
        return result


def faster(network: nn.Module) -> nn.Module:
    return optimised(network, noise(2, 3, 12, 10), precision="bf16").network


def test_a_network_takes_the_form_where_it_suits_and_keeps_its_answers() -> None:
    network = frozen(Network())
    fast = faster(network)
    assert type(fast.get_submodule("stem")) is nn.Conv2d
    assert isinstance(fast.get_submodule("deep"), StridedDepthwise)
    for each in (fast, copy.deepcopy(fast)):
        assert_same(network, each, noise(2, 3, 12, 10))


def test_a_layer_that_has_another_forward_or_a_hook_is_left_alone() -> None:
    class Twice(nn.Conv2d):
        def forward(self, input: Tensor) -> Tensor:
            return 2 * super().forward(input)

    network = Network()
    network.deep = Twice(8, 8, 3, stride=2, padding=1, groups=8)
    assert isinstance(faster(frozen(network)).get_submodule("deep"), Twice)
    network = Network()
    network.deep.register_forward_hook(lambda module, inputs, output: output + 1)
    assert type(faster(frozen(network)).get_submodule("deep")) is nn.Conv2d


def test_a_layer_whose_weights_the_network_looks_at_is_left_alone() -> None:
    class Looks(Network):
        def forward(self, points: Tensor) -> Tensor:
            return super().forward(points.to(self.deep.weight.device))

    assert type(faster(frozen(Looks())).get_submodule("deep")) is nn.Conv2d


def test_a_network_that_raises_is_left_to_raise_where_it_is_used() -> None:
    class Raises(Network):
        def forward(self, points: Tensor) -> Tensor:
            raise ValueError("broken")

    fast = faster(frozen(Raises()))
    with pytest.raises(ValueError, match="broken"):
        fast(noise(1, 3, 12, 10))
