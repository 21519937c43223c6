"""Separable blurs of images: `y = k * x` along rows and along columns, in the precision of the images."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import conv2d


def gaussian_blur(images: Tensor, sigma: float, kernel: int) -> Tensor:
    """(B, C, H, W) blurred as by torchvision's `gaussian_blur`, and also where the kernel exceeds the image."""
    offsets = np.arange(kernel) - kernel // 2
    weights = np.exp(-0.5 * (offsets / sigma) ** 2)
    rows, columns = (np.pad(np.arange(size), kernel // 2, mode="reflect") for size in images.shape[-2:])
    return convolve(images[..., rows, :][..., columns], weights / weights.sum())


def convolve(padded: Tensor, weights: np.ndarray) -> Tensor:
    """Each channel under the separable kernel `weights` x `weights`, without borders."""
    channels = padded.shape[1]
    # In float64 on a device: its libraries may round the factors of float32 convolutions to 10 bits (TF32).
    values = padded if padded.device.type == "cpu" else padded.double()
    kernel = torch.from_numpy(weights).to(values).expand(channels, 1, 1, -1)
    blurred = conv2d(conv2d(values, kernel, groups=channels), kernel.transpose(-1, -2), groups=channels)
    return blurred.to(padded.dtype)
