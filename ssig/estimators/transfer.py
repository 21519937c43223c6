"""Random draws on their way from NumPy to the device."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


def to_device(draws: Sequence[np.ndarray], like: Tensor) -> Tensor:
    """One tensor (B, ...) of each image's draws, with the type and device of `like`.

    From page-locked memory the copy to a GPU is asynchronous: the next draws are made while the device computes.
    """
    if like.device.type != "cuda":
        return torch.from_numpy(np.stack(draws)).to(like)
    first = torch.from_numpy(draws[0])
    stacked = torch.empty((len(draws), *first.shape), dtype=first.dtype, pin_memory=True)
    np.stack(draws, out=stacked.numpy())
    return stacked.to(like.device, non_blocking=True).to(like.dtype)
