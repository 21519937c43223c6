"""DiffID, pixel variant on hard accuracy: whether the target is still predicted.

    Ins(r) = 1[ argmax f( k lowest pixels hidden ) = y ],  k = floor(r N),  r = .1, .2, .. , .9
    Del(r) = 1[ argmax f( k highest pixels hidden ) = y ]
    diffid_accuracy = mean_r [ Ins(r) - Del(r) ]

The accuracy that Yang et al., Local Path Integration for Attribution, AAAI 2023, report at each r in the order of
|map|, but for the one pixel that they may hide in part (`diffid_element`). `diffid` says what stands in for hidden
pixels, and evaluates the same images. No image is left out: one that is misclassified throughout adds 0 to both games.
A random map scores about 0. Higher is better.
"""

from __future__ import annotations

from ssig.metrics.faithfulness.diffid import (
    diffid_columns,
    diffid_curves,
    diffid_descriptions,
    diffid_result,
    forwards,
    games,
)
from ssig.metrics.shared.ranking import OrderOptions
from ssig.registry import METRICS, MetricSpec
from ssig.types import Evaluation, MetricResult


def diffid_accuracy(evaluation: Evaluation, options: OrderOptions) -> MetricResult:
    """DiffID's decisions by pixels, in the order of the map and of its magnitude."""
    return diffid_result("diffid_accuracy", games(evaluation, options, "accuracy"), evaluation, options)


METRICS.add(
    MetricSpec(
        name="diffid_accuracy",
        compute=diffid_accuracy,
        options=OrderOptions,
        columns=diffid_columns("diffid_accuracy"),
        curves=diffid_curves("diffid_accuracy"),
        descriptions=diffid_descriptions("diffid_accuracy", "accuracy"),
        definition="mean over r of 1[target predicted with the r lowest pixels hidden] - 1[with the r highest]",
        range="[-1, 1]",
        reference="Yang et al., Local Path Integration for Attribution, AAAI 2023",
        forwards=forwards,
        revision=1,
        needs=frozenset({"map", "model"}),
    )
)
