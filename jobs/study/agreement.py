"""Question 7: do the measures agree with each other and between networks, and can they tell better maps from worse?

agreement  Spearman's rank correlation over methods of their means over images
worth      share of images, and mean over standard deviation, by which a measure prefers the known-better map:
           of 256 gradients over that of 4, and of a method over a random map
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from jobs.study.data import GROUPS, MEASURES, Measure, Panel, Study, is_setting
from jobs.study.design import CONTROLS
from jobs.study.inference import Estimate, mean_of, rank_correlation

MORE, FEWER = 256, 4
RANDOM = "random"
SAMPLES, CONTROL = "256 gradients over 4", "method over random map"


@dataclass(frozen=True)
class Agreement:
    """The rank correlation over methods of two measures on one network, or of one measure on two networks."""

    first: tuple[str, Measure]
    second: tuple[str, Measure]
    estimate: Estimate


@dataclass(frozen=True)
class Worth:
    """How well a measure tells known-better maps from known-worse ones.

    Attributes:
        against: `SAMPLES` or `CONTROL`.
        share: of images and methods where it prefers the better map; equal ones count half.
        effect: mean over methods and images of the difference, over its standard deviation over images.
    """

    network: str
    measure: Measure
    against: str
    methods: int
    share: Estimate
    effect: float


def agreements(study: Study) -> list[Agreement]:
    """Between the measures of each network, and of each measure between networks."""
    panels = [panel for name in study.networks("core") if (panel := study.joined(name)) is not None]
    return [*_between_measures(panels), *_between_networks(panels)]


def _between_measures(panels: list[Panel]) -> Iterator[Agreement]:
    for panel in panels:
        present = [measure for measure in MEASURES if measure.column in panel.columns]
        for first, second in combinations(present, 2):
            sides = [measure.better * panel.columns[measure.column] for measure in (first, second)]
            estimate = rank_correlation(sides[0], sides[1])
            yield Agreement((panel.network, first), (panel.network, second), estimate)


def _between_networks(panels: list[Panel]) -> Iterator[Agreement]:
    for first, second in combinations(panels, 2):
        images = sorted(set(first.images) & set(second.images))
        methods = [name for name in first.methods if name in second.methods]
        for measure in MEASURES:
            if images and measure.column in first.columns and measure.column in second.columns:
                sides = [panel.some(methods).aligned(images, measure.column) for panel in (first, second)]
                estimate = rank_correlation(sides[0], sides[1])
                yield Agreement((first.network, measure), (second.network, measure), estimate)


def worths(study: Study) -> list[Worth]:
    """How well each measure tells better maps from worse, on each network.

    MPRT and stability are left out: a random map has their worst or no value whatever they measure.
    """
    found: list[Worth] = []
    for group in ("core", "information"):
        measures = GROUPS[group]
        for network in study.networks(group):
            panel = study.panel(group, network)
            for measure in measures if panel is not None else ():
                if panel is not None and measure.column in panel.columns:
                    found += _worths(panel, measure)
    return found


def _worths(panel: Panel, measure: Measure) -> Iterator[Worth]:
    more = {name: f"{name.rpartition('-')[0]}-{FEWER}" for name in panel.methods if name.endswith(f"-{MORE}")}
    pairs = {
        SAMPLES: [(better, worse) for better, worse in more.items() if worse in panel.methods],
        CONTROL: [(name, RANDOM) for name in panel.methods if name not in CONTROLS and not is_setting(name)]
        if RANDOM in panel.methods
        else [],
    }
    for against, chosen in pairs.items():
        if chosen:
            differences = np.stack(
                [
                    measure.better * (panel.of(measure.column, better) - panel.of(measure.column, worse))
                    for better, worse in chosen
                ],
                axis=1,
            )
            differences = differences[np.isfinite(differences).all(axis=1)]
            if len(differences) > 1:
                deviation = differences.std(axis=0, ddof=1)
                effects = np.divide(
                    differences.mean(axis=0), deviation, out=np.zeros(len(deviation)), where=deviation > 0
                )
                share = mean_of((np.sign(differences) + 1).mean(axis=1) / 2)
                yield Worth(panel.network, measure, against, len(chosen), share, float(effects.mean()))
