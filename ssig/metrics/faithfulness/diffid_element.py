"""DiffID, element variant: the D = C H W elements of the image are hidden one by one, not pixel by pixel.

    Ins(r) = s( k lowest elements hidden ),  Del(r) = s( k highest elements hidden ),  k = floor(r D),  r = .1, .. , .9
    diffid_element = mean_r [ Ins(r) - Del(r) ],  s(z) = 1[ argmax f(z) = y ]

`score: probability` is s(z) = clip( p(z) / p(x), 0, 1 ); `score: logit` is s(z) = z_y / x_y of the logits, not clipped
and unstable for x_y near 0. Hidden elements take the mean of the surviving ones, in normalised space.

Stored maps are 2-D, so this ranks the elements of the map repeated over channels. That is the evaluation of Yang et
al., Local Path Integration for Attribution, AAAI 2023, for the order of |map|: accuracy, and logit ratio (preset
`lpi`). The channels of a pixel tie; ties go by pixel, in the order of `ties`, and then by channel, so that at most one
pixel is hidden in part and the number is close to `diffid_accuracy`. The evaluation of SIG (leekwoon/sig, KDD 2026)
ranks |A| over all D elements: `diffid_channels`. Preset `sig` has its order and its ties alone. A random map scores
about 0. Higher is better.
"""

from __future__ import annotations

from dataclasses import dataclass

from ssig.metrics.faithfulness.diffid import (
    diffid_columns,
    diffid_curves,
    diffid_descriptions,
    diffid_result,
    forwards,
    games,
)
from ssig.metrics.shared.ranking import OrderOptions
from ssig.options import option
from ssig.registry import METRICS, MetricSpec
from ssig.types import Evaluation, MetricResult


@dataclass(frozen=True)
class DiffidElementOptions(OrderOptions):
    """The element variant's protocol is fixed but for the order and the score."""

    score: str = option(
        "accuracy",
        "what survives: the decision, as 0 or 1, or a ratio to the image's softmax probability, clipped, or logit",
        choices=("accuracy", "probability", "logit"),
    )


def diffid_element(evaluation: Evaluation, options: DiffidElementOptions) -> MetricResult:
    """DiffID by elements, in the order of the map and of its magnitude."""
    survived = games(evaluation, options, options.score, elements=True)
    return diffid_result("diffid_element", survived, evaluation, options)


METRICS.add(
    MetricSpec(
        name="diffid_element",
        compute=diffid_element,
        options=DiffidElementOptions,
        columns=diffid_columns("diffid_element"),
        curves=diffid_curves("diffid_element"),
        descriptions=diffid_descriptions("diffid_element", "score kept"),
        definition="`diffid_accuracy` with channel values hidden one by one, the map repeated over channels",
        range="[-1, 1] (any number for logits)",
        reference="Yang et al., Local Path Integration for Attribution, AAAI 2023; SIG, KDD 2026",
        forwards=forwards,
        revision=1,
        needs=frozenset({"map", "model"}),
        presets={
            "lpi": {"score": "logit", "orders": "absolute", "ties": "raster"},
            "sig": {"orders": "absolute", "ties": "raster"},
        },
    )
)
