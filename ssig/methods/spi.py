"""Stochastic path integration: the mean of path integrals along random monotone paths, one in each feature.

    gamma_i(t) = x'_i + F_i(t) (x_i - x'_i),   z = E_F [ integral_0^1 grad f_y(gamma(t)) * dgamma(t) ]
    F_i(t) = sum_k pi_k [t_k <= t],   pi_k = beta_k prod_{j<k} (1 - beta_j),   beta_k ~ Beta(1, alpha),  t_k ~ U(0, 1)

Every F_i is the distribution function of a draw of a Dirichlet process around the uniform law: a staircase, whose
stairs are pieces that are broken off a stick. With `concentration` alpha -> 0 each feature jumps once, at a uniform
time; with alpha -> infinity all paths are the straight line of integrated gradients.

Source: Jeon, Jeong, Choi, *Beyond Single Path Integrated Gradients for Reliable Input Attribution via Randomized Path
Sampling* (2023). It is the nearest prior art of `ssig-path`, whose ramps of width w have the same limits, at w = 0 and
w = infinity. The paper finds alpha = 10 best and does not say how many paths and steps it takes. What this project
chooses:

- After `atoms` pieces, what is left of the stick is spread evenly over time, which is its mean. The mean of F stays t,
  its variance t (1 - t) / (alpha + 1) loses the share (alpha / (alpha + 2))^atoms, 2.6 % by default, and both limits
  are exact.
- A path is evaluated at the times k / K and straight in between: `rule: midpoint` takes the gradient in the middle of
  each piece, and is exact for quadratic functions; `left` takes it at the beginning.
- By default the channels of a pixel share a path, as in `ssig-path`, so that the two differ in the law alone.
  `preset: paper` gives each channel its own and explains the probability.

The standard error is over paths. A path that jumps is no limit of ever smaller steps: each pixel's jump is one step,
so that a residual is left, of third order in the jump for the midpoint rule.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass

import torch
from torch import Tensor

from ssig.errors import UsageError
from ssig.estimators.common_options import CommonOptions
from ssig.estimators.draws import uniforms
from ssig.estimators.integrands import READOUTS, readout
from ssig.estimators.integration import attribution, endpoints, error_of_parts, gradients_of
from ssig.estimators.moments import WeightedSum
from ssig.options import option
from ssig.registry import METHODS, MethodSpec
from ssig.types import Group, Request, Response, Steps

MIDPOINT, LEFT = "midpoint", "left"


@dataclass(frozen=True)
class StochasticOptions(CommonOptions):
    readout: str = option("sum", "channels to map", choices=READOUTS)
    samples: int = option(32, "gradient evaluations per image: paths times steps", at_least=1)
    paths: int = option(4, "independent paths; samples must be a multiple", at_least=1)
    concentration: float = option(
        10.0, "alpha of the Dirichlet process: towards 0 one jump, towards infinity a straight line", above=0
    )
    atoms: int = option(20, "jumps that are drawn for a path; what they leave is straight", at_least=1)
    rule: str = option(MIDPOINT, "where on a step the gradient is taken", choices=(MIDPOINT, LEFT))
    per_channel: bool = option(False, "each channel of a pixel has its own path, as in the paper")

    def __post_init__(self) -> None:
        if self.samples % self.paths:
            raise UsageError("paths", self.paths, f"a divisor of samples ({self.samples})")

    @property
    def segments(self) -> int:
        """K of each path."""
        return self.samples // self.paths


def spi(group: Group, options: StochasticOptions) -> Steps:
    scores = yield from endpoints(group)
    total = WeightedSum()
    error = error_of_parts(options.readout)
    for path in range(options.paths):
        values = yield from path_integral(group, path, options)
        total.add(1 / options.paths, values)
        error.add(path, values, readout(options.readout, values))
    return attribution(
        total.result(),
        options.readout,
        scores,
        has_residual=True,
        error=error,
        evaluations=options.samples,
    )


def path_integral(group: Group, path: int, options: StochasticOptions) -> Generator[Request, Response, Tensor]:
    """The integral along random path number `path` of each image, (B, C, H, W)."""
    edges = progress(group, path, options)
    values = WeightedSum()
    for first in range(0, options.segments, group.budget):
        steps = range(first, min(first + group.budget, options.segments))
        places = [edges[k] if options.rule == LEFT else (edges[k] + edges[k + 1]) / 2 for k in steps]
        points = torch.cat([group.baselines + place * group.difference for place in places])
        response = yield Request(points, group.owners(len(steps)))
        for k, gradient in zip(steps, gradients_of(response).chunk(len(steps)), strict=True):
            values.add(1.0, gradient * (edges[k + 1] - edges[k]) * group.difference)
    return values.result()


def progress(group: Group, path: int, options: StochasticOptions) -> Tensor:
    """`F(k / K)` of one path for k = 0 .. K, (K + 1, B, C or 1, H, W), from 0 to 1.

    Draws are made jump by jump: all of a path at once would be as large as hundreds of images.
    """
    channels, height, width = group.images.shape[1:]
    shape = (channels if options.per_channel else 1, height, width)
    steps = options.segments
    # Step number k holds what the path rises from k / K to (k + 1) / K.
    rises = group.images.new_zeros((steps, len(group), *shape))
    unbroken = left = group.images.new_ones((len(group), *shape))
    for atom in range(options.atoms):
        draws = uniforms(group.streams, [path * options.atoms + atom], (2, *shape), group.images)[0]
        broken, time = draws.to(rises.dtype).unbind(dim=1)
        # 1 - beta is the power 1 / alpha of a uniform number.
        unbroken = unbroken * (1 - broken)
        before, left = left, unbroken ** (1 / options.concentration)
        step = (time * steps).long().clamp_max(steps - 1).unsqueeze(0)
        rises.scatter_add_(0, step, (before - left).unsqueeze(0))
    rises += left / steps
    edges = torch.cat([torch.zeros_like(rises[:1]), rises.cumsum(dim=0)])
    edges[-1] = 1
    return edges


METHODS.add(
    MethodSpec(
        name="spi",
        run=spi,
        options=StochasticOptions,
        paper="Jeon, Jeong, Choi 2023",
        equation="(x - x') * E_F[integral of grad f(x' + F (x - x')) dF], F a draw of a Dirichlet process per feature",
        evaluations=lambda options: int(options.samples),
        complete=False,
        presets={"paper": {"concentration": 10.0, "per_channel": True, "score": "probability"}},
    )
)
