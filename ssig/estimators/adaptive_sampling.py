"""Sampling until the map is good enough: each image gets as many samples as its own map needs.

    stop at the first n of 8, 12, 16, …, `most` with   error(n) <= tolerance

    standard-error   error = mean pixel standard error / mean |map|, as it is reported with every map
    spearman         error = 1 - (2 r / (1 + r)), r the rank correlation of the maps of the even and the odd samples:
                     the step from half the samples to all of them is that of Spearman and Brown; equal values share
                     the mean of their ranks, and the map of a half that is constant has r = 0

A finished image leaves its group, and the engine fills its place with points of other groups. Whether it has finished
depends on its own samples alone, so the result is the same in any batch. Strata need a known number of samples, so
stratified samplers use the golden-ratio sequence instead: every stretch of it, and every second element, is evenly
spread. Stopping at a random time favours lucky samples: the reported error is a little too small on average, more so
with a looser tolerance.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from ssig.estimators.integrands import RESIDUAL, integrand, readout
from ssig.estimators.integration import attribution, endpoints, error_of, gradients_of
from ssig.estimators.moments import Jackknife
from ssig.estimators.samplers import Sampler
from ssig.types import Attribution, Group, Request, Steps

AUTO = "auto"
CRITERIA = ("standard-error", "spearman")
FIRST, EVERY = 8, 4


def integrate_until(
    group: Group,
    sampler: Sampler,
    *,
    most: int,
    tolerance: float,
    criterion: str,
    integrand_name: str,
    readout_name: str,
) -> Steps:
    """Estimates `z` for each image of a group with as many draws as its map needs.

    Args:
        group: the images, baselines and streams.
        sampler: the law `q`; it must be random.
        most: samples per image at most.
        tolerance: error at which an image has enough samples.
        criterion: which error, one of `CRITERIA`.
        integrand_name: `h`, one of `ssig.estimators.integrands.INTEGRANDS`.
        readout_name: one of `ssig.estimators.integrands.READOUTS`.
    """
    scores = yield from endpoints(group)
    group = replace(group, scores=scores[0], baseline_scores=scores[1])
    error = error_of(sampler, integrand_name, readout_name)
    halves = Jackknife(partial(readout, readout_name))
    left = torch.arange(len(group))  # the images still being sampled
    finished: dict[int, Attribution] = {}
    drawn, begun = _next_drawn(0, group.budget, most), None
    while len(left):
        points = sampler.points(group, drawn, None, begun)
        count, current, drawn = drawn.stop, drawn, _next_drawn(drawn.stop, group.budget, most)
        begun = sampler.begun(group, drawn) if len(drawn) else None
        response = yield Request(points, torch.cat([left] * len(current)))
        parts = (tensor.chunk(len(current)) for tensor in (points, gradients_of(response)))
        for k, point, gradient in zip(current, *parts, strict=True):
            values = integrand(integrand_name, gradient, point, group.images, group.baselines)
            value_map = readout(readout_name, values)
            halves.add(k, values, value_map)
            error.add(k, values, value_map)
        if count not in (_next_check(current.start), most):
            continue
        so_far = attribution(
            halves.mean(),
            readout_name,
            scores,
            has_residual=integrand_name in RESIDUAL,
            error=error,
            evaluations=count,
        )
        enough = _enough(so_far, halves, criterion, tolerance) | (count == most)
        if not enough.any():
            continue
        for row in enough.nonzero().flatten().tolist():
            finished[int(left[row])] = so_far.rows(slice(row, row + 1))
        keep = (~enough).nonzero().flatten()
        left, group = left[keep.cpu()], group.rows(keep)
        scores = scores[0][keep], scores[1][keep]
        error.keep(keep)
        halves.keep(keep)
    return Attribution.concatenate([finished[image] for image in range(len(finished))])


def _next_drawn(count: int, budget: int, most: int) -> range:
    """The samples of the next request after `count`."""
    return range(count, min(count + budget, _next_check(count), most))


def _next_check(count: int) -> int:
    """The next number of samples at which all images are checked, however few points a request may hold."""
    return FIRST if count < FIRST else FIRST + EVERY * ((count - FIRST) // EVERY + 1)


def _enough(so_far: Attribution, halves: Jackknife, criterion: str, tolerance: float) -> Tensor:
    """(B,) bool: the error meets the tolerance, or the map is not finite, which more samples do not change."""
    is_met = _errors(so_far, halves, criterion) <= tolerance
    return is_met | ~so_far.map.flatten(1).isfinite().all(dim=1).to(is_met.device)


def _errors(so_far: Attribution, halves: Jackknife, criterion: str) -> Tensor:
    """(B,), each image's error."""
    if criterion == "spearman":
        return split_half_error(*halves.maps())
    errors = so_far.standard_error_mean
    if errors is None:
        raise ValueError("a sampler without randomness has no sampling error")
    return errors


def split_half_error(first: Tensor, second: Tensor) -> Tensor:
    """(B,) float64, the error `spearman` of the maps (B, H, W) of two halves of the samples."""
    correlation = rank_correlation(first, second)
    return 1 - 2 * correlation / (1 + correlation.clamp_min(0))


def rank_correlation(first: Tensor, second: Tensor) -> Tensor:
    """(B,) float64, Spearman's correlation of maps (B, H, W); 0 where one of them is constant or not finite."""
    centred: list[Tensor] = []
    for maps in (first, second):
        ranked = ranks(maps.flatten(1))
        centred.append(ranked - ranked.mean(dim=1, keepdim=True))
    scale: Tensor = centred[0].norm(dim=1) * centred[1].norm(dim=1)
    defined = scale > 0  # NaN has no rank
    correlation = (centred[0] * centred[1]).sum(dim=1) / torch.where(defined, scale, 1)
    return torch.where(defined, correlation, 0)


def ranks(values: Tensor) -> Tensor:
    """(B, n) float64, the rank of each value in its row from 1 on, equal values sharing the mean of their ranks.

    A row with a NaN has NaN alone. The ranks are those of SciPy's `rankdata`, on any device.
    """
    # NumPy's sort takes two thirds of the time of torch's on a CPU.
    order = (
        values.argsort(dim=1) if values.device.type != "cpu" else torch.from_numpy(np.argsort(values.numpy(), axis=1))
    )
    ascending = values.gather(1, order)
    differ = ascending[:, 1:] != ascending[:, :-1]
    end = differ.new_ones(len(values), 1)
    place, count = torch.arange(values.shape[1], device=values.device), values.shape[1]
    # Of each value in ascending order, the first and the last place of those that equal it.
    first = torch.where(torch.cat([end, differ], dim=1), place, 0).cummax(dim=1).values
    last = torch.where(torch.cat([differ, end], dim=1), place, count).flip(1).cummin(dim=1).values.flip(1)
    shared = (first + last).double() / 2 + 1
    ranked = torch.empty_like(shared).scatter_(1, order, shared)
    return torch.where(values.isnan().any(dim=1, keepdim=True), torch.nan, ranked)
