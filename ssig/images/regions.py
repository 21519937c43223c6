"""Segments of an image, of even colour: labels (H, W), for XRAI and for maps that are read out by segment.

felzenszwalb  Felzenszwalb, Huttenlocher 2004, on the image stretched to [-1, 1] and resized to 224 x 224, sigma 0.8,
              no segment under 150 pixels: PAIR's settings, so that scales mean the same for every image
slic          Achanta et al. 2012 in Lab colours: about 100 segments, compactness 10

Labels are cached by the content of the image, so that methods share them.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from functools import lru_cache, wraps
from typing import Any

import numpy as np
import skimage
from numpy.typing import NDArray
from torch import Tensor

from ssig.randomness import content_key

Image = NDArray[np.floating]
Labels = NDArray[np.uint16]

SIDE, SMOOTHING, LEAST = 224, 0.8, 150
SCALE = 250.0  # the middle scale of XRAI
COUNT, COMPACTNESS = 100, 10.0

# Number of images whose labels are cached, about 0.7 MB each at 224 x 224: two units of a run.
REMEMBERED = 128


def remembered(segment: Callable[..., Labels]) -> Callable[..., Labels]:
    """`segment(image, *parameters)`, computed once for each content and parameters; its labels are read-only."""

    @wraps(segment)
    def recalled(image: Image, *parameters: Hashable) -> Labels:
        labels_by_call = _labels_by_call(content_key(image))
        call = (segment.__name__, *parameters)
        if call not in labels_by_call:
            labels = segment(image, *parameters)
            labels.flags.writeable = False
            labels_by_call[call] = labels
        return labels_by_call[call]

    return recalled


@lru_cache(REMEMBERED)
def _labels_by_call(content: str) -> dict[Hashable, Labels]:
    """The labels of an image by function and parameters: empty at first."""
    return {}


@remembered
def felzenszwalb(image: Image, scales: tuple[float, ...] = (SCALE,)) -> Labels:
    """Labels at each scale, (S, H, W), of an image (H, W, C) of any range; the greater the scale, the fewer segments.

    Labels of small segments may be missing where the image is smaller than 224 x 224.
    """
    size = image.shape[:2]
    low, high = float(image.min()), float(image.max())
    # An image of one colour is one segment.
    stretched = (image.astype(np.float64) - low) / ((high - low) or 1.0) * 2 - 1
    resized = _resized(stretched, (SIDE, SIDE), order=3, anti_aliasing=True)

    def at(scale: float) -> NDArray[np.floating]:
        labels = skimage.segmentation.felzenszwalb(resized, scale=scale, sigma=SMOOTHING, min_size=LEAST)
        return _resized(labels, size, order=0, anti_aliasing=False)

    return np.stack([at(scale) for scale in scales]).astype(np.uint16)


def _resized(values: Any, size: tuple[int, int], **how: object) -> NDArray[np.floating]:
    resize: Callable[..., NDArray[np.floating]] = skimage.transform.resize
    return resize(values, size, mode="constant", preserve_range=True, **how)


@remembered
def slic(image: Image, count: int = COUNT) -> Labels:
    """Labels (1, H, W) of about `count` segments of an image (H, W, C), in [0, 1] for colours to be as we see them."""
    labels = skimage.segmentation.slic(
        image, n_segments=count, compactness=COMPACTNESS, start_label=0, channel_axis=-1
    )
    return np.asarray(labels[None], dtype=np.uint16)


SEGMENTATIONS = {"slic": slic, "felzenszwalb": felzenszwalb}


def pictures(images: Tensor) -> list[Image]:
    """Images (B, C, H, W) as arrays (H, W, C)."""
    return list(images.movedim(1, -1).cpu().numpy())


def means(values: NDArray[np.floating], labels: Labels) -> NDArray[np.float64]:
    """(H, W) values replaced by the mean over their segment, so that their sum stays."""
    flat = labels.ravel()
    sums, sizes = np.bincount(flat, values.ravel()), np.bincount(flat)
    averages: NDArray[np.float64] = sums / np.maximum(sizes, 1)
    return averages[labels]
