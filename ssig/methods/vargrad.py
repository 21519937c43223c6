"""VarGrad:  `z = Var_{eps ~ N(0, I)} [ grad f_y(x + sigma (max x - min x) eps) ]`, summed over channels.

    z = sum_k (g_k - mean g)^2 / (K - ddof)

Source: Adebayo, Gilmer, Goodfellow, Kim, *Local Explanation Methods for Deep Neural Networks Lack Sensitivity to
Parameter Values* (2018). `ddof` is 1 (unbiased, as in Xplique: the expectation does not depend on K) or 0 (Captum).
The squares are sums of deviations (Welford), where Captum's `E[g^2] - E[g]^2` cancels digits and may fall below 0.
`preset: paper` gives Xplique's settings, whose sigma of .2 is absolute: here it is of the image's range.

The standard error comes from the variances of the even and of the odd samples, whose sums of deviations merge into
the whole's (Chan, Golub, LeVeque 1979); it needs 2 samples in either half.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ssig.errors import UsageError
from ssig.integrands import READOUTS, readout
from ssig.integration import attribution, endpoints, gradients_of
from ssig.moments import Welford
from ssig.options import option
from ssig.registry import METHODS, MethodSpec
from ssig.samplers import Noise
from ssig.suppression import CommonOptions, samples_option
from ssig.types import Group, Request, Steps


@dataclass(frozen=True)
class VarGradOptions(CommonOptions):
    readout: str = option("sum-abs", "channels to map", choices=READOUTS)
    samples: int = samples_option()
    sigma: float = option(0.15, "noise, as a fraction of the image's range", above=0)
    ddof: int = option(1, "the variance divides by samples - ddof: 1 unbiased, 0 biased", at_least=0, at_most=1)

    def __post_init__(self) -> None:
        if self.samples <= self.ddof:
            raise UsageError("samples", self.samples, "at least 2 for the unbiased variance (ddof 1)")


def vargrad(group: Group, options: VarGradOptions) -> Steps:
    scores = yield from endpoints(group)
    noise = Noise(options.sigma)
    even, odd = Welford(), Welford()
    for first in range(0, options.samples, group.budget):
        drawn = range(first, min(first + group.budget, options.samples))
        points = torch.cat([noise.point(group, k, options.samples) for k in drawn])
        response = yield Request(points, group.owners(len(drawn)))
        for k, gradient in zip(drawn, gradients_of(response).chunk(len(drawn)), strict=True):
            (odd if k % 2 else even).add(k, gradient, gradient)
    return attribution(
        merged_squares(even, odd) / (options.samples - options.ddof),
        options.readout,
        scores,
        has_residual=False,
        standard_error=halves_error(even, odd, options),
        evaluations=options.samples,
    )


def merged_squares(even: Welford, odd: Welford) -> Tensor:
    """`sum_k (g_k - mean g)^2` of all samples, (B, C, H, W), from that of two parts."""
    apart = odd.mean - even.mean
    return even.squares + odd.squares + apart.square() * (even.count * odd.count / (even.count + odd.count))


def halves_error(even: Welford, odd: Welford, options: VarGradOptions) -> Tensor | None:
    """Standard error of the map, (B, H, W), as `ssig.moments` has it for halves; None for fewer than 4 samples."""
    if odd.count < 2:
        return None
    first, second = (readout(options.readout, half.squares / (half.count - 1)) for half in (even, odd))
    biased = (options.samples - 1) / (options.samples - options.ddof)
    return (first - second).abs() / 2 * math.sqrt(math.pi / 2) * biased


METHODS.add(
    MethodSpec(
        name="vargrad",
        run=vargrad,
        options=VarGradOptions,
        paper="Adebayo, Gilmer, Goodfellow, Kim 2018",
        equation="Var[grad f(x + sigma (max x - min x) eps)]",
        evaluations=lambda options: int(options.samples),
        complete=False,
        baseline=lambda options: False,
        presets={"paper": {"samples": 50, "sigma": 0.2}},
    )
)
