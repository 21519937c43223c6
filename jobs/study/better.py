"""A better default: is there a law, an integrand or a cost that is better than `ssig` on every network?

A candidate is better where its insertion minus deletion is surely higher on every network that has it, at least two,
and its DiffID and ROC-AUC are surely lower on none. Sure is p < .05 by Holm over all candidates, measures, networks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from jobs.study.choices import CHOSEN_BY
from jobs.study.data import GAP, Measure, Panel, Study
from jobs.study.design import VARIANTS
from jobs.study.inference import Tested, corrected, difference
from jobs.study.labels import SAME, law_and_integrand, name_and_gradients

DEFAULT = VARIANTS[0]
FEWEST_NETWORKS = 2
LAW, COST = "law and integrand", "cost"


@dataclass(frozen=True)
class Rise(Tested):
    """A candidate minus `ssig` by one measure on one network, on the same images.

    Attributes:
        kind: `LAW` or `COST`.
    """

    candidate: str
    kind: str
    network: str
    measure: Measure


def rises(study: Study) -> list[Rise]:
    """Every candidate on each network, by each measure."""
    found: list[Rise] = []
    for network in study.networks("core"):
        panel = study.panel("core", network)
        if panel is not None and DEFAULT in panel.methods:
            found += _rises(panel)
    return corrected(found)


def _rises(panel: Panel) -> list[Rise]:
    found = []
    for label in panel.methods:
        kind = kind_of(label)
        for measure in CHOSEN_BY if kind is not None else ():
            if kind is not None and measure.column in panel.columns:
                sides = panel.of(measure.column, label), panel.of(measure.column, DEFAULT)
                estimate = difference(*sides)
                if estimate.count > 1:
                    found.append(Rise(label, kind, panel.network, measure, estimate=estimate))
    return found


def kind_of(label: str) -> str | None:
    """What a candidate changes of `ssig`: its law and integrand, or its cost; None for `ssig` and other methods."""
    if label != DEFAULT and label in VARIANTS:
        return LAW
    if law_and_integrand(label):
        return LAW if label not in SAME else None  # a method under another label
    parts = name_and_gradients(label)
    return COST if parts is not None and parts[0] in VARIANTS else None


def judged(rows: Sequence[Rise]) -> list[str]:
    """The candidates that were measured on `FEWEST_NETWORKS` or more."""
    networks = Counter(row.candidate for row in rows if row.measure == GAP)
    return [candidate for candidate, count in networks.items() if count >= FEWEST_NETWORKS]


def better(rows: Sequence[Rise]) -> list[str]:
    """The candidates that are better than `ssig` on every network, the highest mean rise of the gap first."""
    found: dict[str, float] = {}
    for candidate in judged(rows):
        mine = [row for row in rows if row.candidate == candidate]
        gaps = [row for row in mine if row.measure == GAP]
        if all(row.sign > 0 for row in gaps) and all(row.sign >= 0 for row in mine):
            found[candidate] = float(np.mean([row.estimate.mean for row in gaps]))
    return sorted(found, key=lambda name: -found[name])


def higher(rows: Sequence[Rise]) -> list[str]:
    """Those whose gap is surely higher on every network, and DiffID or ROC-AUC surely lower on one."""
    chosen = []
    for candidate in judged(rows):
        mine = [row for row in rows if row.candidate == candidate]
        gaps = [row for row in mine if row.measure == GAP]
        if all(row.sign > 0 for row in gaps) and any(row.sign < 0 for row in mine):
            chosen.append(candidate)
    return chosen
