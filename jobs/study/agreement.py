"""Question 7: do the measures agree with each other and between networks, and can they tell better maps from worse?

agreement  Spearman's rank correlation over methods, without controls, of their means over images
worth      share of images in which a measure prefers the known-better map: the network's own over that of a network
           with permuted weights, that of 32 gradients over that of 4, and a method's over a random one
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

from jobs.study.data import GAP, MEASURES, MEASURES_BY_GROUP, Measure, Panel, Study
from jobs.study.design import CONTROLS, FEWER, METHODS, PERMUTED, RANDOM
from jobs.study.inference import Estimate, preferred, rank_correlation

GAP_PARTS = {"insertion", "deletion"}
WEIGHTS, SAMPLES, CONTROL = "own network over permuted one", "32 gradients over 4", "method over random map"
JUDGED = METHODS[PERMUTED]  # whose maps the measures tell apart


@dataclass(frozen=True)
class Agreement:
    """The rank correlation over methods of two measures on one network, or of one measure on two networks.

    Attributes:
        images: of which every method has both numbers.
    """

    first: tuple[str, Measure]
    second: tuple[str, Measure]
    estimate: Estimate
    images: int


@dataclass(frozen=True)
class Worth:
    """How well a measure tells known-better maps of a method from known-worse ones.

    Attributes:
        against: `WEIGHTS`, `SAMPLES` or `CONTROL`.
        share: of images where it prefers the better map, with Wilson's interval; equal ones count half.
    """

    network: str
    measure: Measure
    against: str
    method: str
    share: Estimate


def agreements(study: Study) -> list[Agreement]:
    """Between the measures of each network, and of each measure between networks."""
    panels = [panel for name in study.networks("core") if (panel := study.joined(name)) is not None]
    return [*_between_measures(panels), *_between_networks(panels)]


def _between_measures(panels: list[Panel]) -> Iterator[Agreement]:
    for panel in panels:
        present = [measure for measure in MEASURES if measure.column in panel.columns]
        whole = panel.some(_judged(panel, panel.ranked()))
        for first, second in combinations(present, 2):
            if GAP in (first, second) and {first.column, second.column} & GAP_PARTS:
                continue  # a part of it
            sides = [measure.better * whole.columns[measure.column] for measure in (first, second)]
            yield Agreement((panel.network, first), (panel.network, second), *rank_correlation(sides[0], sides[1]))


def _between_networks(panels: list[Panel]) -> Iterator[Agreement]:
    for first, second in combinations(panels, 2):
        images = sorted(set(first.ranked()) & set(second.ranked()))
        others = _judged(second, images)
        methods = [name for name in _judged(first, images) if name in others]
        for measure in MEASURES:
            if images and measure.column in first.columns and measure.column in second.columns:
                sides = [panel.some(methods).aligned(images, measure.column) for panel in (first, second)]
                both = (first.network, measure), (second.network, measure)
                yield Agreement(*both, *rank_correlation(sides[0], sides[1]))


def _judged(panel: Panel, images: Sequence[str]) -> list[str]:
    """The methods that have numbers of all images; controls are none, for every measure puts most of them last."""
    return [name for name in panel.everywhere(images) if name not in CONTROLS]


def worths(study: Study) -> list[Worth]:
    """How well each measure tells better maps of `JUDGED` from worse, on each network.

    MPRT and stability are left out: a random map has their worst or no value whatever they measure.
    """
    found: list[Worth] = []
    for group in ("core", "information"):
        for network in study.networks(group):
            own, other = study.panel(group, network), study.panel(PERMUTED, network)
            for measure in MEASURES_BY_GROUP[group]:
                if own is not None:
                    found += _worths(own, other, measure)
    return found


def _worths(own: Panel, other: Panel | None, measure: Measure) -> Iterator[Worth]:
    """Of one measure on one network; `other` has the maps of the permuted network."""
    pairs: dict[str, list[tuple[str, Panel | None, str]]] = {
        WEIGHTS: [(name, other, name) for name in JUDGED],
        SAMPLES: [(name, own, f"{name}-{FEWER}") for name in JUDGED],
        CONTROL: [(name, own, RANDOM) for name in JUDGED],
    }
    for against, chosen in pairs.items():
        for better, panel, worse in chosen:
            if panel is None or better not in own.methods or worse not in panel.methods:
                continue
            if measure.column in own.columns and measure.column in panel.columns:
                theirs = panel.some((worse,)).aligned(own.images, measure.column)[:, 0]
                share = preferred(measure.better * (own.of(measure.column, better) - theirs))
                if share.count > 1:
                    yield Worth(own.network, measure, against, better, share)
