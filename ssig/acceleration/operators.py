"""Faster versions of library layers, for networks of which only the input's gradient is computed.

clamp   the derivative is 1 where the *result* lies strictly between the bounds, so the input is not stored
conv    y_i = sum_j w_j x_(s i + j - t), t rows of padding before and b >= t after: with b - t zeros before the
        kernel, b rows on both sides give the same, without a padded copy of the input, forward and backward
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from timm.layers.conv2d_same import Conv2dSame
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import conv2d, pad

Map = Callable[[Tensor], Tensor]


class Mapped(torch.autograd.Function):
    """`forth` of values, an affine map with frozen parts, and its gradient: `back`, the linear part's adjoint."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, forth: Map, back: Map) -> Tensor:
        ctx.back = back
        return forth(values)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return ctx.back(gradient), None, None


def working_type(values: Tensor) -> torch.dtype:
    """The type in which a layer on the CPU works on values: under autocast, the type of the autocast."""
    return torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else values.dtype


class _Clamped(torch.autograd.Function):
    """`min(max(x, low), high)` in place.

    The incoming gradient may be shared with other operations, as by both terms of a sum. So it is never written to.
    """

    @staticmethod
    def forward(ctx: Any, values: Tensor, low: float, high: float) -> Tensor:
        ctx.mark_dirty(values.clamp_(low, high))
        ctx.save_for_backward(values)
        ctx.bounds = low, high
        return values

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (values,) = ctx.saved_tensors
        return torch.ops.aten.hardtanh_backward(gradient, values, *ctx.bounds), None, None


class InPlaceClamp(nn.Module):
    """A `Hardtanh` or `ReLU6` that works in place without a copy of its input."""

    def __init__(self, bounds: nn.Hardtanh) -> None:
        super().__init__()
        self.low, self.high = bounds.min_val, bounds.max_val

    def forward(self, values: Tensor) -> Tensor:
        if not (torch.is_grad_enabled() and values.requires_grad):
            return values.clamp_(self.low, self.high)
        result: Tensor = _Clamped.apply(values, self.low, self.high)
        return result


class AlignedConv(nn.Module):
    """A `Conv2dSame` for inputs of one size, with its unequal padding in the kernel; other sizes use the layer itself.

    Args:
        layer: without dilation.
        size: (H, W) of its input.
        layout: of its kernel.
    """

    kernel: Tensor

    def __init__(
        self, layer: Conv2dSame, size: tuple[int, int], layout: torch.memory_format = torch.channels_last
    ) -> None:
        super().__init__()
        self.layer = layer
        self.size = size
        before, after = zip(*(_padding(*dimension) for dimension in _dimensions(layer, size)), strict=True)
        self.before, self.padding = before, after
        zeros = [after[1] - before[1], 0, after[0] - before[0], 0]
        kernel = pad(layer.weight.detach(), zeros).contiguous(memory_format=layout)
        self.register_buffer("kernel", kernel, persistent=False)

    def forward(self, values: Tensor) -> Tensor:
        if tuple(values.shape[-2:]) != self.size:
            result: Tensor = self.layer(values)
            return result
        layer = self.layer
        return conv2d(values, self.kernel, layer.bias, layer.stride, self.padding, 1, layer.groups)


def _dimensions(layer: Conv2dSame, size: tuple[int, int]) -> list[tuple[int, int, int]]:
    """Input, kernel and stride of rows and columns."""
    return list(zip(size, layer.kernel_size, layer.stride, strict=True))


def _padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Padding before and after, for ceil(size / stride) outputs."""
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2
