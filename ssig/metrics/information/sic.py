"""Softmax information curve: how much of the target's probability is regained, against the information shown.

    sic = area of the curve of `pic.py` for p(x) = softmax probability of the target

XRAI (Kapishnikov et al., ICCV 2019). Higher is better. Over a data set the median of the curves is taken at each
point. Measured on images whose target has at least `min_probability`.
"""

from __future__ import annotations

from ssig.metrics.information.pic import specification
from ssig.registry import METRICS

METRICS.add(
    specification(
        "sic",
        aggregates=("median", "mean"),
        definition="area under normalised probability against information, while the map's pixels appear",
    )
)
