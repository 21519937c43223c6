"""Question 3: does nearness to natural images predict certainty, and certainty faithfulness?

    over laws     rank correlation of means over images, of the magnitudes over each law and strength
    over methods  the same of the methods under their own names; nearness is that of the points at which they take
                  gradients, so methods without such points are left out of it
    over images   rank correlation over images within a law, with the probability and the score of the whole image
                  regressed out; the mean over laws

Nearness is minus the distance of the samples' features from the image's, relative to the image's; over laws also minus
the kernel distance (KID) of samples and images.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from jobs.study.data import GAP, Panel, Study
from jobs.study.design import CONTROLS
from jobs.study.inference import (
    FEWEST_METHODS,
    NOTHING,
    Estimate,
    partial_rank_correlation,
    rank_correlation,
    spearman,
)
from jobs.study.labels import is_setting

GIVEN = ("probability", "score")
KERNEL = "nearness by KID"
OVER_LAWS, OVER_METHODS, OVER_IMAGES = "laws", "methods", "images"


@dataclass(frozen=True)
class Link:
    """A rank correlation of two quantities.

    Attributes:
        over: `OVER_LAWS`, `OVER_METHODS` or `OVER_IMAGES`.
        images: how many the quantities are means over.
    """

    network: str
    over: str
    first: str
    second: str
    estimate: Estimate
    images: int

    @property
    def sign(self) -> int:
        """1 or -1 where the interval leaves out 0, else 0."""
        return self.estimate.sign


def links(study: Study) -> list[Link]:
    """All links of each network."""
    found: list[Link] = []
    for network in study.networks("near"):
        panel = study.panel("near", network)
        if panel is not None:
            found += _of_laws(panel)
            found.append(_of_kernel_distance(study, panel))
    for network in study.networks("core"):
        found += _of_methods(study, network)
    return found


def laws_of(panel: Panel) -> Panel:
    """The laws of a panel, without `random` and `gradient`, which are measured beside them."""
    return panel.some([name for name in panel.methods if name not in (*CONTROLS, "gradient")])


def _of_laws(panel: Panel) -> Iterator[Link]:
    laws = laws_of(panel)
    columns = {
        "nearness": -laws.columns["alignment"],
        "certainty": laws.columns["certainty"],
        "faithfulness": laws.columns[GAP.column],
    }
    for first, second in (("nearness", "certainty"), ("certainty", "faithfulness"), ("nearness", "faithfulness")):
        yield Link(panel.network, OVER_LAWS, first, second, *rank_correlation(columns[first], columns[second]))
        within = _within(laws, columns[first], columns[second])
        yield Link(panel.network, OVER_IMAGES, first, second, within, within.count)


def _of_methods(study: Study, network: str) -> Iterator[Link]:
    core, sanity = study.panel("core", network), study.panel("sanity", network)
    if core is None or "certainty" not in core.columns:
        return
    whole = core.everywhere(core.ranked())
    methods = core.some([name for name in whole if not (name in CONTROLS or is_setting(name))])
    columns = {"certainty": "certainty", "faithfulness": GAP.column}
    linked = rank_correlation(methods.columns["certainty"], methods.columns[GAP.column])
    yield Link(network, OVER_METHODS, "certainty", "faithfulness", *linked)
    if sanity is not None and "alignment" in sanity.columns:
        both = methods.some(sanity.methods)
        nearness = -sanity.some(both.methods).aligned(both.images, "alignment")
        for quantity, column in columns.items():
            yield Link(network, OVER_METHODS, "nearness", quantity, *rank_correlation(nearness, both.columns[column]))


def _of_kernel_distance(study: Study, panel: Panel) -> Link:
    """Nearness by the kernel distance (KID) of each law, a number of the whole data set: it has no interval."""
    distances = study.whole("near", panel.network, "alignment_kid")
    laws = laws_of(panel)
    laws = laws.some([name for name in laws.methods if name in distances])
    if len(laws.methods) < FEWEST_METHODS:
        return Link(panel.network, OVER_LAWS, KERNEL, "certainty", NOTHING, len(panel.images))
    nearness = np.array([[-distances[name]["value"] for name in laws.methods]])
    certainty = np.nanmean(laws.columns["certainty"], axis=0)[None]
    value = float(spearman(nearness, certainty)[0])
    estimate = Estimate(value, np.nan, np.nan, len(laws.methods))
    return Link(panel.network, OVER_LAWS, KERNEL, "certainty", estimate, len(panel.images))


def _within(laws: Panel, first: np.ndarray, second: np.ndarray) -> Estimate:
    """The mean over laws of the partial correlation over images; its interval is the mean one, since the laws explain
    the same images."""
    each = []
    for place in range(len(laws.methods)):
        given = np.column_stack([laws.columns[name][:, place] for name in GIVEN])
        estimate = partial_rank_correlation(first[:, place], second[:, place], given)
        if np.isfinite(estimate.mean):
            each.append(estimate)
    if not each:
        return NOTHING
    mean, low, high = (float(np.mean([getattr(one, name) for one in each])) for name in ("mean", "low", "high"))
    return Estimate(mean, low, high, max(one.count for one in each))
