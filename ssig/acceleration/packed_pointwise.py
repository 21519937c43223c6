"""Convolutions of one pixel on the CPU with packed kernels, for forward passes and gradients of the input.

    y_chw = sum_k W_ck x_khw + b_c,   dx_khw = sum_c W_ck dy_chw

On one thread, as in each lane (`ssig.engine.lanes`), torch computes fewer than 16 points with another library than
all other convolutions, which on some processors is half as fast. Here frozen kernels are packed once, for the fast
one. With more threads, and in bf16, torch takes the fast one itself.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ssig.acceleration.operators import Mapped, working_type


class PackedKernel:
    """The convolution of points (B, I, H, W) with a kernel (O, I, 1, 1) of their type; without gradient.

    A `PackedMatrix` is as fast, but gives channels last as a view, which an activation in place would copy.

    Args:
        size: of the points for which it is the fastest; any size is allowed.
    """

    def __init__(self, kernel: Tensor, bias: Tensor | None, size: tuple[int, ...]) -> None:
        self.bias = bias
        packed = torch.ops.mkldnn._reorder_convolution_weight
        self.kernel = packed(kernel.contiguous(), [0, 0], [1, 1], [1, 1], 1, list(size))

    def __deepcopy__(self, memo: dict[int, Any]) -> PackedKernel:
        return self  # it is never changed, and a packed kernel cannot be copied

    def __call__(self, values: Tensor) -> Tensor:
        result: Tensor = torch.ops.mkldnn._convolution_pointwise(
            *(values.contiguous(memory_format=torch.channels_last), self.kernel, self.bias),
            *([0, 0], [1, 1], [1, 1], 1, "none", [], ""),
        )
        return result


class PackedPointwise(nn.Conv2d):
    """A frozen `nn.Conv2d` of one pixel for points of one type on one thread; otherwise it computes as `nn.Conv2d`.

    Its parameters are the tensors of the layer that it replaces, and must not change.

    Args:
        layer: one for which `suits` is true.
        size: typical size of the points, (B, C, H, W).
        dtype: `working_type` of the points.

    Raises:
        AttributeError, RuntimeError: this build of torch or this processor has no such convolution.
    """

    def __init__(self, layer: nn.Conv2d, size: tuple[int, int, int, int], dtype: torch.dtype) -> None:
        super().__init__(layer.in_channels, layer.out_channels, 1, device="meta")
        self.weight, self.bias = layer.weight, layer.bias
        self.dtype = dtype
        kernel = layer.weight.detach().to(dtype)
        bias = None if layer.bias is None else layer.bias.detach().to(dtype)
        self.forth = PackedKernel(kernel, bias, size)
        self.back = PackedKernel(kernel.transpose(0, 1), None, (size[0], layer.out_channels, *size[2:]))

    @staticmethod
    def suits(layer: nn.Conv2d) -> bool:
        """Whether a layer that computes as `nn.Conv2d` does can be packed."""
        one_pixel = {*layer.kernel_size, *layer.stride} == {1} and layer.padding in ((0, 0), "valid", "same")
        return one_pixel and layer.groups == 1 and not layer.weight.requires_grad and layer.weight.device.type == "cpu"

    def forward(self, values: Tensor) -> Tensor:
        if not self._is_for(values):
            return super().forward(values)
        result: Tensor = Mapped.apply(values.to(self.dtype), self.forth, self.back)
        return result

    def _is_for(self, values: Tensor) -> bool:
        usual = values.device.type == "cpu" and values.ndim == 4 and working_type(values) == self.dtype
        return usual and torch.get_num_threads() == 1
