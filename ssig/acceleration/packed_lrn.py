"""Local response normalisation across channels on the CPU, as products of a packed matrix.

    y = x d^-beta,   d = k + A x^2,   dx = dy d^-beta - 2 beta x A^T (dy y / d)

A_cj is alpha / n where channel j lies in the window of channel c, else 0. The library averages windows of a volume
with one channel, which takes a third of the time of a whole network such as GoogLeNet.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from ssig.acceleration.operators import working_type
from ssig.acceleration.packed_linear import PackedMatrix


class PackedLrn(nn.LocalResponseNorm):
    """An `nn.LocalResponseNorm` for points of one type and number of channels; otherwise it computes as that class.

    Args:
        layer: the layer.
        channels: of the points.
        rows: typical number of pixels in a batch.
        dtype: `working_type` of the points.

    Raises:
        AttributeError, RuntimeError: this build of torch or this processor has no such products.
    """

    def __init__(self, layer: nn.LocalResponseNorm, channels: int, rows: int, dtype: torch.dtype) -> None:
        super().__init__(layer.size, layer.alpha, layer.beta, layer.k)
        self.channels, self.dtype = channels, dtype
        steps = torch.arange(channels) - torch.arange(channels).unsqueeze(1)
        inside = (-(layer.size // 2) <= steps) & (steps <= (layer.size - 1) // 2)
        window = inside.to(dtype) * (layer.alpha / layer.size)
        self.forth = PackedMatrix(window, torch.full((channels,), float(layer.k), dtype=dtype), rows)
        self.back = PackedMatrix(window.T, None, rows)

    def forward(self, values: Tensor) -> Tensor:
        usual = values.device.type == "cpu" and values.ndim == 4 and values.shape[1] == self.channels
        if not usual or working_type(values) != self.dtype:
            return super().forward(values)
        last: Tensor = _Normalised.apply(values.permute(0, 2, 3, 1), self.forth, self.back, self.beta)
        return last.permute(0, 3, 1, 2)


class _Normalised(torch.autograd.Function):
    """`x d^-beta` of points (B, H, W, C)."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, forth: PackedMatrix, back: PackedMatrix, beta: float) -> Tensor:
        divisors = forth(values.square())
        factors = divisors.pow(-beta)
        ctx.save_for_backward(values, divisors, factors)
        ctx.back, ctx.beta = back, beta
        return values * factors

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        values, divisors, factors = ctx.saved_tensors
        direct = gradient * factors
        shared = ctx.back((direct * values).div_(divisors)).mul_(values)
        return direct.sub_(shared, alpha=2 * ctx.beta), None, None, None
