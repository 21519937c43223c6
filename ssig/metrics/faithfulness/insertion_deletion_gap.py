"""Difference of the two curve areas: insertion - deletion, under one protocol.

Unlike DiffID (`diffid`), both games run over the whole image and end in references of their own. Higher is better; a
random order is near the difference that the two references alone make. Curves that `insertion` and `deletion` have
already evaluated with the same options are not evaluated again; a preset is that of both.
"""

from __future__ import annotations

from dataclasses import dataclass

from ssig.metrics.faithfulness.curves import IDG, RISE, XPLIQUE, areas, deletion_curves, excluded, insertion_curves
from ssig.metrics.faithfulness.deletion import DeletionOptions
from ssig.metrics.faithfulness.insertion import InsertionOptions
from ssig.metrics.shared.assemble import assemble
from ssig.registry import METRICS, MetricSpec
from ssig.types import Evaluation, MetricResult


@dataclass(frozen=True)
class GapOptions(InsertionOptions, DeletionOptions):
    """The protocol of both games; `start` is insertion's, `fill` is deletion's."""


def insertion_deletion_gap(evaluation: Evaluation, options: GapOptions) -> MetricResult:
    """Insertion minus deletion, in the order of the map and of its magnitude."""
    inserted = areas(insertion_curves(evaluation, options.start, options), evaluation, options)
    deleted = areas(deletion_curves(evaluation, options.fill, options), evaluation, options)
    columns = {
        "insertion_deletion_gap": inserted.signed - deleted.signed,
        "insertion_deletion_gap_abs": inserted.absolute - deleted.absolute,
    }
    signed, absolute = ("insertion_deletion_gap",), ("insertion_deletion_gap_abs",)
    return assemble(columns, excluded(evaluation, options, signed, absolute))


METRICS.add(
    MetricSpec(
        name="insertion_deletion_gap",
        compute=insertion_deletion_gap,
        options=GapOptions,
        columns={"insertion_deletion_gap": "higher", "insertion_deletion_gap_abs": "higher"},
        definition="insertion minus deletion, areas under the two curves of one protocol",
        range="[-1, 1] (any number for logits or normalised curves)",
        reference="difference of the two games of Petsiuk et al., RISE, BMVC 2018",
        forwards=lambda options: 2 * options.forwards,
        revision=1,
        needs=frozenset({"map", "model"}),
        presets={
            "rise": {**RISE, "start": "rise-blur", "fill": "mean"},
            "idg": {**IDG, "start": "rise-blur", "fill": "mean"},
            "xplique": {**XPLIQUE, "start": "black", "fill": "black"},
        },
    )
)
