"""The evaluation report of a run: coverage first, then every number with its N, its interval and its provenance.

It is a function of the run's files. `index.html` needs neither network nor script; `report.json` holds the same
numbers and the digest of the commits and configurations that they came from.
"""

import os
import sys

# Figures are files. A notebook names a backend for its own process that others may not have: matplotlib then refuses
# to be imported at all. Inside of a notebook it is left alone.
if not sys.modules.keys() & {"matplotlib", "IPython"}:
    os.environ["MPLBACKEND"] = "Agg"

from pipeline.report.build import build_report as build_report
from pipeline.report.build import is_report_of as is_report_of
from pipeline.report.build import report_is_current as report_is_current
from pipeline.report.build import write_report as write_report
