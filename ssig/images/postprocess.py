"""Smooths the maps of any method, or averages them within segments of the image.

    smoothing  map <- G_sigma * map, cut at 4 sigma, the map mirrored at its borders (SciPy's `reflect`)
    regions    then map <- its mean over each segment of the image (`ssig.images.regions`)

Both leave the sum of the map as it is. `values` stay as the method gave them, and so do scores and the completeness
residual. The map's standard error becomes None: that of a mean of pixels is not known without their correlations.
"""

from __future__ import annotations

import dataclasses
from concurrent.futures import Future

import numpy as np
import torch
from torch import Tensor

from ssig.images.blur import convolve
from ssig.images.regions import SEGMENTATIONS, Image, Labels, means, pictures
from ssig.types import Attribution, Steps
from ssig.types.beside import beside, waited

NONE = "none"
REGIONS = (NONE, *SEGMENTATIONS)
TRUNCATE = 4.0


def finishing(steps: Steps, images: Tensor, smoothing: float, regions: str) -> Steps:
    """A method's coroutine with smoothed or averaged maps.

    Images are segmented at once, in the caller's thread or beside it, and not in the device's thread, where the
    coroutine ends.

    Args:
        steps: the coroutine.
        images: (B, C, H, W), the images of its group.
        smoothing: sigma in pixels; 0 for none.
        regions: one of `REGIONS`.
    """
    if smoothing == 0 and regions == NONE:
        return steps
    labels = None if regions == NONE else beside(_segmented, regions, pictures(images), like=images)
    return _finishing(steps, smoothing, labels)


def _segmented(regions: str, images: list[Image]) -> list[Labels]:
    return [SEGMENTATIONS[regions](image)[0] for image in images]


def _finishing(steps: Steps, smoothing: float, labels: Future[list[Labels]] | None) -> Steps:
    attribution = yield from steps
    segmented = None if labels is None else (yield from waited(labels))
    return finished(attribution, smoothing, segmented)


def finished(attribution: Attribution, smoothing: float, segmented: list[Labels] | None) -> Attribution:
    """An attribution whose map is smoothed with `smoothing` pixels, then averaged by labels (H, W) of each image."""
    maps = attribution.map
    if smoothing:
        maps = smoothed(maps, smoothing)
    if segmented is not None:
        pairs = zip(maps.cpu().numpy(), segmented, strict=True)
        maps = torch.from_numpy(np.stack([means(values, labels) for values, labels in pairs])).to(maps)
    return dataclasses.replace(attribution, map=maps, standard_error=None, bias=None, reliability=None)


def smoothed(maps: Tensor, sigma: float) -> Tensor:
    """(B, H, W) maps under SciPy's `gaussian_filter(sigma)` of the last two axes."""
    radius = int(TRUNCATE * sigma + 0.5)
    weights = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    rows, columns = (np.pad(np.arange(size), radius, mode="symmetric") for size in maps.shape[-2:])
    mirrored = maps.unsqueeze(1)[..., rows, :][..., columns]
    return convolve(mirrored, weights / weights.sum()).squeeze(1)
