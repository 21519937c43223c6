"""VarGrad:  `z = Var_{eps ~ N(0, I)} [ grad f_y(x + sigma (max x - min x) eps) ]`, summed over channels.

    z = sum_k (g_k - mean g)^2 / (K - ddof)

Source: Adebayo, Gilmer, Goodfellow, Kim, *Local Explanation Methods for Deep Neural Networks Lack Sensitivity to
Parameter Values* (2018). `ddof` is 1 (unbiased, as in Xplique: the expectation does not depend on K) or 0 (Captum).
The squares are sums of deviations (Welford), where Captum's `E[g^2] - E[g]^2` cancels digits and may fall below 0.
`preset: paper` gives Xplique's settings, whose sigma of .2 is absolute: here it is of the image's range.

The standard error is the jackknife's over interleaved groups of samples (`ssig.estimators.moments`), whose sums of
deviations merge (Chan, Golub, LeVeque 1979). Deviations that rounding of equal gradients explains are 0: a linear
network, or an image of one colour, has no variance, and its rounding errors are no map.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

import torch
from torch import Tensor

from ssig.errors import UsageError
from ssig.estimators.common_options import CommonOptions, samples_option
from ssig.estimators.integrands import READOUTS, readout
from ssig.estimators.integration import attribution, endpoints, gradients_of
from ssig.estimators.moments import GROUPS, Welford, correlation, jackknife_error, stepped_up
from ssig.estimators.samplers import Noise, requests
from ssig.options import option
from ssig.registry import METHODS, MethodSpec
from ssig.types import Group, Request, Steps

# Gradients of equal points differ by less than this many units of the last place of the largest.
ROUNDING = 16
FEWEST_FOR_ERROR = 4


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
    spread = Spread(options)
    for drawn, points in requests(group, Noise(options.sigma), options.samples):
        response = yield Request(points, group.owners(len(drawn)))
        for k, gradient in zip(drawn, gradients_of(response).chunk(len(drawn)), strict=True):
            spread.add(k, gradient, gradient)
    return attribution(
        spread.variance(),
        options.readout,
        scores,
        has_residual=False,
        error=spread,
        evaluations=options.samples,
    )


class Spread:
    """The variance of gradients and the error of its map, from interleaved groups as in `ssig.estimators.moments`."""

    def __init__(self, options: VarGradOptions) -> None:
        self.options = options
        self.groups = [Welford() for _ in range(GROUPS)]

    def add(self, sample: int, values: Tensor, mapped: Tensor) -> None:
        self.groups[sample % GROUPS].add(sample, values, values)

    def keep(self, rows: Tensor) -> None:
        for group in self._filled:
            group.keep(rows)

    def variance(self) -> Tensor:
        """(B, C, H, W), 0 where rounding of equal gradients explains it."""
        return self._variance(self._filled)

    def result(self) -> Tensor | None:
        """Standard error of the map, (B, H, W); None for fewer than 4 samples."""
        groups = self._filled
        if sum(group.count for group in groups) < FEWEST_FOR_ERROR:
            return None
        without = [self._map([rest for rest in groups if rest is not group]) for group in groups]
        return jackknife_error(self._map(groups), without, [group.count for group in groups])

    def bias(self) -> None:
        return None

    def reliability(self) -> Tensor | None:
        """(B,), as in `ssig.estimators.moments`."""
        halves = [[group for group in self.groups[half::2] if group.count] for half in range(2)]
        if sum(group.count for group in self._filled) < FEWEST_FOR_ERROR:
            return None
        return stepped_up(correlation(*(self._map(half) for half in halves))).to(halves[0][0].mean.dtype)

    @property
    def _filled(self) -> list[Welford]:
        return [group for group in self.groups if group.count]

    def _map(self, groups: Sequence[Welford]) -> Tensor:
        return readout(self.options.readout, self._variance(groups))

    def _variance(self, groups: Sequence[Welford]) -> Tensor:
        whole = reduce(merged, groups)
        return without_rounding(whole.squares, whole.mean, whole.count) / (whole.count - self.options.ddof)


def merged(first: Welford, second: Welford) -> Welford:
    """The sums of all samples from those of two parts (Chan, Golub, LeVeque 1979)."""
    whole, apart = Welford(), second.mean - first.mean
    whole.count = first.count + second.count
    whole.mean = first.mean + apart * (second.count / whole.count)
    whole.squares = first.squares + second.squares + apart.square() * (first.count * second.count / whole.count)
    return whole


def without_rounding(squares: Tensor, mean: Tensor, count: int) -> Tensor:
    """Squared deviations, those set to 0 that rounding of equal gradients explains.

    Args:
        squares: (B, C, H, W), sums of `count` squared deviations.
        mean: (B, C, H, W), the gradients' mean.
    """
    unit = ROUNDING * torch.finfo(mean.dtype).eps * mean.abs().amax(dim=(1, 2, 3), keepdim=True)
    return torch.where(squares <= count * unit.square(), 0, squares)


METHODS.add(
    MethodSpec(
        name="vargrad",
        run=vargrad,
        options=VarGradOptions,
        paper="Adebayo, Gilmer, Goodfellow, Kim 2018",
        equation="Var[grad f(x + sigma (max x - min x) eps)]",
        evaluations=lambda options: int(options.samples),
        complete=False,
        revision=1,  # no variance from rounding
        baseline=lambda options: False,
        presets={"paper": {"samples": 50, "sigma": 0.2}},
    )
)
