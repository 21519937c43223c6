"""The metrics, one file each: a pure function `(Evaluation, options) -> MetricResult` and its entry in `METRICS`.

To add one: write the file (equation first, frozen options dataclass, function, `METRICS.add(MetricSpec(...))` at the
end; `energy.py` is the shortest model), and import it here.
"""

from __future__ import annotations

# In the order in which reports show them, not the alphabet's.
# isort: off
from ssig.metrics import insertion as insertion
from ssig.metrics import deletion as deletion
from ssig.metrics import insertion_deletion_gap as insertion_deletion_gap
from ssig.metrics import diffid as diffid
from ssig.metrics import roc_auc as roc_auc
from ssig.metrics import pointing as pointing
from ssig.metrics import energy as energy
from ssig.metrics import completeness as completeness
