"""SAMP: a path that moves the pixels first that change the score most, from the image and to the image.

    A = mean of  sum_k g_k * (X_{k+1} - X_k)  from a blurred image to x,  and of  - the same  from x to x'
    pi_p = sum_c g_kpc (end - X_k)_pc,   g_k = grad f_y(X_k)

Step k of K moves the 1/K of all pixels whose `pi` is greatest (insertion, from the blur to the image), or least
(deletion, from the image to the baseline), all the way to their end. Pixels that have arrived are left where they are,
and pixels of equal `pi` move together. With ever smaller steps, each direction's sum would tend to `f(x) - f(its other
end)`, and the map's to `f(x)` less the mean score of the other ends, which is the `baseline_score`. A pixel moves in
one step even in the limit: the sum is exact only for networks that are linear in each pixel. Pixels of great gradients
are chosen, and gradients fall on the way, so that sums of few steps are far too large: 100 times the difference of the
scores (EfficientNet-Lite0, six photographs). Read such a map for the order of its pixels.

Source: Zhang, Zheng, Zhou, Lu, *Path Choice Matters for Clear Attribution in Path Methods* (2024), and the authors'
code. Of all paths, theirs makes the attributions differ most from pixel to pixel. `samp++` (`ssig.methods.samp_plus`)
adds their bound on the length of a step and their momentum. Where this differs:

- The authors add the two directions and scale the map to [0, 1]. The mean has the same order and keeps the sum.
- They choose pixels with `pi` within 1e-6 of the last one too. Here equal values only, which needs no scale.
- Their number of pixels a step, 16 rows of 224, is 1/14 of an image. It is given as K, for images of any size.
- Their image is blurred in the network's input space, with zeros beyond the border: x - x' is blurred here, so that
  borders fade to the baseline's colour, by default the network's mean. The kernel sums to 1; theirs to .996.

`preset: paper` is K = 14 on the logit, 28 gradients. The order decides the path, so that in float32 maps depend on
rounding where pixels have nearly equal `pi`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Generator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from ssig.estimators.common_options import CommonOptions
from ssig.estimators.integrands import READOUTS
from ssig.estimators.integration import attribution, endpoints, gradients_of
from ssig.images.blur import convolve
from ssig.methods.agi import GRADIENT
from ssig.options import option
from ssig.registry import METHODS, MethodSpec
from ssig.types import Group, Request, Response, Steps

INSERTION, DELETION = "insertion", "deletion"
DIRECTIONS = ("both", INSERTION, DELETION)
# A step that is longer than its bound by no more than this share is rounded, not too long.
ROUNDING = 1e-5


@dataclass(frozen=True)
class ManipulationOptions(CommonOptions):
    """Options of the paths that move the pixels in the order of their effect."""

    readout: str = option("sum", "channels to map", choices=READOUTS)
    direction: str = option(
        "both", "from a blur to the image, from the image to the baseline, or both", choices=DIRECTIONS
    )
    blur_sigma: float = option(5.0, "blur of the image where insertion starts: its width in pixels", above=0)
    blur_radius: int = option(15, "blur: pixels from the kernel's middle to its end", at_least=1)

    @property
    def directions(self) -> int:
        """How many paths an image has."""
        return 2 if self.direction == "both" else 1


@dataclass(frozen=True)
class SampOptions(ManipulationOptions):
    steps: int = option(
        16, "steps K of a path, each of 1/K of the pixels and one gradient; 14 in the authors' code", at_least=1
    )


@dataclass(frozen=True)
class Plan:
    """How paths are walked.

    Attributes:
        counts: how many pixels each step moves, at least 1; their number is the most steps of a path.
        least: steps that every path takes; only after them it is looked for paths that have ended, since the host
            waits for the device there.
        fragments: a step's length is at most the path's L1 length over `fragments`.
        momentum: share of the newest gradient in the one that is used.
    """

    counts: Sequence[int]
    least: int
    fragments: int = 1
    momentum: float = 1.0


@dataclass(frozen=True)
class Route:
    """One path of each image of a group.

    Attributes:
        start, stop: (B, C, H, W).
        sign: 1 if the path leads to the image, -1 if it leads away.
    """

    start: Tensor
    stop: Tensor
    sign: float


def samp(group: Group, options: SampOptions) -> Steps:
    counts = shares(group.images[0, 0].numel(), options.steps)
    return manipulations(group, options, Plan(counts, least=len(counts)))


def shares(pixels: int, steps: int) -> list[int]:
    """How many of the pixels each step moves, so that all have moved after the last; at least 1 a step."""
    return [max((k + 1) * pixels // steps - k * pixels // steps, 1) for k in range(steps)]


def manipulations(group: Group, options: ManipulationOptions, plan: Plan) -> Steps:
    """The coroutine of `samp` and `samp++`: the mean over the directions."""
    scores = yield from endpoints(group)
    routes, ends = [], []
    if options.direction != INSERTION:
        routes.append(Route(group.images, group.baselines, -1.0))
        ends.append(scores[1])
    if options.direction != DELETION:
        soft = group.baselines + blurred(group.difference, options.blur_sigma, options.blur_radius)
        blurs = dataclasses.replace(group, baselines=soft, scores=scores[0], baseline_scores=None)
        routes.append(Route(soft, group.images, 1.0))
        ends.append((yield from endpoints(blurs))[1])
    total = torch.zeros_like(group.images)
    evaluations = torch.zeros(len(group), dtype=torch.int64)
    for first in range(0, len(routes), group.budget):
        chosen = routes[first : first + group.budget]
        values, spent = yield from walk(group, chosen, plan)
        for part in values.chunk(len(chosen)):
            total.add_(part, alpha=1 / len(routes))
        evaluations += spent.view(len(chosen), -1).sum(dim=0)
    return attribution(
        total,
        options.readout,
        (scores[0], torch.stack(ends).mean(dim=0)),
        has_residual=True,
        error=None,
        evaluations=evaluations,
    )


def blurred(images: Tensor, sigma: float, radius: int) -> Tensor:
    """(B, C, H, W) under a Gaussian that ends `radius` pixels from its middle, with zeros beyond the border."""
    weights = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    return convolve(pad(images, [radius] * 4), weights / weights.sum())


def walk(group: Group, routes: Sequence[Route], plan: Plan) -> Generator[Request, Response, tuple[Tensor, Tensor]]:
    """The sums of some paths of each image, (n, C, H, W), image index fastest, and the gradients spent, (n,) int64."""
    owners = group.owners(len(routes))
    stops = torch.cat([route.stop for route in routes])
    change = stops - torch.cat([route.start for route in routes])
    signs = torch.cat([change.new_full((len(group), 1), route.sign) for route in routes])
    lengths = change.abs().sum(dim=1).flatten(1)
    bound = lengths.sum(dim=1, keepdim=True) / plan.fragments
    # The share of its way that each pixel still has to go, exactly 0 where it has arrived.
    rest = (lengths > 0).to(change)
    gradient: Tensor | None = None
    sums, spent = torch.zeros_like(change), torch.zeros(len(owners), dtype=torch.int64)
    going = torch.arange(len(owners))
    for step, count in enumerate(plan.counts):
        if step >= plan.least:
            going = (rest > 0).any(dim=1).cpu().nonzero().flatten()
            if len(going) == 0:
                break
        points = stops - on_pixels(rest, stops) * change
        response = yield Request(points[going], owners[going], want=GRADIENT)
        spent[going] += 1
        newest = torch.zeros_like(points)
        newest[going] = gradients_of(response)
        # A share of 0 of the old gradient would keep what is no number.
        if gradient is None or plan.momentum == 1:
            gradient = newest
        else:
            gradient = plan.momentum * newest + (1 - plan.momentum) * gradient
        after = advance(rest, signs * (gradient * change).sum(dim=1).flatten(1) * rest, lengths, bound, count)
        sums += on_pixels(signs * (rest - after), stops) * change * gradient
        rest = after
    return sums, spent


def advance(rest: Tensor, gains: Tensor, lengths: Tensor, bound: Tensor, count: int) -> Tensor:
    """One step of paths over D pixels.

    Args:
        rest: (n, D) in [0, 1], the share of its way that each pixel still has to go.
        gains: (n, D), what moving a pixel to its end is worth; one that is no number comes last.
        lengths: (n, D), L1 length of the whole way of each pixel.
        bound: (n, 1), largest L1 length of the step.
        count: pixels to move; more where gains are equal, fewer where fewer are left.

    Returns:
        `rest` after the step, exactly 0 where a pixel has arrived.
    """
    infinity = torch.inf
    open_gains = gains.nan_to_num(nan=-infinity, posinf=infinity, neginf=-infinity).masked_fill(rest == 0, -infinity)
    last = open_gains.topk(count, dim=1).values[:, -1:]
    chosen = ((open_gains >= last) & (rest > 0)).to(rest)
    reach = (chosen * rest * lengths).sum(dim=1, keepdim=True)
    share = torch.where(reach > bound * (1 + ROUNDING), bound / reach, 1)
    return rest * (1 - chosen * share)


def on_pixels(values: Tensor, images: Tensor) -> Tensor:
    """(n, H * W) as (n, 1, H, W)."""
    return values.view(len(values), 1, *images.shape[-2:])


METHODS.add(
    MethodSpec(
        name="samp",
        run=samp,
        options=SampOptions,
        paper="Zhang, Zheng, Zhou, Lu 2024",
        equation="mean over two paths of sum_k (X_{k+1} - X_k) grad f(X_k), X moving pixels of great effect first",
        evaluations=lambda options: int(options.steps * options.directions),
        complete=False,
        presets={"paper": {"steps": 14, "score": "logit"}},
    )
)
