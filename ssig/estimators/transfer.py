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
        values = buffer(values.shape, values.dtype, like.device).copy_(values)
    return values.to(like.device, non_blocking=like.is_cuda)


def buffer(shape: Sequence[int], dtype: torch.dtype, device: torch.device) -> Tensor:
    """A tensor on the CPU whose values come from or go to a device: in page-locked memory for a GPU."""
    if device.type != "cuda":
        return torch.empty(tuple(shape), dtype=dtype)
    # Without this, the first page-locked memory of a process makes a context on the first GPU, whichever is in use.
    with torch.cuda.device(device):
        return torch.empty(tuple(shape), dtype=dtype, pin_memory=True)
