"""Path-weighted integrated gradients: the straight path of integrated gradients, with weights along it.

    z = (x - x') * integral_0^1 F(a) grad f_y(x' + a (x - x')) da,   F the distribution function of Beta(p, q)

It is the mean of integrated gradients over baselines `x' + s (x - x')` on the path, s ~ Beta(p, q). The default is the
uniform law, F(a) = a: gradients count more towards the image. As p -> 0 all baselines are x', and the limit is
integrated gradients; as q -> 0 they are the image, and nothing is left. Beta(p, 1) has F = a^p.

Sources: Kamalov, Al Falasi, Thabtah, *Path-Weighted Integrated Gradients for Interpretable Dementia Classification*
(2025), which leaves the weights to the user; *Path-Sampled Integrated Gradients* (2026) has the mean over baselines.
The Beta laws are this project's choice. The sum is `f(x)` less the mean score of those baselines, which is not
computed: no residual is reported. The points are those of `ig` under the same rule, and evaluated once for both.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from scipy.special import betainc

from ssig.estimators.common_options import CommonOptions, check_rule
from ssig.estimators.integrands import READOUTS
from ssig.estimators.integration import integrate
from ssig.estimators.quadrature import RULES
from ssig.estimators.samplers import Line
from ssig.options import option
from ssig.registry import METHODS, MethodSpec
from ssig.types import Group, Steps


@dataclass(frozen=True)
class PathWeightedOptions(CommonOptions):
    readout: str = option("sum", "channels to map", choices=READOUTS)
    steps: int = option(32, "points on the path, one gradient evaluation each", at_least=1)
    rule: str = option("gauss-legendre", "quadrature", choices=RULES)
    p: float = option(1.0, "first parameter of the Beta law: towards 0 the weights are equal", above=0)
    q: float = option(1.0, "second parameter of the Beta law: the larger, the sooner the weights are 1", above=0)

    def __post_init__(self) -> None:
        check_rule(self.rule, self.steps)


@dataclass(frozen=True)
class WeightedLine(Line):
    """The straight path, whose weights are those of the rule times `F`; they need not sum to 1."""

    p: float = 1.0
    q: float = 1.0

    def weight(self, k: int, samples: int) -> float:
        return super().weight(k, samples) * float(betainc(self.p, self.q, self.alpha(k, samples)))


def path_weighted(group: Group, options: PathWeightedOptions) -> Steps:
    result = yield from integrate(
        group,
        WeightedLine(options.rule, p=options.p, q=options.q),
        samples=options.steps,
        integrand_name="gradient",
        readout_name=options.readout,
    )
    return dataclasses.replace(result, completeness_residual=None)


METHODS.add(
    MethodSpec(
        name="pwig",
        run=path_weighted,
        options=PathWeightedOptions,
        paper="Kamalov, Al Falasi, Thabtah 2025",
        equation="(x - x') * integral of F(a) grad f(x' + a (x - x')) da, F the distribution function of Beta(p, q)",
        evaluations=lambda options: int(options.steps),
        complete=False,
        path=lambda options: ("line", options.rule, options.steps),
    )
)
