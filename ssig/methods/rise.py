"""RISE: the mean of random masks, weighed by the scores of the images that they let through.

    z = E_m[ f_y(x' + m (x - x')) m ] / p

A mask is a grid of `cells` x `cells` Bernoulli(p) numbers, enlarged bilinearly to one cell more than the image in each
direction, from which the image's size is cut at a random place: up to one cell down, and one across. Source: Petsiuk,
Das, Saenko, *RISE: Randomized Input Sampling for Explanation of Black-box Models* (2018). As in the authors' code, a
cell's side is that of the image over `cells`, rounded up. `preset: paper` are the paper's 8,000 masks for ResNet-50
(4,000 for VGG-16) and the probability; the default are 80, which take about the time of 32 gradients. The method takes
no gradients, but one forward evaluation for each mask. Beyond the centres of its outermost cells a grid goes on with
their values, while the authors' code mirrors it there: masks differ within half a cell of the enlarged grid's edge. A
constant score does not cancel in few masks: it adds a multiple of their mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from ssig.estimators.common_options import CommonOptions
from ssig.estimators.draws import uniforms
from ssig.estimators.integrands import READOUTS, readout
from ssig.estimators.integration import attribution, endpoints, error_of_parts, scores_of
from ssig.estimators.moments import WeightedSum
from ssig.options import option
from ssig.registry import METHODS, MethodSpec
from ssig.types import SCORE, Group, Request, Steps


@dataclass(frozen=True)
class RiseOptions(CommonOptions):
    readout: str = option("sum", "channels to map", choices=READOUTS)
    samples: int = option(80, "masks per image, a forward evaluation each; 8,000 in the paper", at_least=1)
    cells: int = option(7, "cells of a mask in each direction, before it is enlarged", at_least=1)
    probability: float = option(0.5, "probability p that a cell lets the image through", above=0, at_most=1)


def rise(group: Group, options: RiseOptions) -> Steps:
    scores = yield from endpoints(group)
    total, error = WeightedSum(), error_of_parts(options.readout)
    for first in range(0, options.samples, group.budget):
        drawn = range(first, min(first + group.budget, options.samples))
        masks = masks_of(group, drawn, options)
        points = (masks * group.difference).add_(group.baselines).flatten(0, 1)
        response = yield Request(points, group.owners(len(drawn)), want=SCORE)
        weights = scores_of(response).view(len(drawn), -1, 1, 1, 1) / (options.probability * group.images.shape[1])
        for k, weight, mask in zip(drawn, weights, masks, strict=True):
            values = (weight * mask).expand_as(group.images)
            total.add(1 / options.samples, values)
            error.add(k, values, readout(options.readout, values))
    return attribution(total.result(), options.readout, scores, has_residual=False, error=error, evaluations=0)


def masks_of(group: Group, drawn: Sequence[int], options: RiseOptions) -> Tensor:
    """Masks `drawn` of each image, (S, B, 1, H, W) in [0, 1]."""
    images, cells = group.images, options.cells
    height, width = images.shape[-2:]
    sides = (-(-height // cells), -(-width // cells))
    # One draw for all: the cells, then the place.
    numbers = uniforms(group.streams, drawn, (cells * cells + 2,), images).flatten(0, 1)
    grids = (numbers[:, : cells * cells] < options.probability).to(images.dtype).view(-1, 1, cells, cells)
    size = ((cells + 1) * sides[0], (cells + 1) * sides[1])
    enlarged = interpolate(grids, size=size, mode="bilinear", align_corners=False).squeeze(1)
    rows, columns = (
        (numbers[:, place - 2, None] * side).long() + torch.arange(length, device=images.device)
        for place, (side, length) in enumerate(zip(sides, (height, width), strict=True))
    )
    owners = torch.arange(len(numbers), device=images.device)[:, None, None]
    return enlarged[owners, rows[:, :, None], columns[:, None, :]].view(len(drawn), len(group), 1, height, width)


METHODS.add(
    MethodSpec(
        name="rise",
        run=rise,
        options=RiseOptions,
        paper="Petsiuk, Das, Saenko 2018",
        equation="E_m[f(x' + m (x - x')) m] / p, m a random grid of Bernoulli(p) cells, enlarged and shifted",
        evaluations=lambda options: 0,
        forwards=lambda options: int(options.samples),
        complete=False,
        presets={"paper": {"samples": 8000, "score": "probability"}},
    )
)
