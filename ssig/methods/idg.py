"""Integrated decision gradients: gradients count by how fast the score rises where they are taken.

    A = (x - x') * integral_0^1 grad f_y(X(a)) f'(a) da,   X(a) = x' + a (x - x'),   f(a) = f_y(X(a))

Source: Walker, Jha, Chen, Ewetz, *Integrated Decision Gradients: Compute Your Attributions Where the Model Makes Its
Decision* (2024). A first pass of forward evaluations finds where the score rises, and gradients are put there:

    slopes   s_i = (f(i/N) - f((i-1)/N)) N,  i = 1 .. N;   weights  s_i - min(s, 0), scaled to sum to 1
    samples  n_i = floor(M weight_i); what is left goes one each to the intervals without any, largest weight first,
             and then to the others; the n_i samples of interval i are at a = (i - 1 + j / n_i) / N, j < n_i
    sum      A = (x - x') * sum_k grad f_y(X(a_k)) (f(a_k) - f(a_{k-1})) / (a_k - a_{k-1}) w_k,   w_k = 1 / (N n_i)

The first sample has no slope and adds nothing. Slopes that are all equal to their minimum, but for what float32 rounds
off, or not finite spread the samples evenly, where the authors' code has 0/0 or follows the rounding.

`compat` is their code, which differs in what looks like errors: an interval without samples does not move the start
of the next one, so that later samples land too early; a place for `s_0 = 0` takes part in the handing out; where more
samples are left than intervals are empty, filled ones fall back to one sample, and the samples then missing are taken
at a = 0 without weight; and the sum is divided by M, which only scales the map. `preset: paper` takes 50 forwards and
50 gradients.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ssig.estimators.common_options import CommonOptions
from ssig.estimators.integrands import READOUTS
from ssig.estimators.integration import attribution, endpoints, gradients_of, scores_of
from ssig.methods.idgi import straight_path
from ssig.options import option
from ssig.registry import METHODS, MethodSpec
from ssig.types import SCORE, Group, Request, Response, Steps

Floats = NDArray[np.float64]
# Smaller differences of scores, relative to the greatest score, are rounding.
ROUNDING = 4 * float(np.finfo(np.float32).eps)


@dataclass(frozen=True)
class DecisionOptions(CommonOptions):
    readout: str = option("sum", "channels to map", choices=READOUTS)
    forwards: int = option(33, "points of the first pass, both ends included: N + 1", at_least=2)
    steps: int = option(32, "samples M, one gradient evaluation each", at_least=2)
    compat: bool = option(False, "place samples as the authors' code does")


def idg(group: Group, options: DecisionOptions) -> Steps:
    scores = yield from endpoints(group)
    rising = yield from first_pass(group, scores[0], options.forwards - 1)
    placed = [placement(row, options.steps, compat=options.compat) for row in rising]
    alphas, widths = (np.stack(column) for column in zip(*placed, strict=True))
    # The first sample has no slope, nor has a sample at the same place as the one before it.
    gaps = np.diff(alphas, prepend=alphas[:, :1])
    weights = group.images.new_tensor(np.divide(widths, gaps, out=np.zeros_like(widths), where=gaps != 0))
    positions = group.images.new_tensor(alphas)
    total = torch.zeros_like(group.images)
    before = torch.zeros_like(scores[0])
    for first in range(0, options.steps, group.budget):
        drawn = range(first, min(first + group.budget, options.steps))
        points = [group.baselines + positions[:, k].view(-1, 1, 1, 1) * group.difference for k in drawn]
        response = yield Request(torch.cat(points), group.owners(len(drawn)))
        gradients, point_scores = (part.chunk(len(drawn)) for part in (gradients_of(response), scores_of(response)))
        for k, gradient, score in zip(drawn, gradients, point_scores, strict=True):
            total.addcmul_(gradient, ((score - before) * weights[:, k]).view(-1, 1, 1, 1))
            before = score
    return attribution(
        total * group.difference / (options.steps if options.compat else 1),
        options.readout,
        scores,
        has_residual=False,
        error=None,
        evaluations=options.steps,
    )


def first_pass(group: Group, ends: Tensor, intervals: int) -> Generator[Request, Response, Floats]:
    """Scores at `k / N`, k = 0 .. N, (B, N + 1) float64; `ends` (B,) are those of the images."""
    parts: list[Tensor] = []
    for request in straight_path(group, intervals, want=SCORE):
        response = yield request
        parts += scores_of(response).chunk(len(request.points) // len(group))
    return torch.stack([*parts, ends], dim=1).double().cpu().numpy()


def placement(rising: Floats, steps: int, *, compat: bool = False) -> tuple[Floats, Floats]:
    """Where one image's samples are, ascending, and the width that each stands for; (steps,) each.

    Args:
        rising: (N + 1,), scores at equal distances from baseline to image.
        steps: how many samples.
        compat: as the authors' code does.
    """
    intervals = len(rising) - 1
    slopes = np.diff(rising)
    weights = slopes - min(float(slopes.min()), 0.0)
    if compat:
        weights = np.append(0.0, weights)
    elif weights.max() <= ROUNDING * np.abs(rising).max():
        weights = np.zeros_like(weights)
    if not (np.isfinite(weights).all() and weights.sum() > 0):
        weights = np.ones_like(weights)
    expected = steps * weights / weights.sum()
    counts = np.floor(expected).astype(np.int64)
    # Empty intervals first, the fullest of them before the others.
    turns = np.argsort(np.where(counts > 0, -1.0, expected), kind="stable")[::-1][: steps - counts.sum()]
    counts[turns] = 1 if compat else counts[turns] + 1
    order = np.cumsum(counts > 0) - 1 if compat else np.arange(len(counts))
    inside = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    parts = np.repeat(counts, counts)
    alphas, widths = np.zeros(steps), np.zeros(steps)
    alphas[: len(parts)] = (np.repeat(order, counts) + inside / parts) / intervals
    widths[: len(parts)] = 1 / (intervals * parts)
    return alphas, widths


METHODS.add(
    MethodSpec(
        name="idg",
        run=idg,
        options=DecisionOptions,
        paper="Walker, Jha, Chen, Ewetz 2024",
        equation="(x - x') * integral of grad f(x' + a (x - x')) df/da da, sampled where f rises",
        evaluations=lambda options: int(options.steps),
        forwards=lambda options: int(options.forwards) - 1,  # the score of the image is there
        complete=False,
        path=lambda options: ("line", "left", options.forwards - 1),
        presets={"paper": {"forwards": 50, "steps": 50, "baseline": "mean", "score": "logit"}},
    )
)
