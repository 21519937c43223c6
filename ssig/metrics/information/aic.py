"""Accuracy information curve: is the target predicted, against the information of what is shown.

    aic = area of the curve of `pic.py` for p(x) = 1 where the target is predicted, else 0

XRAI (Kapishnikov et al., ICCV 2019). Higher is better. Over a data set the curves are averaged; their median is a step
from 0 to 1. Measured on images that are predicted as their target, and no longer without their pixels.
"""

from __future__ import annotations

from ssig.metrics.information.pic import specification
from ssig.registry import METRICS

METRICS.add(
    specification(
        "aic",
        aggregates=("mean", "median"),
        definition="area under accuracy against information, while the map's pixels appear in an interpolated image",
    )
)
