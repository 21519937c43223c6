"""Pixel flipping: the area under the target score while pixels take the image's lowest value, top ones first.

    pixel_flipping = area of c,  c_k = score( min x where rank < n_k, x elsewhere ),  trapezoid over n_k / N

Bach et al., PLoS ONE 2015, with Quantus's `black`: one value per image, the lowest of all its pixels and channels, in
pixel space. It is RISE's deletion but for that value; at 224 x 224 its 28 steps are RISE's blocks of 1792 pixels.
Quantus's curve is c_1 .. c_n for `pixels_per_step` = features_in_step, and its area a sum with unit steps; with a map
of three channels it flips single elements, with one of a single channel whole pixels, as here. Lower is better.
"""

from __future__ import annotations

from dataclasses import dataclass

from ssig.metrics.faithfulness.curves import curve_result, deletion_curves
from ssig.metrics.faithfulness.deletion import DeletionOptions
from ssig.metrics.shared.perturbation import SCORES
from ssig.metrics.shared.ranking import OrderOptions
from ssig.options import option
from ssig.registry import METRICS, MetricSpec
from ssig.types import Evaluation, MetricResult


@dataclass(frozen=True)
class PixelFlippingOptions(OrderOptions):
    """The steps and the score of pixel flipping."""

    steps: int = option(28, "steps of the curve; step k has flipped floor(k N / steps) of N pixels", at_least=1)
    pixels_per_step: int | None = option(None, "pixels that flip in a step, instead of `steps`", at_least=1)
    score: str = option("probability", "what the curve shows: softmax probability or logit", choices=SCORES)

    @property
    def protocol(self) -> DeletionOptions:
        """The deletion that this is."""
        return DeletionOptions(
            orders=self.orders,
            ties=self.ties,
            steps=self.steps,
            pixels_per_step=self.pixels_per_step,
            score=self.score,
            fill="minimum",
        )


def pixel_flipping(evaluation: Evaluation, options: PixelFlippingOptions) -> MetricResult:
    """Pixel flipping in the order of the map and of its magnitude."""
    protocol = options.protocol
    curves = deletion_curves(evaluation, protocol.fill, protocol)
    return curve_result("pixel_flipping", curves, evaluation, protocol)


METRICS.add(
    MetricSpec(
        name="pixel_flipping",
        compute=pixel_flipping,
        options=PixelFlippingOptions,
        columns={"pixel_flipping": "lower", "pixel_flipping_abs": "lower"},
        curves=("pixel_flipping_curve", "pixel_flipping_abs_curve"),
        definition="area under the target score while the image's lowest value replaces pixels, most important first",
        range="[0, 1] (any number for logits)",
        reference="Bach et al., Layer-wise Relevance Propagation, PLoS ONE 2015; fill as in Quantus",
        forwards=lambda options: options.protocol.forwards,
        descriptions={
            "pixel_flipping_curve": "target score after each step, from the whole image to its lowest value",
        },
        revision=1,
        needs=frozenset({"map", "model"}),
    )
)
