"""Linear layers on the CPU of which only the input's gradient is wanted: products with packed matrices both ways.

    y = x W^T + b,   dx = dy W

The library multiplies with another kernel than it convolves with, and packs its matrices in each call; frozen ones
are packed once, for the kernel of convolutions, which on some processors is twice as fast.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ssig.acceleration.operators import Mapped, working_type


class PackedMatrix:
    """`x W^T + b` of points (..., I) with a matrix (O, I) of their type; it knows no gradient.

    Args:
        rows: products with so many rows are the fastest; others are done as well.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, rows: int) -> None:
        self.bias = bias
        self.weight = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), rows)

    def __deepcopy__(self, memo: dict[int, Any]) -> PackedMatrix:
        return self  # never changed, and a packed matrix cannot be copied

    def __call__(self, values: Tensor) -> Tensor:
        result: Tensor = torch.ops.mkldnn._linear_pointwise(
            values.contiguous(), self.weight, self.bias, "none", [], ""
        )
        return result


class PackedLinear(nn.Linear):
    """A frozen `nn.Linear` for points of one type; others go the usual way.

    It is the layer that it replaces in all but speed: its parameters are the same tensors, and must not change.

    Args:
        layer: the layer.
        rows: vectors in a batch, a hint.
        dtype: `working_type` of the points.

    Raises:
        AttributeError, RuntimeError: this build of torch or this processor has no such products.
    """

    def __init__(self, layer: nn.Linear, rows: int, dtype: torch.dtype) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features = layer.in_features, layer.out_features
        self.weight, self.bias = layer.weight, layer.bias
        self.dtype = dtype
        weight = layer.weight.detach().to(dtype)
        biases: Any = layer.bias
        bias = None if biases is None else biases.detach().to(dtype)
        self.forth = PackedMatrix(weight, bias, rows)
        self.back = PackedMatrix(weight.T, None, rows)

    @staticmethod
    def suits(layer: nn.Module) -> bool:
        """Whether a layer, if its class computes as `nn.Linear` does, can be packed."""
        weight: Any = layer.weight
        return not weight.requires_grad and weight.device.type == "cpu"

    def forward(self, values: Tensor) -> Tensor:
        if values.device.type != "cpu" or working_type(values) != self.dtype:
            return super().forward(values)
        result: Tensor = Mapped.apply(values.to(self.dtype), self.forth, self.back)
        return result
