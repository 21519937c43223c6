"""Model parameter randomisation test: how much of a map is left when the network forgets what it learned.

    mprt = mean over stages k of Spearman(|A|, |A_k|),   A_k the map under the network with the layers of stage k
                                                         initialised anew, from the logits (k = 1) to the input

Adebayo et al., Sanity Checks for Saliency Maps, NeurIPS 2018. Lower is better: a map that stays does not depend on
what the network has learned. Layers go in `blocks` of equal numbers of layers: all up to the stage's (cascading), or
the stage's alone (independent). The stage of no randomised layer, whose similarity is 1, does not count. Target and
random draws stay (Adebayo explains the randomised network's own top class). A constant map of a randomised network
correlates 0. `mprt_ssim` compares by structural similarity, after scaling each map onto [0, 1].
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

import numpy as np

from ssig.metrics.randomisation.randomised_networks import randomised, randomised_maps
from ssig.metrics.shared.assemble import assemble
from ssig.metrics.shared.similarity import SimilarityOptions, compare, excluded
from ssig.options import option
from ssig.registry import METRICS, MetricSpec
from ssig.types import Evaluation, MetricResult

COLUMNS = ("mprt", "mprt_ssim")
MODES = ("cascading", "independent")


@dataclass(frozen=True)
class MprtOptions(SimilarityOptions):
    """Which layers are randomised together."""

    mode: str = option("cascading", "layers of the stages so far, or of one stage alone", choices=MODES)
    blocks: int = option(8, "stages, one explanation each; at most as many as there are layers", at_least=1)


def mprt(evaluation: Evaluation, options: MprtOptions) -> MetricResult:
    """Similarity to the maps of randomised networks: its curve over the stages, and their mean."""
    networks = randomised(evaluation)
    if isinstance(networks, str):
        curves = np.full((2, len(evaluation), options.blocks), np.nan)
        reasons = [dict.fromkeys(COLUMNS, networks)] * len(evaluation)
    else:
        reasons = excluded(evaluation, *COLUMNS)
        curves = np.stack(
            [
                compare(evaluation, randomised_maps(evaluation, networks, names), options)
                for names in stages(networks.layers, options)
            ],
            axis=2,
        )
    return assemble(
        dict(zip(COLUMNS, curves.mean(axis=2), strict=True)),
        reasons,
        curves={f"{column}_curve": curve for column, curve in zip(COLUMNS, curves, strict=True)},
    )


def stages(layers: tuple[str, ...], options: MprtOptions) -> list[tuple[str, ...]]:
    """The layers that each stage randomises."""
    count = min(options.blocks, len(layers))
    ends = [ceil(len(layers) * k / count) for k in range(count + 1)]
    starts = [0] * count if options.mode == "cascading" else ends[:-1]
    return [layers[start:end] for start, end in zip(starts, ends[1:], strict=True)]


METRICS.add(
    MetricSpec(
        name="mprt",
        compute=mprt,
        options=MprtOptions,
        columns={"mprt": "lower", "mprt_ssim": "lower"},
        curves=("mprt_curve", "mprt_ssim_curve"),
        definition="rank correlation of |map| with those of networks whose layers are randomised, from the logits "
        "down (explains each image `blocks` times more)",
        range="[-1, 1]",
        reference="Adebayo et al., Sanity Checks for Saliency Maps, NeurIPS 2018",
        forwards=lambda options: 0,
        family="randomisation",
        explanations=lambda options: options.blocks,
        descriptions={
            "mprt_ssim": "structural similarity of |map| with those of networks whose layers are randomised",
            "mprt_curve": "rank correlation at each stage of randomisation, from the logits alone on",
            "mprt_ssim_curve": "structural similarity at each stage of randomisation, from the logits alone on",
        },
        needs=frozenset({"map", "model", "method"}),
    )
)
