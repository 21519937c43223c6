"""Stability: how well a method that draws random numbers agrees with itself.

    stability = Spearman(A_1, A_2),   A_1 and A_2 from disjoint, independent random streams
    stability_top = |T_1 and T_2| / k,   T_i the k highest pixels of A_i; by chance k / N

The test-retest reliability of a map at the method's own number of samples (Spearman, The Proof and Measurement of
Association between Two Things, 1904: the correlation of two whole measurements of one thing; no halves, so nothing is
to be stepped up by his formula of 1910). Where the maps of two seeds are equal, by
the bound that any two runs of one network meet (relative L2 distance of 1e-4), there is no randomness to measure: the
method draws nothing, or nothing that matters, and the image is excluded.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from ssig.metrics.shared.assemble import assemble
from ssig.metrics.shared.ranking import top
from ssig.metrics.shared.similarity import NO_METHOD, VALUES, read, spearman
from ssig.options import option
from ssig.registry import METRICS, MetricSpec
from ssig.types import Evaluation, MetricResult

COLUMNS = ("stability", "stability_top")
EQUAL = 1e-4
NO_RANDOMNESS = "maps of two seeds are equal: the method draws nothing"


@dataclass(frozen=True)
class StabilityOptions:
    """What is compared."""

    values: str = option("signed", "what is compared: |map|, or the signed map", choices=VALUES)
    top: float = option(0.05, "share of the pixels whose overlap is counted", above=0, at_most=1)


def stability(evaluation: Evaluation, options: StabilityOptions) -> MetricResult:
    """Rank correlation and overlap of the top of two maps of each image."""
    explainer, size = evaluation.explainer, len(evaluation)
    if explainer is None:
        nothing = np.full(size, np.nan)
        return assemble(dict.fromkeys(COLUMNS, nothing), [dict.fromkeys(COLUMNS, NO_METHOD)] * size)
    rows = torch.arange(size)

    def drawn(draw: int) -> np.ndarray:
        return read(explainer.maps(evaluation.images, evaluation.targets, rows, draw=draw), options.values)

    first = drawn(1)
    # The map that is measured has draws of its own: where it is met everywhere, a third one tells nothing.
    second = first if all(map(equal, read(evaluation.maps, options.values), first)) else drawn(2)
    pairs = list(zip(first, second, strict=True))
    return assemble(
        {
            "stability": np.array([spearman(first, second) for first, second in pairs]),
            "stability_top": np.array([overlap(first, second, options.top) for first, second in pairs]),
        },
        [dict.fromkeys(COLUMNS, NO_RANDOMNESS) if equal(first, second) else {} for first, second in pairs],
    )


def equal(first: np.ndarray, second: np.ndarray) -> bool:
    """Whether two maps are the same but for rounding."""
    return bool(np.linalg.norm(first - second) <= EQUAL * np.linalg.norm(second))


def overlap(first: np.ndarray, second: np.ndarray, share: float) -> float:
    """The share of the highest pixels of one map that are among the other's too; NaN where a value is not finite.

    Pixels that tie for the last places count by the share of them that has one, in each map by itself: two maps that
    are zero where they say nothing do not agree there.
    """
    if not (np.isfinite(first).all() and np.isfinite(second).all()):
        return float("nan")
    count = max(1, round(share * first.size))
    return float((top(first, count) * top(second, count)).sum() / count)


METRICS.add(
    MetricSpec(
        name="stability",
        compute=stability,
        options=StabilityOptions,
        columns={"stability": "higher", "stability_top": "higher"},
        definition="test-retest rank correlation of two whole maps under independent random draws "
        "(explains each image twice more, once if it draws nothing)",
        range="[-1, 1]",
        reference="test-retest reliability, Spearman 1904",
        forwards=lambda options: 0,
        family="robustness",
        explanations=lambda options: 2,
        descriptions={
            "stability_top": "share of the highest pixels that two maps of independent random draws share",
        },
        revision=1,
        needs=frozenset({"model", "method"}),
    )
)
