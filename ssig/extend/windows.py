"""A max pool whose windows stand side by side: the same numbers, and no two windows share a point.

Captum's rule of max pooling puts what each window gives to a point there, one over the other: where windows overlap,
as in most networks, only the last one stays. Side by side each has a place, and the copies of a point are summed by
the backward pass.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import max_pool2d, pad


def overlaps(pool: nn.MaxPool2d) -> bool:
    """Whether windows of a pool share points, and the pool is one that `SideBySide` has."""
    (height, width), (down, right) = _pair(pool.kernel_size), _pair(pool.stride)
    return (down < height or right < width) and _pair(pool.dilation) == (1, 1) and not pool.return_indices


class SideBySide(nn.Module):
    """The maximum of each window of a pool; points (B, C, H, W) -> (B, C, windows down, windows across)."""

    def __init__(self, pool: nn.MaxPool2d) -> None:
        super().__init__()
        self.size, self.stride, self.padding = map(_pair, (pool.kernel_size, pool.stride, pool.padding))
        self.ceil_mode = pool.ceil_mode
        self.pool = nn.MaxPool2d(self.size)

    def forward(self, points: Tensor) -> Tensor:
        with torch.no_grad():
            form = (self.size, self.stride, self.padding)
            windows = max_pool2d(points[:1, :1], *form, ceil_mode=self.ceil_mode).shape[-2:]
            below_all = float(points.min()) - 1  # so that no window takes a point of the margin
        margins = [
            (margin, max(0, (count - 1) * step + size - length - margin))
            for count, step, size, length, margin in zip(
                windows, self.stride, self.size, points.shape[-2:], self.padding, strict=True
            )
        ]
        framed = pad(points, (*margins[1], *margins[0]), value=below_all)
        (height, width), (down, right) = self.size, self.stride
        each = framed.unfold(2, height, down).unfold(3, width, right)[:, :, : windows[0], : windows[1]]
        joined: Tensor = self.pool(each.transpose(3, 4).flatten(4, 5).flatten(2, 3))
        return joined


def _pair(value: int | tuple[int, ...]) -> tuple[int, int]:
    down, across = (value, value) if isinstance(value, int) else value
    return down, across
