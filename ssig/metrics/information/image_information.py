"""How much of an image there is to see: its compressed size, or its structural similarity to the whole image.

    webp(x)       bytes of x as lossless WebP: quality 100, method 4, as in PAIR's `pic`; other versions of libwebp
                  give other sizes
    ms_ssim(x, y) = mean over channels of  prod_{j=1..5} cs_j^{w_j} * l_5^{w_5}

    l = (2 m_x m_y + C1) / (m_x^2 + m_y^2 + C1),  cs = (2 s_xy + C2) / (s_x^2 + s_y^2 + C2)

with means m and covariances s in Gaussian windows of 11 pixels and sigma 1.5, averaged over all windows inside the
image, at scales that halve; negative factors count as 0. C1 = .01^2, C2 = .03^2 for values in [0, 1].
Wang, Simoncelli and Bovik, Multiscale structural similarity for image quality assessment, Asilomar 2003.
"""

from __future__ import annotations

import io

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import avg_pool2d

from ssig.images.blur import convolve

WEBP_METHOD = 4
SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
WINDOW, SIGMA = 11, 1.5
LUMINANCE, CONTRAST = 0.01**2, 0.03**2
# The shorter side has to be longer: at the last scale the window must fit.
MS_SSIM_SIDE = (WINDOW - 1) * 2 ** (len(SCALE_WEIGHTS) - 1)


def webp_bytes(image: np.ndarray) -> int:
    """Size of an image (H, W, 3) or (H, W, 1), uint8, as lossless WebP."""
    buffer = io.BytesIO()
    pixels = image[..., 0] if image.shape[-1] == 1 else image
    Image.fromarray(pixels).save(buffer, format="webp", lossless=True, quality=100, method=WEBP_METHOD)
    return buffer.getbuffer().nbytes


def ms_ssim(images: Tensor, others: Tensor) -> Tensor:
    """Multiscale structural similarity of pairs of images (B, C, H, W) in [0, 1], (B,).

    Raises:
        ValueError: a side is not longer than `MS_SSIM_SIDE`.
    """
    if min(images.shape[-2:]) <= MS_SSIM_SIDE:
        raise ValueError(f"MS-SSIM needs images of more than {MS_SSIM_SIDE} pixels a side")
    result = torch.ones(images.shape[:2], dtype=images.dtype, device=images.device)
    for scale, weight in enumerate(SCALE_WEIGHTS):
        if scale:
            padding = [size % 2 for size in images.shape[-2:]]
            images, others = (avg_pool2d(each, 2, padding=padding) for each in (images, others))
        luminance, contrast = _similarity(images, others)
        similarity = luminance * contrast if scale == len(SCALE_WEIGHTS) - 1 else contrast
        result = result * similarity.mean(dim=(-2, -1)).clamp(min=0) ** weight
    return result.mean(dim=1)


def ssim(images: Tensor, others: Tensor) -> Tensor:
    """Structural similarity at one scale of pairs of images (B, C, H, W) in [0, 1], (B,)."""
    luminance, contrast = _similarity(images, others)
    return (luminance * contrast).mean(dim=(1, 2, 3))


def _similarity(images: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
    """Luminance and contrast terms of every window inside the images, (B, C, H - 10, W - 10) each."""
    offsets = np.arange(WINDOW) - WINDOW // 2
    window = np.exp(-0.5 * (offsets / SIGMA) ** 2)
    window /= window.sum()
    products = (images, others, images * images, others * others, images * others)
    mean, other, square, other_square, product = convolve(torch.cat(products), window).chunk(len(products))
    luminance = (2 * mean * other + LUMINANCE) / (mean**2 + other**2 + LUMINANCE)
    contrast = (2 * (product - mean * other) + CONTRAST) / (square - mean**2 + other_square - other**2 + CONTRAST)
    return luminance, contrast
