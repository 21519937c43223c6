"""Random logit test: how alike the maps of the target and of another class are.

    random_logit = Spearman(A_y, A_y'),   y' uniform over the classes other than y

Sixt et al., When Explanations Lie, ICML 2020. Lower is better: a map that stays does not explain the class. y' comes
from the image's own stream, and both maps have the same random draws. A constant map of y' correlates 0.
`random_logit_ssim` compares by structural similarity in two dimensions, after scaling each map onto [0, 1].
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ssig.metrics.shared.assemble import assemble
from ssig.metrics.shared.similarity import NO_METHOD, VALUES, SimilarityOptions, compare, excluded
from ssig.options import option
from ssig.registry import METRICS, MetricSpec
from ssig.types import Evaluation, MetricResult

COLUMNS = ("random_logit", "random_logit_ssim")
ONE_CLASS = "the network has no other class"


@dataclass(frozen=True)
class RandomLogitOptions(SimilarityOptions):
    """How the two maps are compared."""

    values: str = option("signed", "what is compared: |map|, or the signed map", choices=VALUES)


def random_logit(evaluation: Evaluation, options: RandomLogitOptions) -> MetricResult:
    """Similarity to the map of a random other class."""
    explainer = evaluation.explainer
    if explainer is None:
        return _none(evaluation, NO_METHOD)
    classes = int(evaluation.image_logits().shape[1])
    if classes < 2:
        return _none(evaluation, ONE_CLASS)
    others = other_classes(evaluation, classes)
    maps = explainer.maps(evaluation.images, others, torch.arange(len(evaluation)))
    return assemble(
        dict(zip(COLUMNS, compare(evaluation, maps, options), strict=True)), excluded(evaluation, *COLUMNS)
    )


def other_classes(evaluation: Evaluation, classes: int) -> Tensor:
    """(B,) int64, for each image a class other than its target."""
    draws = [int(stream.generator(0).integers(classes - 1)) for stream in evaluation.streams("random_logit")]
    others = torch.tensor(draws, dtype=torch.int64)
    return others + (others >= evaluation.targets.cpu()).long()


def _none(evaluation: Evaluation, reason: str) -> MetricResult:
    nothing = np.full(len(evaluation), np.nan)
    return assemble(dict.fromkeys(COLUMNS, nothing), [dict.fromkeys(COLUMNS, reason)] * len(evaluation))


METRICS.add(
    MetricSpec(
        name="random_logit",
        compute=random_logit,
        options=RandomLogitOptions,
        columns={"random_logit": "lower", "random_logit_ssim": "lower"},
        definition="rank correlation of the map with that of a random other class (explains each image once more)",
        range="[-1, 1]",
        reference="Sixt et al., When Explanations Lie, ICML 2020",
        forwards=lambda options: 0,
        family="randomisation",
        explanations=lambda options: 1,
        descriptions={
            "random_logit_ssim": "structural similarity of the map with that of a random other class",
        },
        needs=frozenset({"map", "model", "method"}),
    )
)
