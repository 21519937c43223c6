"""Insertion: the area under the target score while the image appears, its most important pixels first.

    insertion = area of c,  c_k = score( x where rank < n_k, the start image elsewhere )

RISE (Petsiuk et al., BMVC 2018). Higher is better. Preset `rise` is its evaluation (RISE's own blur, blocks of 1792
pixels); `idg` that of IDG (RISE's blur, blocks of 224 pixels, |map|, only images whose target is predicted);
`xplique` Xplique's defaults (ten steps from zeros, which are black in pixel space, on logits). Preset
`insertion-score` is the curve of the metric `insertion_score`, for both orders and all images, equal pixels by place.
"""

from __future__ import annotations

from dataclasses import dataclass

from ssig.metrics.faithfulness.curves import IDG, RISE, XPLIQUE, CurveOptions, curve_result, insertion_curves
from ssig.metrics.shared.perturbation import REFERENCES
from ssig.options import option
from ssig.registry import METRICS, MetricSpec
from ssig.types import Evaluation, MetricResult


@dataclass(frozen=True)
class InsertionOptions(CurveOptions):
    """The protocol of insertion."""

    start: str = option("blur", "the image that insertion starts from", choices=REFERENCES)


def insertion(evaluation: Evaluation, options: InsertionOptions) -> MetricResult:
    """Insertion in the order of the map and of its magnitude."""
    return curve_result("insertion", insertion_curves(evaluation, options.start, options), evaluation, options)


METRICS.add(
    MetricSpec(
        name="insertion",
        compute=insertion,
        options=InsertionOptions,
        columns={"insertion": "higher", "insertion_abs": "higher"},
        curves=("insertion_curve", "insertion_abs_curve"),
        definition="area under the target score while pixels of the image replace a blurred one, most important first",
        range="[0, 1] (any number for logits or normalised curves)",
        reference="Petsiuk et al., RISE, BMVC 2018",
        forwards=lambda options: options.forwards,
        descriptions={
            "insertion_curve": "target score after each step, from the start image to the whole image",
        },
        revision=1,
        needs=frozenset({"map", "model"}),
        presets={
            "rise": {**RISE, "start": "rise-blur"},
            "idg": {**IDG, "start": "rise-blur"},
            "xplique": {**XPLIQUE, "start": "black"},
            "insertion-score": {"start": "black", "steps": 20, "area": "steps", "ties": "raster"},
        },
    )
)
