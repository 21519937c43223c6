"""MuFidelity: rank correlation of the map's sum over random cells of a grid with what the score loses without them.

    mufidelity = spearman over S of ( sum_{p in S} a_p,  f(x) - f(x with the fill at p in S) )
    S: each cell of a 9 x 9 grid with probability .2

Bhatt et al., IJCAI 2020, on cells as in Xplique (Fel et al., 2022): cells are laid over the image by nearest
neighbour, and the fill is 0 in the network's normalised space. Xplique scores an undefined correlation as 0; here
such an image is excluded. The number of cells varies, so a non-negative map's sum follows how much is hidden: a random
one is far from 0, and maps of both signs score about 0 when random. So methods are not ranked by it but by
`mufidelity_abs`, where all maps are without negative values; compare that with the random control.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ssig.metrics.faithfulness.subsets import SubsetOptions, correlation_result, remove
from ssig.metrics.shared.correlation import spearman
from ssig.options import option
from ssig.registry import METRICS, MetricSpec
from ssig.types import Evaluation, MetricResult


@dataclass(frozen=True)
class MuFidelityOptions(SubsetOptions):
    """The grid, the share of its cells that are hidden, and how many times."""

    grid: int = option(9, "cells in each direction", at_least=1)
    hidden_share: float = option(0.2, "probability that a cell is hidden", above=0, at_most=1)
    subsets: int = option(200, "random sets of cells", at_least=3)


def mufidelity(evaluation: Evaluation, options: MuFidelityOptions) -> MetricResult:
    """The rank correlation for the map and for its magnitude."""

    def draw(generator: np.random.Generator, number: int, shape: tuple[int, int]) -> np.ndarray:
        hidden = generator.random((options.grid, options.grid)) < options.hidden_share
        rows, columns = (nearest_cells(size, options.grid) for size in shape)
        return np.asarray(hidden[rows][:, columns])

    removals = remove(evaluation, "mufidelity", options.subsets, draw, options)
    return correlation_result("mufidelity", removals, spearman)


def nearest_cells(size: int, grid: int) -> np.ndarray:
    """(size,) int, the cell of each pixel: the one at the pixel's centre, floor((i + 1/2) grid / size)."""
    return (2 * np.arange(size) + 1) * grid // (2 * size)


METRICS.add(
    MetricSpec(
        name="mufidelity",
        compute=mufidelity,
        options=MuFidelityOptions,
        columns={"mufidelity": "higher", "mufidelity_abs": "higher"},
        definition="rank correlation of the map's sum over random cells of a grid with the score they carry",
        range="[-1, 1]",
        reference="Bhatt et al., IJCAI 2020; cells as in Xplique, Fel et al. 2022",
        forwards=lambda options: options.subsets,
        incomparable={
            "mufidelity": "the sum of a map without negative values follows the number of hidden cells, so that even "
            "a random one scores; that of a signed map does not; compare mufidelity_abs",
        },
        descriptions={
            "mufidelity_abs": "rank correlation of the sum of |map| over random cells of a grid with the "
            "score they carry",
        },
        needs=frozenset({"map", "model"}),
    )
)
