"""The evaluation report of a run: coverage first, then every number with its N, its interval and its provenance.

It is a function of the run's files. `index.html` needs neither network nor script; `report.json` holds the same
numbers and the digest of the commits and configurations that they came from.
"""

from pipeline.report.build import build_report as build_report
from pipeline.report.build import report_is_current as report_is_current
