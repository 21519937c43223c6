"""Question 5: do rivals' maps fail on networks that were trained with heavy augmentation, and suppression's not?

What a method has over random maps, image by image:

    g(method, network) = gap of the method - gap of `random`
    contrast           = mean of g over the heavily augmented networks - g of the lightly augmented one

of the mean over suppression's variants, of the mean over the rivals that all networks have, and of the first minus the
second, on the images that all of these have. Architecture and augmentation go together in these networks, so this
describes them and does not decide.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from jobs.study.data import GAP, Panel, Study, rivals
from jobs.study.design import NETWORKS, RANDOM, VARIANTS
from jobs.study.inference import Estimate, mean_difference

SUPPRESSION, RIVALS, DIFFERENCE = SIDES = "suppression", "rivals", "suppression minus rivals"


@dataclass(frozen=True)
class Level:
    """What a group of methods has over random maps on one network."""

    network: str
    augmented: bool
    group: str
    methods: int
    estimate: Estimate


@dataclass(frozen=True)
class Augmentation:
    """The levels of each network, and of each group the contrast of heavy and light augmentation."""

    levels: tuple[Level, ...]
    contrasts: Mapping[str, Estimate]


def augmentation(study: Study) -> Augmentation | None:
    """The answer; None unless networks of both kinds are measured."""
    panels = {
        name: panel
        for name in study.networks("core")
        if name in NETWORKS and NETWORKS[name].augmented is not None
        if (panel := study.panel("core", name)) is not None and RANDOM in panel.methods
    }
    heavy = [name for name in panels if NETWORKS[name].augmented]
    light = [name for name in panels if not NETWORKS[name].augmented]
    if not heavy or not light:
        return None
    images = sorted(set.intersection(*(set(panel.images) for panel in panels.values())))
    common = set.intersection(*(set(rivals(panel)) for panel in panels.values()))
    members = {SUPPRESSION: list(VARIANTS), RIVALS: sorted(common)}
    over = {
        name: {group: _over_random(panel, methods, images) for group, methods in members.items()}
        for name, panel in panels.items()
    }
    held = np.all([np.isfinite(values) for each in over.values() for values in each.values()], axis=0)
    for each in over.values():
        for group in members:
            each[group] = each[group][held]
        each[DIFFERENCE] = each[SUPPRESSION] - each[RIVALS]
    levels = tuple(
        Level(name, bool(NETWORKS[name].augmented), group, len(members.get(group, ())), mean_difference(values[group]))
        for name, values in over.items()
        for group in SIDES
    )
    sides = {
        group: [np.mean([over[name][group] for name in names], axis=0) for names in (heavy, light)] for group in SIDES
    }
    contrasts = {group: mean_difference(heavy_mean - light_mean) for group, (heavy_mean, light_mean) in sides.items()}
    return Augmentation(levels, contrasts)


def _over_random(panel: Panel, methods: list[str], images: list[str]) -> np.ndarray:
    """(N,) mean over methods of their gap, minus that of random maps."""
    gaps = panel.some(methods).aligned(images, GAP.column)
    floor = panel.some([RANDOM]).aligned(images, GAP.column)[:, 0]
    result: np.ndarray = gaps.mean(axis=1) - floor
    return result
