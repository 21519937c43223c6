"""How alike two maps are, and the words for when there is nothing to compare.

spearman   correlation of the ranks of all pixels, ties by their mean rank; 0 where a map is constant
ssim       mean structural similarity of Wang et al., IEEE TIP 2004, in two dimensions: Gaussian windows of 11 pixels
           and sigma 1.5; the range is that of both maps together
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import skimage
from torch import Tensor

from ssig.metrics.shared import correlation
from ssig.options import option
from ssig.types import Evaluation

NO_METHOD = "the method is not at hand to explain again"
CONSTANT = "map is constant"
SSIM_SIZE, SSIM_SIGMA = 11, 1.5
TOO_SMALL = f"map is smaller than SSIM's window of {SSIM_SIZE} pixels"

VALUES = ("absolute", "signed")
SCALINGS = ("min-max", "max", "none")


@dataclass(frozen=True)
class SimilarityOptions:
    """How two maps are compared."""

    values: str = option("absolute", "what is compared: |map|, or the signed map", choices=VALUES)
    scaling: str = option(
        "min-max",
        "scaling of each map before SSIM: onto [0, 1], by its greatest magnitude, or none",
        choices=SCALINGS,
    )


def read(maps: Tensor, values: str) -> np.ndarray:
    """Maps (B, H, W) as float64, signed or by magnitude."""
    return (maps.abs() if values == "absolute" else maps).detach().cpu().double().numpy()


def excluded(evaluation: Evaluation, column: str, ssim_column: str) -> list[dict[str, str]]:
    """For each image why its map cannot be compared with another."""
    too_small = min(evaluation.maps.shape[-2:]) < SSIM_SIZE
    small = {ssim_column: TOO_SMALL} if too_small else {}
    return [
        dict.fromkeys((column, ssim_column), CONSTANT) if bool((values == values.flatten()[0]).all()) else dict(small)
        for values in evaluation.maps
    ]


def compare(evaluation: Evaluation, others: Tensor, options: SimilarityOptions) -> tuple[np.ndarray, np.ndarray]:
    """Spearman and SSIM of each map with another of the same image, (B,) each; NaN where there is none.

    Args:
        evaluation: the batch.
        others: (B, H, W).
        options: how to compare.
    """
    pairs = list(zip(read(evaluation.maps, options.values), read(others, options.values), strict=True))
    return (
        np.array([spearman(first, second) for first, second in pairs]),
        np.array([ssim(scaled(first, options.scaling), scaled(second, options.scaling)) for first, second in pairs]),
    )


def spearman(first: np.ndarray, second: np.ndarray) -> float:
    """Rank correlation of two maps; 0 where one of them is constant, NaN where a value is not finite."""
    if not (np.isfinite(first).all() and np.isfinite(second).all()):
        return float("nan")
    return float(np.nan_to_num(correlation.spearman(first.ravel(), second.ravel())))


def ssim(first: np.ndarray, second: np.ndarray) -> float:
    """Structural similarity of two maps; NaN where they are too small, constant alike, or not finite."""
    pair = np.stack([first, second])
    if min(first.shape) < SSIM_SIZE or not np.isfinite(pair).all() or np.ptp(pair) == 0:
        return float("nan")
    similarity: Callable[..., float] = skimage.metrics.structural_similarity
    return float(
        similarity(
            first,
            second,
            gaussian_weights=True,
            sigma=SSIM_SIGMA,
            use_sample_covariance=False,
            data_range=np.ptp(pair),
        )
    )


def scaled(values: np.ndarray, scaling: str) -> np.ndarray:
    """A map as SSIM sees it; a constant one becomes 0 under min-max."""
    if scaling == "min-max":
        values = values - values.min()
    greatest = np.abs(values).max()
    return values if scaling == "none" or greatest == 0 else values / greatest
