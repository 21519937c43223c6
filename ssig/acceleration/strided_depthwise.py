"""Depthwise convolutions with a stride, in bf16 on the CPU, with an input gradient computed by a forward convolution.

    y_i  = sum_j w_j x_(s i + j - t)          stride s, t rows of padding before
    dx_n = sum_j w_j dy_((n + t - j) / s)     over the j that make the index whole: the flipped kernel over dy with
                                              s - 1 zeros between its rows

The library's backward convolution takes at least ten times as long. In float32, without a stride or with fewer groups
it is as fast.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d

from ssig.acceleration.operators import AlignedConv, Mapped, working_type

_NHWC = torch.channels_last


class StridedDepthwise(nn.Module):
    """A frozen `Conv2d` or `AlignedConv` with a faster backward pass; other types and sizes use the layer itself.

    Args:
        layer: one for which `suits` is true; its weights must not change any more.
    """

    flipped: Tensor

    def __init__(self, layer: nn.Conv2d | AlignedConv) -> None:
        super().__init__()
        self.layer = layer
        kernel, (self.padding, self.stride) = _kernel(layer), _geometry(layer)
        flipped = kernel.detach().to(torch.bfloat16).flip(2, 3).contiguous(memory_format=_NHWC)
        self.register_buffer("flipped", flipped, persistent=False)

    @staticmethod
    def suits(layer: nn.Module) -> bool:
        """Whether a plain `Conv2d` or an `AlignedConv` has a faster form."""
        conv: Any = layer.layer if isinstance(layer, AlignedConv) else layer
        plain = conv.padding_mode == "zeros" and not isinstance(conv.padding, str) and set(conv.dilation) == {1}
        depthwise = conv.groups == conv.in_channels == conv.out_channels > 1 and max(conv.stride) > 1
        frozen = not conv.weight.requires_grad and conv.weight.device.type == "cpu"
        if not (plain and depthwise and frozen):
            return False
        padding, _ = _geometry(layer)
        return all(before < size for before, size in zip(padding, _kernel(layer).shape[2:], strict=True))

    def forward(self, values: Tensor) -> Tensor:
        if not self._is_for(values):
            unchanged: Tensor = self.layer(values)
            return unchanged
        result: Tensor = Mapped.apply(values.to(torch.bfloat16), self.layer, partial(self._back, values.shape))
        return result

    def _is_for(self, values: Tensor) -> bool:
        aligned = not isinstance(self.layer, AlignedConv) or tuple(values.shape[-2:]) == self.layer.size
        return values.device.type == "cpu" and working_type(values) == torch.bfloat16 and aligned

    def _back(self, size: torch.Size, gradient: Tensor) -> Tensor:
        """dy -> dx for inputs of a size (B, C, H, W)."""
        kernel = self.flipped.to(gradient.dtype)
        height, width = (n + k - 1 for n, k in zip(size[2:], kernel.shape[2:], strict=True))
        top, left = (k - 1 - t for k, t in zip(kernel.shape[2:], self.padding, strict=True))
        shape = (*size[:2], height, width)
        spread = torch.empty(shape, dtype=gradient.dtype, memory_format=_NHWC).zero_()
        rows, columns = self.stride
        spread[:, :, top::rows, left::columns][:, :, : gradient.shape[2], : gradient.shape[3]] = gradient
        return conv2d(spread, kernel, groups=size[1])


def _kernel(layer: Any) -> Tensor:
    """(C, 1, kh, kw)."""
    kernel: Tensor = layer.kernel if isinstance(layer, AlignedConv) else layer.weight
    return kernel


def _geometry(layer: Any) -> tuple[tuple[int, int], tuple[int, int]]:
    """Padding, equal on both sides, and stride, of rows and columns."""
    stride = layer.layer.stride if isinstance(layer, AlignedConv) else layer.stride
    return tuple(layer.padding), tuple(stride)
