"""Deletion: the area under the target score while the image disappears, its most important pixels first.

    deletion = area of c,  c_k = score( the fill where rank < n_k, x elsewhere )

RISE (Petsiuk et al., BMVC 2018). Lower is better. Preset `rise` is its evaluation: to normalised zeros, which is the
mean colour, in blocks of 1792 pixels; `idg` that of IDG (to the same, blocks of 224 pixels, |map|, only images whose
target is predicted); `xplique` Xplique's defaults (ten steps to zeros, which are black in pixel space, on logits).
"""

from __future__ import annotations

from dataclasses import dataclass

from ssig.metrics.faithfulness.curves import IDG, RISE, XPLIQUE, CurveOptions, curve_result, deletion_curves
from ssig.metrics.shared.perturbation import REFERENCES
from ssig.options import option
from ssig.registry import METRICS, MetricSpec
from ssig.types import Evaluation, MetricResult


@dataclass(frozen=True)
class DeletionOptions(CurveOptions):
    """The protocol of deletion."""

    fill: str = option("mean", "the image that deletion ends in", choices=REFERENCES)


def deletion(evaluation: Evaluation, options: DeletionOptions) -> MetricResult:
    """Deletion in the order of the map and of its magnitude."""
    return curve_result("deletion", deletion_curves(evaluation, options.fill, options), evaluation, options)


METRICS.add(
    MetricSpec(
        name="deletion",
        compute=deletion,
        options=DeletionOptions,
        columns={"deletion": "lower", "deletion_abs": "lower"},
        curves=("deletion_curve", "deletion_abs_curve"),
        definition="area under the target score while the mean colour replaces pixels, most important first",
        range="[0, 1] (any number for logits or normalised curves)",
        reference="Petsiuk et al., RISE, BMVC 2018",
        forwards=lambda options: options.forwards,
        descriptions={
            "deletion_curve": "target score after each step, from the whole image to the fill",
        },
        revision=1,
        needs=frozenset({"map", "model"}),
        presets={
            "rise": {**RISE, "fill": "mean"},
            "idg": {**IDG, "fill": "mean"},
            "xplique": {**XPLIQUE, "fill": "black"},
        },
    )
)
