"""SAMP: a path on which the pixels that change the score most go first, so that few of them get much of it.

    X_{k+1} = X_k + r_k D_k,   D_k = x_end - X_k at the chosen pixels, 0 elsewhere
    A = mean over both directions of  +- sum_k g_k * (X_{k+1} - X_k)

Source: Zhang, Zheng, Zhou, Lu, *Path Choice Matters for Clear Attribution in Path Methods* (2024), by its abstract, its
published reviews and a public implementation; its text was not at hand. One path leads from baseline to image
(insertion, sign +), one back (deletion, sign -). The pixels chosen are the `ceil(H W / portions)` unfinished ones with
the largest first-order change of the score, `sum_c g_k (x_end - X_k)`, on the way to the image, and with the smallest
on the way back. `r_k` <= 1 keeps the step's L1 length at or below `|x - x'|_1 / bound`: the paper's infinitesimal
constraint. `g_k` is the gradient or, with `momentum` m (the paper's SAMP++), its average `m g_{k-1} + (1 - m) grad`.

A direction takes at most `portions + bound - 1` gradients: a step either finishes its pixels or has the full length, and
the last part of the length is no longer than that. The mean tends to `f(x) - f(x')` as `portions` and `bound` grow, if `momentum` is 0; the references add the directions up,
twice as much. Both directions end in the same baseline here, where the public code inserts into a blurred image.
`preset: paper` takes 224 * 16 of 224 * 224 pixels at once; the public code, with 5 pixels at once, some 2000 gradients.
"""

from __future__ import annotations

import math
from collections.abc import Generator
from dataclasses import dataclass

import torch
from torch import Tensor

from ssig.integrands import READOUTS
from ssig.integration import attribution, endpoints, gradients_of
from ssig.options import option
from ssig.registry import METHODS, MethodSpec
from ssig.suppression import CommonOptions
from ssig.types import Group, Request, Response, Steps

# A length by so much above its bound, relative to it, is within it: sums over an image are no more exact.
ROUNDING = 1e-5


@dataclass(frozen=True)
class SalientOptions(CommonOptions):
    readout: str = option("sum", "channels to map", choices=READOUTS)
    portions: int = option(12, "a step finishes one of so many parts of the pixels", at_least=1)
    bound: int = option(5, "a step is at most one of so many parts of |x - x'|_1 long", at_least=1)
    momentum: float = option(0.0, "weight of former gradients in their moving average", at_least=0, at_most=1)

    @property
    def steps(self) -> int:
        """Of one direction, at most."""
        return self.portions + self.bound - 1


def samp(group: Group, options: SalientOptions) -> Steps:
    scores = yield from endpoints(group)
    inserted, to_image = yield from salient_path(group, options, group.baselines, group.images)
    deleted, to_baseline = yield from salient_path(group, options, group.images, group.baselines, falling=True)
    return attribution(
        (inserted - deleted) / 2,
        options.readout,
        scores,
        has_residual=True,
        standard_error=None,
        evaluations=to_image + to_baseline,
    )


def salient_path(
    group: Group, options: SalientOptions, start: Tensor, end: Tensor, *, falling: bool = False
) -> Generator[Request, Response, tuple[Tensor, Tensor]]:
    """`sum_k g_k (X_{k+1} - X_k)` from `start` to `end`, (B, C, H, W), and the gradients spent, (B,) int64.

    Args:
        group: the images.
        options: of the method.
        start, end: (B, C, H, W).
        falling: whether the pixels that lower the score most go first.
    """
    points, values = start.clone(), torch.zeros_like(start)
    average = torch.zeros_like(start)
    longest = (end - start).abs().sum(dim=(1, 2, 3), keepdim=True) / options.bound
    count = math.ceil(start[0, 0].numel() / options.portions)
    spent = torch.zeros(len(group), dtype=torch.int64)
    for step in range(options.steps):
        going = (points != end).flatten(1).any(dim=1).nonzero().squeeze(1)
        if len(going) == 0:
            break
        owners = going.cpu()
        response = yield Request(points[going], owners)
        spent[owners] += 1
        former = options.momentum if step else 0.0
        average[going] = former * average[going] + (1 - former) * gradients_of(response)
        way = end[going] - points[going]
        chosen = first_pixels(average[going] * way, way, count, falling=falling)
        length = (way * chosen).abs().sum(dim=(1, 2, 3), keepdim=True)
        whole = length <= (1 + ROUNDING) * longest[going]
        share = torch.where(whole, 1, longest[going] / length)
        moved = torch.where(chosen & whole, end[going], points[going] + share * way * chosen)
        values[going] += average[going] * (moved - points[going])
        points[going] = moved
    return values, spent


def first_pixels(change: Tensor, way: Tensor, count: int, *, falling: bool) -> Tensor:
    """The pixels that move next, (n, 1, H, W) bool: of those with a way to go, `count` with the largest change.

    Args:
        change: (n, C, H, W), first-order change of the score if a value goes its whole way.
        way: (n, C, H, W), what is left of it.
        count: how many.
        falling: the smallest change instead.
    """
    effect = change.sum(dim=1).flatten(1)
    finished = (way == 0).all(dim=1).flatten(1)
    effect = (-effect if falling else effect).masked_fill(finished, -math.inf)
    # A stable order, so that ties do not depend on the device or the batch.
    first = effect.argsort(dim=1, descending=True, stable=True)[:, :count]
    chosen = torch.zeros_like(finished).scatter_(1, first, True)
    return chosen.view(len(way), 1, *way.shape[-2:])


METHODS.add(
    MethodSpec(
        name="samp",
        run=samp,
        options=SalientOptions,
        paper="Zhang, Zheng, Zhou, Lu 2024",
        equation="sum_k grad f(X_k) (X_{k+1} - X_k), the pixels that change f most moving first, both directions",
        evaluations=lambda options: 2 * int(options.steps),
        complete=True,
        presets={"paper": {"portions": 14, "baseline": "black", "score": "probability"}},
    )
)
