"""Energy-based pointing game: the share of the map's magnitude that lies on the object.

    energy = sum_{p in object} |a_p| / sum_p |a_p|

Wang et al., Score-CAM, CVPR-W 2020; relevance mass accuracy of Arras et al., 2022. A random map scores the object's
share of the area, which is the column `energy_chance`.
"""

from __future__ import annotations

import numpy as np

from ssig.metrics.evaluation import Evaluation, MetricResult
from ssig.metrics.objects import measure_objects
from ssig.metrics.results import NoOptions
from ssig.registry import METRICS, MetricSpec


def energy(evaluation: Evaluation, options: NoOptions) -> MetricResult:
    """Share of |map| on the object, and the object's share of the area."""
    return measure_objects(evaluation, ("energy", "energy_chance"), _shares)


def _shares(magnitude: np.ndarray, mask: np.ndarray) -> tuple[float, float]:
    return float(magnitude[mask].sum() / magnitude.sum()), float(mask.mean())


METRICS.add(
    MetricSpec(
        name="energy",
        compute=energy,
        options=NoOptions,
        columns={"energy": "higher", "energy_chance": "none"},
        definition="share of the sum of |map| that lies on the object",
        range="[0, 1], random: the object's share of the area",
        reference="Wang et al., Score-CAM, CVPR-W 2020",
        forwards=lambda options: 0,
        needs=frozenset({"map", "mask"}),
    )
)
