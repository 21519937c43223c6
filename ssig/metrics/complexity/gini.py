"""Gini index of the map's magnitude: how unequally it is spread over the pixels.

    gini = sum_i (2i - N - 1) |a|_(i) / (N sum |a|),   |a|_(1) <= ... <= |a|_(N)

Hurley & Rickard, Comparing measures of sparsity, IEEE Trans. IT 2009; sparseness of Chalasani et al., ICML 2020. 0 for
a constant map, 1 - 1/N for a single pixel; uniform noise has 1/3, half-normal noise sqrt(2) - 1, exponential 1/2. N is
the number of pixels of the two-dimensional map: counting channels apart gives other numbers.
"""

from __future__ import annotations

import numpy as np

from ssig.metrics.shared.magnitudes import add_magnitude_metric


def gini(magnitude: np.ndarray) -> float:
    """Gini index of |map|, whose sum is above 0."""
    ascending = np.sort(magnitude, axis=None)
    size = ascending.size
    weights = 2 * np.arange(1, size + 1) - size - 1
    return float((weights * ascending).sum() / (size * ascending.sum()))


add_magnitude_metric(
    "gini",
    gini,
    better="higher",
    definition="Gini index of |map| over the pixels: 0 when all are equal",
    range="[0, 1), uniform noise 1/3",
    reference="Hurley & Rickard, IEEE Trans. IT 2009; Chalasani et al., ICML 2020",
)
