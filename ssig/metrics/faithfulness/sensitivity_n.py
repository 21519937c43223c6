"""Sensitivity-n: correlation of the map's sum over n random pixels with what the score loses without them.

    r(n) = pearson over S, |S| = n, of ( sum_{p in S} a_p,  f(x) - f(x with the fill at p in S) )
    sensitivity_n = mean of r(n) over sizes n from 1 to .8 N, equally spaced in log n

Ancona et al., Towards Better Understanding of Gradient-based Attribution Methods, ICLR 2018, which shows the curve;
its mean is this project's number. Without interactions between pixels the attributions `sum_c w_c x_c` score 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ssig.metrics.faithfulness.subsets import SubsetOptions, correlation_result, pixel_subset, remove
from ssig.metrics.shared.correlation import pearson
from ssig.options import option
from ssig.registry import METRICS, MetricSpec
from ssig.types import Evaluation, MetricResult

_LARGEST = 0.8  # share of the pixels


@dataclass(frozen=True)
class SensitivityOptions(SubsetOptions):
    """Sizes of the subsets and how many of each."""

    sizes: int = option(10, "sizes n, from one pixel to .8 of them in equal ratios, rounded", at_least=2)
    subsets: int = option(100, "subsets of each size", at_least=3)


def sensitivity_n(evaluation: Evaluation, options: SensitivityOptions) -> MetricResult:
    """Mean over the sizes, and the curve over them, for the map and for its magnitude."""
    sizes = subset_sizes(evaluation.maps.shape[-2:].numel(), options.sizes)

    # Subset by subset, each time of every size: more subsets leave the first ones as they are.
    def draw(generator: np.random.Generator, number: int, shape: tuple[int, int]) -> np.ndarray:
        return pixel_subset(generator, sizes[number % len(sizes)], shape)

    removals = remove(evaluation, "sensitivity_n", len(sizes) * options.subsets, draw, options)
    return correlation_result("sensitivity_n", removals, pearson, groups=len(sizes))


def subset_sizes(pixels: int, count: int) -> list[int]:
    """`count` sizes from 1 to .8 `pixels`; a small image has some of them twice."""
    sizes: list[int] = np.geomspace(1, max(_LARGEST * pixels, 1), count).round().astype(int).tolist()
    return sizes


METRICS.add(
    MetricSpec(
        name="sensitivity_n",
        compute=sensitivity_n,
        options=SensitivityOptions,
        columns={"sensitivity_n": "higher", "sensitivity_n_abs": "higher"},
        curves=("sensitivity_n_curve", "sensitivity_n_abs_curve"),
        definition="mean over n of the correlation of the map's sum over n random pixels with the score they carry",
        range="[-1, 1]",
        reference="Ancona et al., Towards Better Understanding of Gradient-based Attribution Methods, ICLR 2018",
        forwards=lambda options: options.sizes * options.subsets,
        descriptions={
            "sensitivity_n_abs": "mean over n of the correlation of the sum of |map| over n random pixels with the "
            "score they carry",
            "sensitivity_n_curve": "correlation at each subset size n, smallest first",
            "sensitivity_n_abs_curve": "correlation of the sums of |map| at each subset size n, smallest first",
        },
        needs=frozenset({"map", "model"}),
    )
)
