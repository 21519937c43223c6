"""Question 6: the best law and integrand at equal cost, quality against gradients, the least cost of a quality."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from jobs.study.data import CORE, GAP, Measure, Panel, Study, rivals
from jobs.study.design import METHODS
from jobs.study.inference import Estimate, difference, mean_of
from jobs.study.labels import law_and_integrand, name_and_gradients
from pipeline.report.statistics import ALPHA, holm

BASE = 32  # gradients of the methods under their own names
CHOSEN_BY = tuple(measure for measure in CORE if measure.column in ("gap", "diffid", "roc_auc"))
QUALITIES = (0.25, 0.3, 0.35, 0.4, 0.45)  # of insertion minus deletion
SWEPT = frozenset(entry.partition(":")[0] for entry in METHODS["costs"])  # whose curves are measured


@dataclass(frozen=True)
class Best:
    """The best law and integrand of one network by one measure.

    Attributes:
        label: `LAW+INTEGRAND`.
        estimate: its mean.
        level: those that it is not surely better than, best first, by Holm over all pairs, since it was chosen by
            the same numbers.
        order: all of them, best first, with their means.
    """

    network: str
    measure: Measure
    label: str
    estimate: Estimate
    level: tuple[str, ...]
    order: tuple[tuple[str, Estimate], ...]


@dataclass(frozen=True)
class Cost:
    """The quality of a method at rising numbers of gradients, on the images that all of these have."""

    network: str
    method: str
    gradients: tuple[int, ...]
    quality: tuple[Estimate, ...]

    def least(self, quality: float) -> int | None:
        """The fewest gradients from which on the mean is at a quality; None where there are none."""
        least = None
        for count, each in zip(reversed(self.gradients), reversed(self.quality), strict=True):
            if not each.mean >= quality:
                break
            least = count
        return least


def best(study: Study) -> list[Best]:
    """The best law and integrand of each network that has the block, by each measure."""
    found = []
    for network in study.networks("core"):
        panel = study.panel("core", network)
        labels = [name for name in panel.methods if law_and_integrand(name)] if panel is not None else []
        if panel is None or len(labels) < 2:
            continue
        found += [_best(panel.some(labels), measure) for measure in CHOSEN_BY]
    return found


def _best(panel: Panel, measure: Measure) -> Best:
    values = panel.columns[measure.column]
    values = values[np.isfinite(values).all(axis=1)]
    order = np.argsort(-measure.better * values.mean(axis=0), kind="stable")
    # The pairs of the leader come first.
    p = holm(np.array([difference(values[:, one], values[:, other]).p for one, other in combinations(order, 2)]))
    level = tuple(panel.methods[other] for other, each in zip(order[1:], p, strict=False) if not each < ALPHA)
    means = tuple((panel.methods[place], mean_of(values[:, place])) for place in order)
    return Best(panel.network, measure, panel.methods[order[0]], means[0][1], level, means)


def costs(study: Study) -> list[Cost]:
    """The curves of each network that has the block."""
    found = []
    for network in study.networks("core"):
        panel = study.panel("core", network)
        if panel is not None:
            found += _costs(panel)
    return found


def reached(study: Study, curves: Sequence[Cost], quality: float) -> dict[str, list[str]]:
    """Network with curves -> the rivals without a curve whose mean over the same images reaches a quality under their
    own names, which is with `BASE` gradients at most; the highest first."""
    found = {}
    for network in dict.fromkeys(row.network for row in curves):
        panel = study.panel("core", network)
        if panel is not None:
            points = [name for name in panel.methods if name in _asked()]
            held = np.isfinite([panel.of(GAP.column, name) for name in points]).all(axis=0)
            others = [name for name in rivals(panel) if name not in SWEPT]
            means = {name: float(panel.of(GAP.column, name)[held].mean()) for name in others}  # NaN: not of all images
            means = {name: mean for name, mean in means.items() if mean >= quality}
            found[network] = sorted(means, key=lambda name: -means[name])
    return found


def _asked() -> set[str]:
    """The labels of all points of the curves but the first."""
    return {entry.rpartition("label=")[2] for entry in METHODS["costs"]}


def _costs(panel: Panel) -> list[Cost]:
    asked = _asked()
    settings: dict[str, dict[int, str]] = {}
    for label in panel.methods:
        parts = name_and_gradients(label)
        if parts is not None and label in asked:
            name, count = parts
            settings.setdefault(name, {BASE: name})[count] = label
    found = []
    for name, labels in settings.items():
        counts = sorted(count for count, label in labels.items() if label in panel.methods)
        values = np.stack([panel.of(GAP.column, labels[count]) for count in counts], axis=1)
        values = values[np.isfinite(values).all(axis=1)]
        if len(values) > 1:
            found.append(Cost(panel.network, name, tuple(counts), tuple(mean_of(rows) for rows in values.T)))
    return found
