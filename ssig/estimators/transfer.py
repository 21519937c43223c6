"""Tensors on their way from the host to a device."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

# Bytes: 400 images of 224 x 224.
MOST_PAGE_LOCKED = 2**28


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """A tensor on a device; the tensor itself if it is there. A copy to a GPU does not wait for its earlier work."""
    return page_locked(tensor, device).to(device, non_blocking=device.type == "cuda")


def stacked(draws: Sequence[np.ndarray], like: Tensor) -> Tensor:
    """One tensor (B, ...) of each image's draws, with the type and device of `like`."""
    return to_device(torch.from_numpy(np.stack(draws)), like.device).to(like.dtype)


def page_locked(tensor: Tensor, device: torch.device) -> Tensor:
    """A tensor, copied to page-locked memory if a copy of it to the device would wait otherwise.

    A tensor larger than `MOST_PAGE_LOCKED` is returned as it is: torch keeps such memory for as long as the process.
    """
    if device.type != "cuda" or tensor.device.type != "cpu" or tensor.nbytes > MOST_PAGE_LOCKED or tensor.is_pinned():
        return tensor
    return buffer(tensor.shape, tensor.dtype, device).copy_(tensor)


def buffer(shape: Sequence[int], dtype: torch.dtype, device: torch.device) -> Tensor:
    """A tensor on the CPU whose values come from or go to a device: in page-locked memory for a GPU."""
    if device.type != "cuda":
        return torch.empty(tuple(shape), dtype=dtype)
    # Without this, the first page-locked memory of a process makes a context on the first GPU, whichever is in use.
    with torch.cuda.device(device):
        return torch.empty(tuple(shape), dtype=dtype, pin_memory=True)
