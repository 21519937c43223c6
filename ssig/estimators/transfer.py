"""Numbers on their way from NumPy to the device."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


def to_device(draws: Sequence[np.ndarray], like: Tensor) -> Tensor:
    """One tensor (B, ...) of each image's draws, with the type and device of `like`."""
    stacked = torch.from_numpy(np.stack(draws))
    return sent(stacked, like).to(like.dtype) if like.is_cuda else stacked.to(like)


def sent(values: Tensor, like: Tensor) -> Tensor:
    """A tensor on the CPU, copied to the device of `like`; on the CPU it is `values` itself.

    From page-locked memory the copy to a GPU is asynchronous: the host goes on while the device computes.
    """
    if like.device.type == "cpu":
        return values
    if like.is_cuda and not values.is_pinned():
        values = buffer(tuple(values.shape), values.dtype, like).copy_(values)
    return values.to(like.device, non_blocking=like.is_cuda)


def buffer(shape: tuple[int, ...], dtype: torch.dtype, like: Tensor) -> Tensor:
    """A tensor on the CPU to be filled and then `sent`: in page-locked memory for a GPU."""
    if not like.is_cuda:
        return torch.empty(shape, dtype=dtype)
    # Page-locked memory belongs to the current device: that of `like`, or a process would use two.
    with torch.cuda.device(like.device):
        return torch.empty(shape, dtype=dtype, pin_memory=True)
