"""Question 1: does each variant of suppression beat each rival, by each measure, and where does it lose?"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from jobs.study.data import MEASURES_BY_GROUP, Measure, Panel, Study, rivals
from jobs.study.design import CONTROLS, FAMILIES, VARIANTS
from jobs.study.inference import Estimate, Tested, corrected, difference, joint, over_networks

OVER = "over networks"
FEWEST_OVER = 3  # networks for a number over networks: of two, the interval says nothing


@dataclass(frozen=True)
class Comparison(Tested):
    """A variant minus a rival by one measure, turned so that above 0 the variant is better.

    Attributes:
        network: its key, or `OVER`.
        joint: over networks, the interval with images resampled jointly.
    """

    network: str
    measure: Measure
    variant: str
    rival: str
    joint: Estimate | None = None


def comparisons(study: Study) -> list[Comparison]:
    """Every variant against every rival, by every measure, on each network and over the networks."""
    found: list[Comparison] = []
    for group, measures in MEASURES_BY_GROUP.items():
        panels = [panel for name in study.networks(group) if (panel := study.panel(group, name)) and name in FAMILIES]
        for panel in panels:
            found += _on(panel, measures)
        found += _over(found, panels, measures)
    networks = dict.fromkeys(each.network for each in found)
    return [each for network in networks for each in corrected([row for row in found if row.network == network])]


def _on(panel: Panel, measures: Iterable[Measure]) -> list[Comparison]:
    found = []
    for measure in measures:
        if measure.column not in panel.columns:
            continue
        for variant in (name for name in VARIANTS if name in panel.methods):
            for rival in rivals(panel):
                sides = panel.of(measure.column, variant), panel.of(measure.column, rival)
                estimate = difference(*sides, measure.share)
                if estimate.count > 1:
                    turned = estimate if measure.better > 0 else -estimate
                    found.append(Comparison(panel.network, measure, variant, rival, estimate=turned))
    return found


def _over(rows: Sequence[Comparison], panels: Sequence[Panel], measures: Iterable[Measure]) -> list[Comparison]:
    """The comparisons that at least `FEWEST_OVER` networks have, over these networks."""
    by_name: dict[tuple[Measure, str, str], list[Comparison]] = {}
    for row in rows:
        if row.measure in measures:
            by_name.setdefault((row.measure, row.variant, row.rival), []).append(row)
    images = sorted({image for panel in panels for image in panel.images})
    of = {panel.network: panel for panel in panels}
    found = []
    for (measure, variant, rival), each in by_name.items():
        if len(each) < FEWEST_OVER:
            continue
        estimate = over_networks([row.estimate for row in each])
        if not np.isfinite(estimate.mean) or estimate.count < FEWEST_OVER:
            continue
        columns = [_difference(of[row.network], measure, variant, rival, images) for row in each]
        found.append(
            Comparison(
                OVER,
                measure,
                variant,
                rival,
                estimate=estimate,
                joint=joint(np.stack(columns, axis=1)),
            )
        )
    return found


def _difference(panel: Panel, measure: Measure, variant: str, rival: str, images: Sequence[str]) -> np.ndarray:
    rows = panel.some((variant, rival)).aligned(images, measure.column)
    result: np.ndarray = measure.better * (rows[:, 0] - rows[:, 1])
    return result


def panel_of(study: Study, row: Comparison) -> Panel:
    """The numbers that a comparison on one network was made from."""
    group = next(name for name, measures in MEASURES_BY_GROUP.items() if row.measure in measures)
    panel = study.panel(group, row.network)
    assert panel is not None
    return panel


def beside_controls(study: Study, rows: Sequence[Comparison]) -> list[Comparison]:
    """Of each network and measure, the variant with the best mean against each control, whose name stands for the
    rival's; corrected for all of them together.

    Args:
        study: the numbers.
        rows: of each network and measure, the best variant against its hardest rival.
    """
    found = []
    for row in rows:
        panel = panel_of(study, row)
        for control in (name for name in CONTROLS if name in panel.methods):
            sides = panel.of(row.measure.column, row.variant), panel.of(row.measure.column, control)
            estimate = difference(*sides, row.measure.share)
            if estimate.count > 1:
                turned = estimate if row.measure.better > 0 else -estimate
                found.append(Comparison(row.network, row.measure, row.variant, control, estimate=turned))
    return corrected(found)


def tally(rows: Iterable[Comparison], variant: str, column: str, network: str) -> tuple[int, int, int]:
    """How many rivals a variant surely beats, surely loses to, and is not told apart from, of those tested."""
    verdicts = [
        row.sign
        for row in rows
        if (row.variant, row.measure.column, row.network) == (variant, column, network) and np.isfinite(row.p)
    ]
    return verdicts.count(1), verdicts.count(-1), verdicts.count(0)


def leads(study: Study, rows: Sequence[Comparison]) -> list[Comparison]:
    """Of each network and measure, the comparison of the variant with the best mean and the rival that is hardest for
    it, on the images of both: of those that are surely ahead the one that is ahead by most; without any, of those that
    were tested the one that is ahead by most or behind by least."""
    of: dict[tuple[str, Measure], list[Comparison]] = {}
    for row in rows:
        if row.network != OVER:
            of.setdefault((row.network, row.measure), []).append(row)
    found = []
    for (_, measure), mine in of.items():
        variant = _leader(panel_of(study, mine[0]), measure)
        theirs = [row for row in mine if row.variant == variant]
        theirs = [row for row in theirs if np.isfinite(row.p)] or theirs
        found.append(min(theirs, key=lambda row: (min(row.sign, 0), row.estimate.mean)))
    order = list(dict.fromkeys(row.network for row in found))
    return sorted(found, key=lambda row: order.index(row.network))


def _leader(panel: Panel, measure: Measure) -> str:
    """The variant with the best mean, of those that have any number."""
    present = [
        name for name in VARIANTS if name in panel.methods and np.isfinite(panel.of(measure.column, name)).any()
    ]
    return max(present, key=lambda name: measure.better * float(np.nanmean(panel.of(measure.column, name))))
