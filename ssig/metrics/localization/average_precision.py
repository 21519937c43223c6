"""Average precision of |map| as a detector of the object's pixels.

    average_precision = sum_n (R_n - R_{n-1}) P_n,   P_n, R_n precision and recall of the pixels |a| >= t_n

over the distinct values t_n of |a|, falling: the step-wise area under the precision-recall curve, without
interpolation, as in scikit-learn. (The pixel precision of Choe et al., CVPR 2020, pools the pixels of all images
instead.) A random map scores the object's share of the area.
"""

from __future__ import annotations

import numpy as np

from ssig.metrics.localization.objects import add_object_metric
from ssig.metrics.shared.assemble import NoOptions


def average_precision(magnitude: np.ndarray, mask: np.ndarray, options: NoOptions) -> float:
    """Average precision of |map| against the object."""
    order = np.argsort(magnitude, axis=None)[::-1]
    values = magnitude.ravel()[order]
    # Equal values come in together: only the last of them is a point of the curve.
    last = np.flatnonzero(np.append(values[1:] != values[:-1], True))
    hits = np.cumsum(mask.ravel()[order])[last]
    precision, recall = hits / (last + 1), hits / hits[-1]
    return float((np.diff(recall, prepend=0.0) * precision).sum())


add_object_metric(
    "average_precision",
    average_precision,
    columns={"average_precision": "higher"},
    definition="mean precision, over recall, of the pixels of highest |map| as those of the object",
    range="[0, 1], random: the object's share of the area",
    reference="step-wise area of scikit-learn; of saliency in Choe et al., CVPR 2020",
)
