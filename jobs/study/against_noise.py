"""Question 6: with the same integrand and as many gradients, is a law of suppression better than noise?

The difference of law and noise on the same images, for each integrand and measure, by Student's test; sure is p < .05
by Holm over all of a network.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from jobs.study.data import CORE, Measure, Panel, Study
from jobs.study.inference import Tested, corrected, difference
from jobs.study.labels import LINE, NOISE, law_and_integrand

COMPARED_BY = tuple(measure for measure in CORE if measure.column in ("gap", "diffid", "roc_auc", "certainty"))


@dataclass(frozen=True)
class Against(Tested):
    """A law of suppression minus noise by one measure, turned so that above 0 the law is better."""

    network: str
    law: str
    integrand: str
    measure: Measure


def against_noise(study: Study) -> list[Against]:
    """Every law of suppression but that of `ig`, with each integrand, on each network that has the block."""
    found: list[Against] = []
    for network in study.networks("core"):
        panel = study.panel("core", network)
        if panel is not None:
            found += corrected(list(_against(panel)))
    return found


def _against(panel: Panel) -> Iterator[Against]:
    for law, integrand in filter(None, map(law_and_integrand, panel.methods)):
        rival = f"{NOISE}+{integrand}"
        if law in (NOISE, LINE) or rival not in panel.methods:
            continue
        for measure in COMPARED_BY:
            estimate = difference(panel.of(measure.column, f"{law}+{integrand}"), panel.of(measure.column, rival))
            if estimate.count > 1:
                turned = estimate if measure.better > 0 else -estimate
                yield Against(panel.network, law, integrand, measure, estimate=turned)
