"""The metrics, one file each: a pure function of a batch's maps and its entry in `METRICS`.

To add one: write the file, equation first, import it here, and name its columns in `ssig/registry/titles.py`. The
shortest models: `energy.py` for a measure of a map against an object (`add_object_metric`), `gini.py` for one of the
map alone (`add_magnitude_metric`), and `completeness.py` for the general form, `(Evaluation, options) -> MetricResult`
with `METRICS.add(MetricSpec(...))`.
"""

from __future__ import annotations

# In the order in which reports show them, not the alphabet's.
# isort: off
# ruff: noqa: F401
from ssig.metrics.faithfulness import insertion
from ssig.metrics.faithfulness import deletion
from ssig.metrics.faithfulness import insertion_deletion_gap
from ssig.metrics.faithfulness import insertion_score
from ssig.metrics.faithfulness import diffid
from ssig.metrics.faithfulness import diffid_accuracy
from ssig.metrics.faithfulness import diffid_element
from ssig.metrics.faithfulness import diffid_channels
from ssig.metrics.faithfulness import road
from ssig.metrics.faithfulness import pixel_flipping
from ssig.metrics.faithfulness import sensitivity_n
from ssig.metrics.faithfulness import infidelity
from ssig.metrics.faithfulness import faithfulness_correlation
from ssig.metrics.faithfulness import mufidelity
from ssig.metrics.faithfulness import completeness
from ssig.metrics.information import aic
from ssig.metrics.information import sic
from ssig.metrics.localization import roc_auc
from ssig.metrics.localization import average_precision
from ssig.metrics.localization import pointing
from ssig.metrics.localization import energy
from ssig.metrics.localization import relevance_rank
from ssig.metrics.localization import iou
from ssig.metrics.localization import max_box_acc
from ssig.metrics.localization import mask_mse
from ssig.metrics.localization import mask_mae
from ssig.metrics.complexity import gini
from ssig.metrics.complexity import entropy
from ssig.metrics.complexity import effective_support
from ssig.metrics.robustness import max_sensitivity
from ssig.metrics.robustness import stability
from ssig.metrics.randomisation import mprt
from ssig.metrics.randomisation import emprt
from ssig.metrics.randomisation import random_logit
from ssig.metrics.certainty import certainty as _certainty  # the plain name is that of the package
from ssig.metrics.certainty import certainty_nce
from ssig.metrics.certainty import alignment
