"""Relevance rank accuracy: how many of the highest pixels, as many as the object has, lie on it.

    relevance_rank = |top_k intersect object| / k,   k = |object|,  top_k the k pixels of highest |a|

Arras, Osman & Samek, Ground truth evaluation of neural network explanations with CLEVR-XAI, Information Fusion 2022.
Pixels that tie for the last places of top_k count by the share of them that lies on the object, so that no order of
pixels is preferred. A random map scores the object's share of the area.
"""

from __future__ import annotations

import numpy as np

from ssig.metrics.localization.objects import add_object_metric
from ssig.metrics.shared.assemble import NoOptions
from ssig.metrics.shared.ranking import top


def relevance_rank(magnitude: np.ndarray, mask: np.ndarray, options: NoOptions) -> float:
    """Share of the object's number of highest pixels that lies on the object."""
    k = int(mask.sum())
    return float(top(magnitude, k)[mask].sum() / k)


add_object_metric(
    "relevance_rank",
    relevance_rank,
    columns={"relevance_rank": "higher"},
    definition="share of the k highest pixels of |map| that lie on the object of k pixels",
    range="[0, 1], random: the object's share of the area",
    reference="Arras et al., CLEVR-XAI, Information Fusion 2022",
)
