"""Random sets of pixels: their sums in a map, and the loss of score when they are hidden.

    s_j = sum_{p in S_j} a_p,   d_j = f(x) - f(x with the fill at p in S_j),   j = 1 .. m

A metric is the correlation of s and d over the sets. The sets are drawn from the image's own random numbers, so that
all maps of an image get the same sets. The sums of |a| cost nothing more and give the columns `_abs`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ssig.metrics.shared.assemble import assemble
from ssig.metrics.shared.correlation import varies
from ssig.metrics.shared.perturbation import SCORES, image_scores, reference, sweep
from ssig.options import option
from ssig.types import Evaluation, MetricResult

FILLS = ("mean", "black", "white", "minimum")
MAP_CONSTANT = "map gives all subsets the same sum"
SCORE_CONSTANT = "hiding changes the score by the same for all subsets"

# (generator at its start, number of the set, (H, W)) -> (H, W) bool, the set.
Draw = Callable[[np.random.Generator, int, tuple[int, int]], np.ndarray]

# Two arrays of series (..., m) -> (...), NaN where it is not defined.
Correlation = Callable[[np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class SubsetOptions:
    """The colour of hidden pixels, and the score."""

    fill: str = option(
        "mean",
        "colour of hidden pixels; minimum: the image's lowest value, in all channels",
        choices=FILLS,
    )
    score: str = option("logit", "score whose loss is measured", choices=SCORES)


class Removals(NamedTuple):
    """Of each set of each image, (B, m) float64: the loss of score, and the sums of the map and of its magnitude."""

    drops: np.ndarray
    sums: np.ndarray
    magnitudes: np.ndarray


def remove(evaluation: Evaluation, name: str, count: int, draw: Draw, options: SubsetOptions) -> Removals:
    """Hides `count` sets of pixels in each image, one set at a time.

    Args:
        evaluation: the batch.
        name: of the metric; set j of an image is drawn by its generator j for that name.
        count: sets of an image.
        draw: the law of the sets.
        options: fill and score.
    """
    images, maps = evaluation.images, evaluation.maps.cpu().double().numpy()
    shape = (int(images.shape[-2]), int(images.shape[-1]))
    streams, fills = evaluation.streams(name), reference(evaluation, options.fill, 1.0, 1)
    sums, magnitudes = np.empty((len(evaluation), count)), np.empty((len(evaluation), count))

    def build(image: int, steps: range) -> Tensor:
        hidden = [draw(streams[image].generator(step), step, shape) for step in steps]
        mask = torch.from_numpy(np.stack(hidden)).to(images.device, non_blocking=True)
        return torch.where(mask[:, None], fills[image], images[image])

    # Other maps of these images get the same sets.
    changed = evaluation.of_images(
        (name, options), lambda: sweep(evaluation, torch.arange(len(evaluation)), count, build, options.score)
    )
    for image, values in enumerate(maps):
        for step in range(count):
            inside = values[draw(streams[image].generator(step), step, shape)]
            sums[image, step], magnitudes[image, step] = inside.sum(), np.abs(inside).sum()
    return Removals(image_scores(evaluation, options.score)[:, None] - changed, sums, magnitudes)


def correlation_result(name: str, removals: Removals, correlation: Correlation, groups: int = 1) -> MetricResult:
    """The columns `name` and `name`_abs: the correlation within each group of sets, averaged over the groups.

    Args:
        name: of the headline.
        removals: of sets j; set j is in group j modulo `groups`.
        correlation: of the sums with the drops.
        groups: more than one also gives the curves, a point a group. An image that has no correlation in one of them
            has no number.
    """
    drops, *sums = (np.stack([values[:, group::groups] for group in range(groups)], axis=1) for values in removals)
    names = (name, f"{name}_abs")
    curves = {column: correlation(values, drops) for column, values in zip(names, sums, strict=True)}
    excluded: list[dict[str, str]] = [{} for _ in range(len(drops))]
    for column, values in zip(names, sums, strict=True):
        for row, reason in enumerate(_reasons(values, drops)):
            if reason is not None:
                excluded[row][column] = reason
    return assemble(
        columns={column: curve.mean(axis=1) for column, curve in curves.items()},
        excluded=excluded,
        curves={f"{column}_curve": curve for column, curve in curves.items()} if groups > 1 else None,
    )


def pixel_subset(generator: np.random.Generator, size: int, shape: tuple[int, int]) -> np.ndarray:
    """(H, W) bool, `size` pixels, any so many with equal probability; all if there are fewer."""
    pixels = shape[0] * shape[1]
    chosen = np.zeros(pixels, dtype=bool)
    chosen[generator.choice(pixels, min(size, pixels), replace=False, shuffle=False)] = True
    return chosen.reshape(shape)


def _reasons(sums: np.ndarray, drops: np.ndarray) -> Sequence[str | None]:
    """For each image, why the series (B, groups, m) have no correlation; None also for scores that are not finite."""

    def reason(row: int) -> str | None:
        if not np.isfinite(drops[row]).all():
            return None
        if not varies(sums[row]).all():
            return MAP_CONSTANT
        return None if varies(drops[row]).all() else SCORE_CONSTANT

    return [reason(row) for row in range(len(drops))]
