"""Intersection over union of the thresholded map and the object.

    iou = |b intersect object| / |b union object|,   b = { |a| > threshold }

`otsu` puts the threshold where the variance between the two classes of |a| is highest (Otsu, IEEE Trans. SMC 1979; the
centres of 256 bins, as in scikit-image), `max` at `tau` max |a| (the 20 % of Zhou et al., Learning deep features for
discriminative localization, CVPR 2016). A constant map has no threshold and is excluded. The IoU of the k highest
pixels, k = |object|, is no metric of its own: of RRA = `relevance_rank` it is k RRA / (2k - k RRA) = RRA / (2 - RRA).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from skimage.filters import threshold_otsu

from ssig.metrics.localization.objects import add_object_metric
from ssig.metrics.shared.magnitudes import CONSTANT
from ssig.options import option


@dataclass(frozen=True)
class IouOptions:
    """How the map becomes a region."""

    threshold: str = option("otsu", "threshold on |map|: Otsu's, or tau times the maximum", choices=("otsu", "max"))
    tau: float = option(
        0.2,
        "share of the maximum, for `threshold: max`",
        at_least=0,
        check=lambda tau: None if tau < 1 else "below 1: no pixel is above the maximum",
    )


def iou(magnitude: np.ndarray, mask: np.ndarray, options: IouOptions) -> float | str:
    """IoU of the pixels above the threshold with the object."""
    if magnitude.min() == magnitude.max():
        return CONSTANT
    if options.threshold == "otsu":
        region = magnitude > threshold_otsu(magnitude)  # type: ignore[no-untyped-call]
    else:
        region = magnitude > options.tau * magnitude.max()
    return float((region & mask).sum() / (region | mask).sum())


add_object_metric(
    "iou",
    iou,
    options=IouOptions,
    columns={"iou": "higher"},
    definition="intersection over union of the object and the pixels where |map| is above a threshold",
    range="[0, 1]",
    reference="Otsu, IEEE Trans. SMC 1979; Zhou et al., CVPR 2016",
)
