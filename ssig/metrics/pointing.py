"""Pointing game: does the maximum of |map| lie on the object, or near it?

    pointing = 1 if min over object pixels q of ||argmax |a| - q||^2 < tolerance^2, or the maximum is on the object

Zhang et al., Top-down Neural Attention by Excitation Backprop, IJCV 2018; the margin of 15 pixels is TorchRay's. Of
tied maxima the fraction that hits counts; a constant map points nowhere and is excluded. The mean over images is
not TorchRay's accuracy, which is the mean over classes of each class's.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import distance_transform_edt

from ssig.metrics.evaluation import Evaluation, MetricResult
from ssig.metrics.objects import measure_objects
from ssig.options import option
from ssig.registry import METRICS, MetricSpec


@dataclass(frozen=True)
class PointingOptions:
    """The margin of the pointing game."""

    tolerance: float = option(15.0, "pixels by which a hit may miss the object; 0 for none", at_least=0)


def pointing(evaluation: Evaluation, options: PointingOptions) -> MetricResult:
    """Whether the maximum of |map| hits the object."""

    def hits(magnitude: np.ndarray, mask: np.ndarray) -> tuple[float] | str:
        if magnitude.min() == magnitude.max():
            return "map is constant"
        distance = distance_transform_edt(~mask)[magnitude == magnitude.max()]
        return (float(((distance == 0) | (distance < options.tolerance)).mean()),)

    return measure_objects(evaluation, ("pointing",), hits)


METRICS.add(
    MetricSpec(
        name="pointing",
        compute=pointing,
        options=PointingOptions,
        columns={"pointing": "higher"},
        definition="whether the maximum of |map| lies within the tolerance of the object",
        range="[0, 1]",
        reference="Zhang et al., Excitation Backprop, IJCV 2018; tolerance as in TorchRay",
        forwards=lambda options: 0,
        needs=frozenset({"map", "mask"}),
    )
)
