"""Effective support: the share of the pixels over which the map's magnitude is spread.

    effective_support = exp( entropy ) / N,   entropy as in `entropy`, of the N pixels

exp(entropy) is the number of equal pixels that would have the map's entropy (its perplexity; Hill's diversity of order
1, Ecology 1973): k equal pixels and zeros elsewhere give k / N, a single pixel 1 / N, a constant map 1.
"""

from __future__ import annotations

import math

import numpy as np

from ssig.metrics.complexity.entropy import entropy
from ssig.metrics.shared.magnitudes import add_magnitude_metric


def effective_support(magnitude: np.ndarray) -> float:
    """exp of the entropy of |map|, whose sum is above 0, by the number of pixels."""
    return math.exp(entropy(magnitude)) / magnitude.size


add_magnitude_metric(
    "effective_support",
    effective_support,
    better="lower",
    definition="number of equal pixels that have the entropy of |map|, as a share of all pixels",
    range="(0, 1], constant map 1",
    reference="Hill, Diversity and evenness, Ecology 1973",
)
