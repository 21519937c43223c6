"""Mean absolute error of the map, taken as a soft mask, against the object's mask.

    mask_mae = mean_p |s_p - m_p|,   s = (|a| - min |a|) / (max |a| - min |a|),  m = 1 on the object, 0 elsewhere

Used for saliency in XRAI (Kapishnikov et al., ICCV 2019). As with `mask_mse`, sparse maps score near the object's
share of the area.
"""

from __future__ import annotations

import numpy as np

from ssig.metrics.localization.mask_mse import scaled
from ssig.metrics.localization.objects import add_object_metric
from ssig.metrics.shared.assemble import NoOptions
from ssig.metrics.shared.magnitudes import CONSTANT


def mask_mae(magnitude: np.ndarray, mask: np.ndarray, options: NoOptions) -> float | str:
    """Mean absolute difference of the scaled |map| and the mask."""
    if magnitude.min() == magnitude.max():
        return CONSTANT
    return float(np.abs(scaled(magnitude) - mask).mean())


add_object_metric(
    "mask_mae",
    mask_mae,
    columns={"mask_mae": "lower"},
    definition="mean absolute difference of |map|, scaled to [0, 1], and the object's mask",
    range="[0, 1], a single bright pixel: about the object's share of the area",
    reference="Kapishnikov et al., XRAI, ICCV 2019",
)
