"""Pointing game: does the maximum of |map| lie on the object, or near it?

    pointing = 1 if min over object pixels q of ||argmax |a| - q||^2 < tolerance^2, or the maximum is on the object

Zhang et al., Top-down Neural Attention by Excitation Backprop, IJCV 2018; the margin of 15 pixels is TorchRay's. Of
tied maxima the fraction that hits counts (for Quantus, whose margin is 0, one that hits is enough); a constant map
points nowhere and is excluded. The mean over images is not TorchRay's accuracy, which is the mean over classes of
each class's.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import distance_transform_edt

from ssig.metrics.localization.objects import add_object_metric
from ssig.metrics.shared.magnitudes import CONSTANT
from ssig.options import option


@dataclass(frozen=True)
class PointingOptions:
    """The margin of the pointing game."""

    tolerance: float = option(15.0, "pixels by which a hit may miss the object; 0 for none", at_least=0)


def pointing(magnitude: np.ndarray, mask: np.ndarray, options: PointingOptions) -> float | str:
    """Whether the maximum of |map| hits the object."""
    if magnitude.min() == magnitude.max():
        return CONSTANT
    distance = distance_transform_edt(~mask)[magnitude == magnitude.max()]
    return float(((distance == 0) | (distance < options.tolerance)).mean())


add_object_metric(
    "pointing",
    pointing,
    options=PointingOptions,
    columns={"pointing": "higher"},
    shares=frozenset({"pointing"}),
    definition="whether the maximum of |map| lies within the tolerance of the object",
    range="[0, 1]",
    reference="Zhang et al., Excitation Backprop, IJCV 2018; tolerance as in TorchRay",
)
