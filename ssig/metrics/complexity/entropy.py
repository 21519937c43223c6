"""Entropy of the map's magnitude as a distribution over the pixels, in nats.

    entropy = - sum_p q_p ln q_p,   q = |a| / sum |a|

Complexity of Bhatt et al., Evaluating and aggregating feature-based model explanations, IJCAI 2020. 0 for a single
pixel, ln N for a constant map; maps of different sizes N compare by `effective_support`.
"""

from __future__ import annotations

import numpy as np
from scipy.special import entr

from ssig.metrics.shared.magnitudes import add_magnitude_metric


def entropy(magnitude: np.ndarray) -> float:
    """Entropy of |map|, whose sum is above 0, in nats."""
    return float(entr(magnitude / magnitude.sum()).sum())


add_magnitude_metric(
    "entropy",
    entropy,
    better="lower",
    definition="entropy of |map| / sum |map| over the N pixels, in nats",
    range="[0, ln N]",
    reference="Bhatt et al., Evaluating and aggregating feature-based model explanations, IJCAI 2020",
)
