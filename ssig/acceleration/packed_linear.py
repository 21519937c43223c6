"""Linear layers on the CPU with packed matrices, for forward passes and gradients of the input.

    y = x W^T + b,   dx = dy W

torch packs matrices in each call, for another kernel than that of convolutions. Frozen matrices are packed once, for
the kernel of convolutions, which on some processors is twice as fast.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ssig.acceleration.operators import Mapped, working_type


class PackedMatrix:
    """`x W^T + b` of points (..., I) with a matrix (O, I) of their type; without gradient.

    Args:
        rows: the number of rows for which products are the fastest; any number is allowed.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, rows: int) -> None:
        self.bias = bias
        self.weight = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), rows)

    def __deepcopy__(self, memo: dict[int, Any]) -> PackedMatrix:
        return self  # it is never changed, and a packed matrix cannot be copied

    def __call__(self, values: Tensor) -> Tensor:
        result: Tensor = torch.ops.mkldnn._linear_pointwise(
            values.contiguous(), self.weight, self.bias, "none", [], ""
        )
        return result


class PackedLinear(nn.Linear):
    """A frozen `nn.Linear` for points of one type; for other types it computes as `nn.Linear`.

    Its parameters are the tensors of the layer that it replaces, and must not change.

    Args:
        layer: the layer.
        rows: typical number of vectors in a batch.
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
