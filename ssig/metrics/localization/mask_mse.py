"""Mean squared error of the map, taken as a soft mask, against the object's mask.

    mask_mse = mean_p (s_p - m_p)^2,   s = (|a| - min |a|) / (max |a| - min |a|),  m = 1 on the object, 0 elsewhere

The squared companion of `mask_mae`. Sparse maps are near zero almost everywhere and score near the object's share of
the area, whatever they show: compare with `energy_chance`. A constant map has no such scale and is excluded.
"""

from __future__ import annotations

import numpy as np

from ssig.metrics.localization.objects import add_object_metric
from ssig.metrics.shared.assemble import NoOptions
from ssig.metrics.shared.magnitudes import CONSTANT


def mask_mse(magnitude: np.ndarray, mask: np.ndarray, options: NoOptions) -> float | str:
    """Mean squared difference of the scaled |map| and the mask."""
    if magnitude.min() == magnitude.max():
        return CONSTANT
    return float(np.square(scaled(magnitude) - mask).mean())


def scaled(magnitude: np.ndarray) -> np.ndarray:
    """|map| from 0 at its minimum to 1 at its maximum, which differ."""
    lowest = magnitude.min()
    result: np.ndarray = (magnitude - lowest) / (magnitude.max() - lowest)
    return result


add_object_metric(
    "mask_mse",
    mask_mse,
    columns={"mask_mse": "lower"},
    definition="mean squared difference of |map|, scaled to [0, 1], and the object's mask",
    range="[0, 1], a single bright pixel: about the object's share of the area",
    reference="squared form of the MAE of Kapishnikov et al., XRAI, ICCV 2019",
)
