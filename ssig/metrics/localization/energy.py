"""Energy-based pointing game: the share of the map's magnitude that lies on the object.

    energy = sum_{p in object} |a_p| / sum_p |a_p|

Wang et al., Score-CAM, CVPR-W 2020; relevance mass accuracy of Arras et al., 2022. A random map scores the object's
share of the area, which is the column `energy_chance`.
"""

from __future__ import annotations

import numpy as np

from ssig.metrics.localization.objects import add_object_metric
from ssig.metrics.shared.assemble import NoOptions


def energy(magnitude: np.ndarray, mask: np.ndarray, options: NoOptions) -> tuple[float, float]:
    """Share of |map| on the object, and the object's share of the area."""
    return float(magnitude[mask].sum() / magnitude.sum()), float(mask.mean())


add_object_metric(
    "energy",
    energy,
    columns={"energy": "higher", "energy_chance": "none"},
    descriptions={"energy_chance": "the object's share of the area: energy of a random map, on average"},
    definition="share of the sum of |map| that lies on the object",
    range="[0, 1], random: the object's share of the area",
    reference="Wang et al., Score-CAM, CVPR-W 2020",
)
