"""Faithfulness correlation: correlation of the map's sum over random pixels with what the score loses without them.

    faithfulness_correlation = pearson over S of ( sum_{p in S} a_p,  f(x) - f(x with the fill at p in S) )
    S: 5 % of the pixels, any so many with equal probability

Bhatt et al., Evaluating and Aggregating Feature-based Model Explanations, IJCAI 2020. Preset `quantus` is Quantus'
default for a 2-D map: subsets of 224 pixels, filled with the least value of the image. They are .4 % of 224 x 224
pixels, so the score hardly moves and the correlations are weak.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ssig.metrics.faithfulness.subsets import SubsetOptions, correlation_result, pixel_subset, remove
from ssig.metrics.shared.correlation import pearson
from ssig.options import option
from ssig.registry import METRICS, MetricSpec
from ssig.types import Evaluation, MetricResult


@dataclass(frozen=True)
class FaithfulnessOptions(SubsetOptions):
    """Size of the subsets and how many."""

    subset_share: float = option(0.05, "pixels of a subset, as a share of all", above=0, at_most=1)
    subset_pixels: int | None = option(None, "pixels of a subset, instead of `subset_share`", at_least=1)
    subsets: int = option(100, "random subsets", at_least=3)

    def size(self, pixels: int) -> int:
        """Pixels of a subset, of so many."""
        return max(1, int(self.subset_share * pixels)) if self.subset_pixels is None else self.subset_pixels


def faithfulness_correlation(evaluation: Evaluation, options: FaithfulnessOptions) -> MetricResult:
    """The correlation for the map and for its magnitude."""

    def draw(generator: np.random.Generator, number: int, shape: tuple[int, int]) -> np.ndarray:
        return pixel_subset(generator, options.size(shape[0] * shape[1]), shape)

    removals = remove(evaluation, "faithfulness_correlation", options.subsets, draw, options)
    return correlation_result("faithfulness_correlation", removals, pearson)


METRICS.add(
    MetricSpec(
        name="faithfulness_correlation",
        compute=faithfulness_correlation,
        options=FaithfulnessOptions,
        columns={"faithfulness_correlation": "higher", "faithfulness_correlation_abs": "higher"},
        definition="correlation of the map's sum over 5 % of the pixels, at random, with the score they carry",
        range="[-1, 1]",
        reference="Bhatt et al., Evaluating and Aggregating Feature-based Model Explanations, IJCAI 2020",
        forwards=lambda options: options.subsets,
        descriptions={
            "faithfulness_correlation_abs": "correlation of the sum of |map| over 5 % of the pixels, at random, "
            "with the score they carry",
        },
        needs=frozenset({"map", "model"}),
        presets={"quantus": {"subset_pixels": 224, "fill": "minimum"}},
    )
)
