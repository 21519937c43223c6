"""DiffID over channel values: the D = C H W elements of the image are hidden in the order of the method's own values.

    Ins(r) = 1[ argmax f( k elements of the lowest A hidden ) = y ],  k = floor(r D),  r = .1, .2, .. , .9
    Del(r) = 1[ argmax f( k elements of the highest A hidden ) = y ]
    diffid_channels = mean_r [ Ins(r) - Del(r) ],   A (C, H, W) the attribution before its readout over channels

The evaluation of SIG (leekwoon/sig, KDD 2026; preset `sig`: the order of |A|). `diffid_element` hides elements too, in
the order of the 2-D map, so that the channels of a pixel fall together; here a method that puts one channel of a pixel
high and another low is taken at its word. `diffid` says what stands in for hidden elements. A random map scores about
0. Higher is better.

The values are there in `ssig.measure` of an `Attribution`, and in a run with `output.channels: true`.
"""

from __future__ import annotations

import numpy as np

from ssig.metrics.faithfulness.diffid import (
    RATIOS,
    diffid_columns,
    diffid_curves,
    diffid_descriptions,
    diffid_result,
    forwards,
    games,
)
from ssig.metrics.shared.assemble import assemble
from ssig.metrics.shared.ranking import OrderOptions
from ssig.registry import METRICS, MetricSpec
from ssig.types import Evaluation, MetricResult

NAME = "diffid_channels"
NO_VALUES = "no values of each channel"


def diffid_channels(evaluation: Evaluation, options: OrderOptions) -> MetricResult:
    """DiffID by channel values, in their order and in that of their magnitudes."""
    if evaluation.values is None:
        columns, size = diffid_columns(NAME), len(evaluation)
        return assemble(
            dict.fromkeys(columns, np.full(size, np.nan)),
            [dict.fromkeys(columns, NO_VALUES)] * size,
            dict.fromkeys(diffid_curves(NAME), np.full((size, RATIOS), np.nan)),
        )
    stacked = evaluation.changed(maps=evaluation.values.flatten(1, 2))  # so that all elements have one order
    return diffid_result(NAME, games(stacked, options, "accuracy"), evaluation, options)


METRICS.add(
    MetricSpec(
        name=NAME,
        compute=diffid_channels,
        options=OrderOptions,
        columns=diffid_columns(NAME),
        curves=diffid_curves(NAME),
        descriptions=diffid_descriptions(NAME, "accuracy"),
        definition="`diffid_accuracy` with channel values hidden one by one, in the order of the method's own values",
        range="[-1, 1]",
        reference="SIG, KDD 2026; Yang et al., Local Path Integration for Attribution, AAAI 2023",
        forwards=forwards,
        revision=1,
        needs=frozenset({"values", "model"}),
        presets={"sig": {"orders": "absolute", "ties": "raster"}},
    )
)
