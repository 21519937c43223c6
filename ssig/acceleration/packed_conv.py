"""Convolutions on the CPU of which only the input's gradient is wanted: forward convolutions both ways.

    y_i  = sum_j w_j x_(s i + j - t)                   stride s, t rows of padding before
    dx_n = sum_j w_j dy_((n + t - j) / s)              over the j that make the index whole

    s = 1               dx is the convolution of dy with the flipped kernel
    s > 1, depthwise    the same, after s - 1 zeros between the rows of dy
    s > 1, few inputs   dx_(s a + r - t) = sum_m w_(r + s m) dy_(a - m): one convolution of dy gives all phases r as
                        channels, which are then put between each other's pixels
    else                the library's backward convolution

Kernels are frozen, so they are brought into the layout that suits the processor once and not in each call.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from ssig.acceleration.operators import AlignedConv, Map, Mapped, working_type

Pair = tuple[int, int]

# Of so few input channels (an image's), convolving all phases at once costs less than the library's backward.
FEW_CHANNELS = 4
_NHWC = torch.channels_last


class Packed:
    """A convolution of stride s with a kernel that is packed for inputs of one size; it knows no gradient.

    Args:
        kernel: (O, C / groups, kh, kw), of the type in which it works.
        size: (B, C, H, W) of the inputs it is fastest for; others are convolved as well.
    """

    def __init__(
        self, kernel: Tensor, bias: Tensor | None, stride: Pair, padding: Pair, groups: int, size: tuple[int, ...]
    ) -> None:
        self.bias = bias
        self.shape = list(padding), list(stride), [1, 1], groups
        self.kernel = torch.ops.mkldnn._reorder_convolution_weight(kernel.contiguous(), *self.shape, list(size))

    def __deepcopy__(self, memo: dict[int, Any]) -> Packed:
        return self  # never changed, and a packed kernel cannot be copied

    def __call__(self, values: Tensor) -> Tensor:
        values = values.contiguous(memory_format=_NHWC)
        result: Tensor = torch.ops.mkldnn._convolution_pointwise(
            values, self.kernel, self.bias, *self.shape, "none", [], ""
        )
        return result


class PackedConv(nn.Module):
    """A frozen `Conv2d`, or `AlignedConv`, for inputs of one type and one (H, W); others go the layer's own way.

    The layer's weights must not change any more.

    Args:
        layer: without dilation, padded with zeros.
        size: (B, C, H, W) of its input; B is a hint.
        dtype: `working_type` of the points that it convolves.

    Raises:
        AttributeError, RuntimeError: this build of torch or this processor has no such convolutions.
    """

    def __init__(self, layer: nn.Conv2d | AlignedConv, size: tuple[int, ...], dtype: torch.dtype) -> None:
        super().__init__()
        self.layer = layer
        self.dtype = dtype
        self.size = size[1:]
        shape = _Shape.of(layer, dtype)
        self.forth = Packed(shape.kernel, shape.bias, shape.stride, shape.padding, shape.groups, size)
        self.back = _backward(shape, torch.Size(size))

    @staticmethod
    def suits(layer: nn.Module) -> bool:
        """Whether a layer, if its class computes as `Conv2d` or `AlignedConv` does, can be packed."""
        own: Any = layer.layer if isinstance(layer, AlignedConv) else layer
        plain = own.padding_mode == "zeros" and not isinstance(own.padding, str) and set(own.dilation) == {1}
        return plain and not own.weight.requires_grad and own.weight.device.type == "cpu"

    def forward(self, values: Tensor) -> Tensor:
        if values.device.type != "cpu" or working_type(values) != self.dtype or values.shape[1:] != self.size:
            result: Tensor = self.layer(values)
            return result
        result = Mapped.apply(values.to(self.dtype), self.forth, self.back)
        return result


@dataclass(frozen=True)
class _Shape:
    """What a layer computes, in one type.

    Attributes:
        weight: (O, C / groups, kh, kw), for `before` rows of padding before the input.
        kernel: the same with rows of zeros before it that make `padding` equal on both sides.
    """

    weight: Tensor
    kernel: Tensor
    bias: Tensor | None
    stride: Pair
    before: Pair
    padding: Pair
    groups: int

    @classmethod
    def of(cls, layer: nn.Conv2d | AlignedConv, dtype: torch.dtype) -> _Shape:
        own: Any = layer.layer if isinstance(layer, AlignedConv) else layer
        kernel, before, padding = own.weight, own.padding, own.padding
        if isinstance(layer, AlignedConv):
            kernel, before, padding = layer.kernel, layer.before, layer.padding

        def frozen(values: Tensor | None) -> Any:
            return None if values is None else values.detach().to(dtype)

        return cls(frozen(own.weight), frozen(kernel), frozen(own.bias), own.stride, before, padding, own.groups)

    def outputs(self, size: torch.Size) -> torch.Size:
        """Size of what is computed of inputs of a size."""
        area = [
            (n + 2 * p - k) // s + 1
            for n, k, s, p in zip(size[2:], self.kernel.shape[2:], self.stride, self.padding, strict=True)
        ]
        return torch.Size((size[0], len(self.kernel), *area))


def _backward(shape: _Shape, size: torch.Size) -> Map:
    """dy -> dx for inputs of a size, by the rule that suits the layer."""
    weight, kernel, stride, groups = shape.weight, shape.kernel, shape.stride, shape.groups
    rest = (kernel.shape[2] - 1 - shape.padding[0], kernel.shape[3] - 1 - shape.padding[1])
    if min(rest) >= 0:
        if tuple(stride) == (1, 1):
            return Packed(_turned(kernel, groups), None, (1, 1), rest, groups, shape.outputs(size))
        if groups == len(weight) == size[1]:
            return _spread(weight, stride, shape.before, size)
        if groups == 1 and size[1] <= FEW_CHANNELS and stride[0] == stride[1]:
            return _phases(weight, stride[0], shape.before, size, shape.outputs(size))

    def library(gradient: Tensor) -> Tensor:
        # Of the input only the shape is used.
        values = torch.empty((len(gradient), *size[1:]), dtype=gradient.dtype, memory_format=_NHWC)
        options = list(stride), list(shape.padding), [1, 1], False, [0, 0], groups, [True, False, False]
        found: Tensor = torch.ops.aten.convolution_backward(gradient, values, kernel, None, *options)[0]
        return found

    return library


def _turned(kernel: Tensor, groups: int) -> Tensor:
    """(O, C / groups, kh, kw) as (C, O / groups, kh, kw), flipped."""
    outer, inner, height, width = kernel.shape
    split = kernel.flip(2, 3).reshape(groups, outer // groups, inner, height, width)
    return split.transpose(1, 2).reshape(groups * inner, outer // groups, height, width)


def _spread(weight: Tensor, stride: Pair, before: Pair, size: torch.Size) -> Map:
    """Depthwise: zeros around and between the rows of dy, then the flipped kernel."""
    height, width = (n + k - 1 for n, k in zip(size[2:], weight.shape[2:], strict=True))
    top, left = (k - 1 - t for k, t in zip(weight.shape[2:], before, strict=True))
    flipped = Packed(_turned(weight, size[1]), None, (1, 1), (0, 0), size[1], (*size[:2], height, width))

    def gradient_of(gradient: Tensor) -> Tensor:
        shape = (len(gradient), size[1], height, width)
        spread = torch.empty(shape, dtype=gradient.dtype, memory_format=_NHWC).zero_()
        spread[:, :, top :: stride[0], left :: stride[1]][:, :, : gradient.shape[2], : gradient.shape[3]] = gradient
        return flipped(spread)

    return gradient_of


def _phases(weight: Tensor, stride: int, before: Pair, size: torch.Size, out: torch.Size) -> Map:
    """All s x s phases of dx as channels of one convolution of dy."""
    outer, inner, height, width = weight.shape
    rows, columns = -(-height // stride), -(-width // stride)
    full = pad(weight, [0, columns * stride - width, 0, rows * stride - height])
    taps = full.reshape(outer, inner, rows, stride, columns, stride).permute(1, 3, 5, 0, 2, 4).flip(4, 5)
    kernel = taps.reshape(inner * stride * stride, outer, rows, columns)
    packed = Packed(kernel, None, (1, 1), (rows - 1, columns - 1), 1, out)

    def gradient_of(gradient: Tensor) -> Tensor:
        full = _interleaved(packed(gradient), stride)
        # Rows beyond the last that an output took are zero.
        missing = [max(t + n - m, 0) for t, n, m in zip(before, size[2:], full.shape[2:], strict=True)]
        full = pad(full, [0, missing[1], 0, missing[0]]) if any(missing) else full
        return full[:, :, before[0] : before[0] + size[2], before[1] : before[1] + size[3]]

    return gradient_of


def _interleaved(phases: Tensor, stride: int) -> Tensor:
    """(B, C s s, H, W) as (B, C, s H, s W), contiguous; what `pixel_shuffle` gives, in a third of its time."""
    count, channels, height, width = phases.shape
    split = phases.view(count, -1, stride, stride, height, width)
    result = phases.new_empty(count, channels // stride**2, stride * height, stride * width)
    for row in range(stride):
        for column in range(stride):
            result[:, :, row::stride, column::stride] = split[:, :, row, column]
    return result
