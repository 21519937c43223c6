"""Insertion Score: the area under the target probability while the image appears on black, in steps of 5 %.

    insertion_score            = area of p,              p_k = p( x where rank < floor(k N / 20), black elsewhere )
    insertion_score_normalised = area of p / p(x),       k = 0 .. 20, trapezoid with steps of .05

IDGI (Yang, Wang, Bilgic, CVPR 2023), whose authors published no evaluation; this is that of ShreeSinghi/TMLR-IDGI: in
the order of the signed map, on images that are classified correctly, here those whose target is the predicted class.
p_k may exceed p(x), and the second number is not clipped. Higher is better. `insertion` with preset `insertion-score`
is the same curve in both orders and on all images, and orders equal pixels by place, as `ties: raster` does here.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ssig.metrics.faithfulness.curves import FILTERS, area, excluded, insertion_curves
from ssig.metrics.faithfulness.insertion import InsertionOptions
from ssig.metrics.shared.assemble import assemble
from ssig.metrics.shared.ranking import TIES
from ssig.options import option
from ssig.registry import METRICS, MetricSpec
from ssig.types import Evaluation, MetricResult


@dataclass(frozen=True)
class InsertionScoreOptions:
    """The Insertion Score's protocol is fixed but for the images that it is taken of and the order of ties."""

    filter: str = option("correct", "images that count: all, or those whose target is predicted", choices=FILTERS)
    ties: str = option(
        "random", "pixels of equal value: in a random order, one for all maps of an image, or by place", choices=TIES
    )

    @property
    def protocol(self) -> InsertionOptions:
        """The curve that both numbers are areas of."""
        return InsertionOptions(
            orders="signed", steps=20, area="steps", start="black", filter=self.filter, ties=self.ties
        )


def insertion_score(evaluation: Evaluation, options: InsertionScoreOptions) -> MetricResult:
    """The Insertion Score with probability and with normalised probability."""
    protocol, pixels = options.protocol, evaluation.maps.shape[-2:].numel()
    curve = insertion_curves(evaluation, protocol.start, protocol).signed
    with np.errstate(divide="ignore", invalid="ignore"):
        normalised = curve / curve[:, -1:]
    columns = {
        "insertion_score": area(curve, pixels, protocol),
        "insertion_score_normalised": area(normalised, pixels, protocol),
    }
    return assemble(
        columns=columns,
        excluded=excluded(evaluation, protocol, signed=tuple(columns)),
        curves={"insertion_score_curve": curve, "insertion_score_normalised_curve": normalised},
    )


METRICS.add(
    MetricSpec(
        name="insertion_score",
        compute=insertion_score,
        options=InsertionScoreOptions,
        columns={"insertion_score": "higher", "insertion_score_normalised": "higher"},
        curves=("insertion_score_curve", "insertion_score_normalised_curve"),
        definition="area under the target probability while pixels of the image replace black, most important first",
        range="[0, 1] (normalised: [0, inf))",
        reference="Yang et al., IDGI, CVPR 2023",
        forwards=lambda options: options.protocol.forwards,
        descriptions={
            "insertion_score_normalised": "area under the target probability divided by that of the whole image, "
            "while pixels of the image replace black",
            "insertion_score_curve": "target probability with 0, 5, ..., 100 % of the pixels shown",
            "insertion_score_normalised_curve": "target probability over that of the whole image, 0 to 100 % shown",
        },
        revision=1,
        needs=frozenset({"map", "model"}),
    )
)
