"""Area under the ROC curve of |map| as a detector of the object's pixels.

    roc_auc = Pr( |a| of an object pixel > |a| of another pixel ) + Pr( equal ) / 2
            = (R - n(n + 1)/2) / (n m),  R the sum of the object's mid-ranks, n object pixels, m others

A random map scores .5, whatever the object's size. Used for saliency in XRAI (Kapishnikov et al., ICCV 2019).
"""

from __future__ import annotations

import numpy as np
from scipy.stats import rankdata

from ssig.metrics.evaluation import Evaluation, MetricResult
from ssig.metrics.objects import measure_objects
from ssig.metrics.results import NoOptions
from ssig.registry import METRICS, MetricSpec


def roc_auc(evaluation: Evaluation, options: NoOptions) -> MetricResult:
    """ROC-AUC of |map| against the object."""
    return measure_objects(evaluation, ("roc_auc",), _area)


def _area(magnitude: np.ndarray, mask: np.ndarray) -> tuple[float]:
    inside = int(mask.sum())
    rank_sum = rankdata(magnitude, axis=None)[mask.ravel()].sum()
    return (float((rank_sum - inside * (inside + 1) / 2) / (inside * (mask.size - inside))),)


METRICS.add(
    MetricSpec(
        name="roc_auc",
        compute=roc_auc,
        options=NoOptions,
        columns={"roc_auc": "higher"},
        definition="probability that |map| is higher on a pixel of the object than on one outside it",
        range="[0, 1], random .5",
        reference="Kapishnikov et al., XRAI, ICCV 2019",
        forwards=lambda options: 0,
        needs=frozenset({"map", "mask"}),
    )
)
