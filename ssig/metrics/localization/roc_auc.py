"""Area under the ROC curve of |map| as a detector of the object's pixels.

    roc_auc = Pr( |a| of an object pixel > |a| of another pixel ) + Pr( equal ) / 2
            = (R - n(n + 1)/2) / (n m),  R the sum of the object's mid-ranks, n object pixels, m others

A random map scores .5, whatever the object's size. Used for saliency in XRAI (Kapishnikov et al., ICCV 2019).
"""

from __future__ import annotations

import numpy as np
from scipy.stats import rankdata

from ssig.metrics.localization.objects import add_object_metric
from ssig.metrics.shared.assemble import NoOptions


def roc_auc(magnitude: np.ndarray, mask: np.ndarray, options: NoOptions) -> float:
    """ROC-AUC of |map| against the object."""
    inside = int(mask.sum())
    rank_sum = rankdata(magnitude, axis=None)[mask.ravel()].sum()
    return float((rank_sum - inside * (inside + 1) / 2) / (inside * (mask.size - inside)))


add_object_metric(
    "roc_auc",
    roc_auc,
    columns={"roc_auc": "higher"},
    definition="probability that |map| is higher on a pixel of the object than on one outside it",
    range="[0, 1], random .5",
    reference="Kapishnikov et al., XRAI, ICCV 2019",
)
