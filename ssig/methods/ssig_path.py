"""Path SSIG: gradients along random monotone suppression paths, which keeps the axioms of integrated gradients.

    gamma_p(t) = clip((t (1 + w) - s_p) / w, 0, 1),   s_p ~ U(0, 1) per pixel
    z = (x - x') * E_s [ integral_0^1 grad f_y(x' + gamma(t) * (x - x')) dgamma(t) ]

Each of the R paths suppresses every pixel from its own onset `s_p` on, over a ramp of width `w`; the integral is the
midpoint rule over K segments, with the exact increment of gamma on each. `gamma(0) = 0` and `gamma(1) = 1`, so the
sum tends to `f(x) - f(x')` as K grows; `w -> infinity` gives integrated gradients. The standard error is over paths.

Nearest prior art: `spi`, of Jeon, Jeong, Choi, *Beyond Single Path Integrated Gradients for Reliable Input Attribution
via Randomized Path Sampling* (2023), the mean of path integrals along random monotone paths of a Dirichlet process.
Both methods are integrated gradients in one limit. In the other, here as w -> 0, each pixel jumps once, at a uniform
time. In between, the paths of this method are ramps, and the sum is complete in the limit; those of `spi` are
staircases, and a residual is left.
"""

from __future__ import annotations

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
from ssig.types import Group, Request, Steps


@dataclass(frozen=True)
class PathOptions(CommonOptions):
    readout: str = option("sum", "channels to map", choices=READOUTS)
    samples: int = option(32, "gradient evaluations per image: paths times segments", at_least=1)
    paths: int = option(4, "independent paths R; samples must be a multiple", at_least=1)
    width: float = option(0.5, "ramp width w", above=0)

    def __post_init__(self) -> None:
        if self.samples % self.paths:
            raise UsageError("paths", self.paths, f"a divisor of samples ({self.samples})")


def suppression_path(onset: Tensor, width: float, time: float) -> Tensor:
    """`gamma(t)` for onsets of any shape."""
    return ((time * (1 + width) - onset) / width).clamp(0, 1)


def ssig_path(group: Group, options: PathOptions) -> Steps:
    scores = yield from endpoints(group)
    segments = options.samples // options.paths
    total = WeightedSum()
    error = error_of_parts(options.readout)
    for path in range(options.paths):
        onset = onsets(group, path)
        values = WeightedSum()
        for first in range(0, segments, group.budget):
            steps = range(first, min(first + group.budget, segments))
            points = [
                group.baselines + suppression_path(onset, options.width, (k + 0.5) / segments) * group.difference
                for k in steps
            ]
            response = yield Request(torch.cat(points), group.owners(len(steps)))
            for k, gradient in zip(steps, gradients_of(response).chunk(len(steps)), strict=True):
                ends = (suppression_path(onset, options.width, edge / segments) for edge in (k, k + 1))
                start, stop = ends
                values.add(1.0, gradient * (stop - start) * group.difference)
        total.add(1 / options.paths, values.result())
        error.add(path, values.result(), readout(options.readout, values.result()))
    return attribution(
        total.result(),
        options.readout,
        scores,
        has_residual=True,
        error=error,
        evaluations=options.samples,
    )


def onsets(group: Group, path: int) -> Tensor:
    """`s_p` of one path for each image, (B, 1, H, W)."""
    size = (1, *group.images.shape[-2:])
    return uniforms(group.streams, [path], size, group.images)[0].to(group.images.dtype)


METHODS.add(
    MethodSpec(
        name="ssig-path",
        run=ssig_path,
        options=PathOptions,
        paper="this project; random paths: Jeon, Jeong, Choi 2023 (spi, the nearest prior art); suppression: Luo, "
        "McDermott, O'Riordan 2025; axioms: Sundararajan, Taly, Yan 2017",
        equation="(x - x') * E_s[integral of grad f(x' + gamma (x - x')) dgamma], gamma a random monotone path; "
        "its ramps are staircases in spi",
        evaluations=lambda options: int(options.samples),
        complete=True,
        revision=1,  # errors come from eight groups of samples
    )
)
