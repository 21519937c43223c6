"""What a map is compared with to tell how much it says about its image: features on one coarse grid.

    edges_s    sqrt(mean |grad (G_s * L)|^2),  s = 1, 2, 4 pixels
    luminance  mean L,  L = .2125 R + .7154 G + .0721 B
    colour     sqrt(mean sum_k (C_k - G_8 * C_k)^2),  C = ((R - G) / sqrt 2, (R + G - 2 B) / sqrt 6)

Means are over the pixels of a grid cell; G_s is a Gaussian of s pixels of the network's input, borders reflected.
All of it is local contrast or brightness, as in Itti, Koch, Niebur (1998): a hand-made bank that knows no objects, so
it sees only a part of what an image holds. An image without three channels has luminance their mean, and no colour.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy.ndimage import gaussian_filter, gaussian_gradient_magnitude
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from ssig.types import Evaluation

EDGE_SCALES = (1, 2, 4)
FEATURES = (*(f"edges_{scale}" for scale in EDGE_SCALES), "luminance", "colour")
NAMES = (*(f"edges of {scale} px" for scale in EDGE_SCALES), "luminance", "colour contrast")
READINGS = ("magnitude", "signed")

_LUMA = (0.2125, 0.7154, 0.0721)
_OPPONENTS = np.array([[1, -1, 0], [1, 1, -2]]) / np.sqrt([[2], [6]])
_SURROUND = 8.0
# Relative to the largest value: what is nearer than this differs by the order of sums only.
_ROUNDING = 1e-9


def grid(evaluation: Evaluation, size: int) -> tuple[int, int]:
    """(h, w), `size` cells each way, or the pixels of an input that has fewer."""
    height, width = evaluation.maps.shape[-2:]
    return min(size, height), min(size, width)


def pooled_maps(evaluation: Evaluation, size: int, reading: str) -> np.ndarray:
    """(B, h, w) float64, the mean of |map|, or of the signed map, over each cell."""
    maps = evaluation.maps.double().cpu()
    return pooled(maps.abs() if reading == "magnitude" else maps, grid(evaluation, size))


def image_features(evaluation: Evaluation, size: int) -> np.ndarray:
    """(B, F, h, w) float64, `FEATURES` of each image; made once per batch."""
    cells = grid(evaluation, size)

    def compute() -> np.ndarray:
        bank = [features_of(image, cells) for image in evaluation.images.double().cpu().numpy()]
        return np.stack(bank) if bank else np.zeros((0, len(FEATURES), *cells))

    return evaluation.of_images(("image features", cells), compute)


def features_of(image: np.ndarray, cells: tuple[int, int]) -> np.ndarray:
    """(F, h, w), `FEATURES` of an image (C, H, W)."""
    coloured = len(image) == len(_LUMA)
    luma = np.tensordot(_LUMA, image, 1) if coloured else image.mean(axis=0)
    energies = [gaussian_gradient_magnitude(luma, scale) ** 2 for scale in EDGE_SCALES]
    contrast = np.zeros_like(luma)
    if coloured:
        for opponent in np.tensordot(_OPPONENTS, image, 1):
            contrast += (opponent - gaussian_filter(opponent, _SURROUND)) ** 2
    squares = np.stack([*energies, contrast])
    squares[squares < (_ROUNDING * np.abs(image).max(initial=0.0)) ** 2] = 0
    *edges, colour, brightness = pooled(torch.from_numpy(np.stack([*squares, luma])), cells)
    bank: np.ndarray = np.stack([*np.sqrt(edges), brightness, np.sqrt(colour)])
    return bank


def pooled(planes: Tensor, cells: tuple[int, int]) -> np.ndarray:
    """(n, h, w) means of (n, H, W) over the cells of a grid, which overlap where the sides are no multiples."""
    result: np.ndarray = adaptive_avg_pool2d(planes.unsqueeze(1), cells).squeeze(1).numpy()
    return result


def settled(values: np.ndarray) -> np.ndarray:
    """The values with rounding errors removed, so that equal cells are equal: a map of segments has many."""
    largest = np.abs(values).max(initial=0.0)
    result: np.ndarray = np.round(values / largest / _ROUNDING) if largest > 0 else values
    return result


def constant(values: np.ndarray) -> bool:
    """Whether all cells are equal but for rounding, so that they can tell nothing."""
    return bool(np.ptp(settled(values)) == 0) if values.size else True
